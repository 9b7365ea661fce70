"""SEMANTICS P24: a deleted key leaves a tombstone in the changelog and does not come back with a restore."""

from __future__ import annotations

import streamkit as sk


def test_a_delete_survives_a_restore() -> None:
    app = sk.App("delete")
    topic = app.topic("in", key=str, value=int)
    totals = app.table("totals", default=int, key=str)

    @app.agent(topic)
    def total(n: int, record: sk.Record[str]) -> None:
        if n == 0:
            del totals[record.key]
        else:
            totals[record.key] += n

    with app.test() as t:
        t.send(topic, 3, key="a")
        t.send(topic, 4, key="b")
        t.send(topic, 0, key="a")
        assert dict(totals) == {"b": 4}
        assert t.records("delete-totals-changelog")[-1].value is None
        t.restart()
        assert dict(totals) == {"b": 4}
        assert "a" not in totals
        t.send(topic, 5, key="a")
        assert totals["a"] == 5
