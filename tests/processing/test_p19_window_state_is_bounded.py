"""SEMANTICS P19: the window store holds size + grace of event time; what closed leaves tombstones behind."""

from __future__ import annotations

import pytest

import streamkit as sk

pytestmark = pytest.mark.usefixtures("each_store")


def test_an_hour_of_windows() -> None:
    app = sk.App("bounded")
    topic = app.topic("in", key=str, value=int)
    counts = app.stream(topic).window(sk.tumbling("10s", grace="20s")).aggregate(n=sk.Count())
    counts.to("out")
    with app.test() as t:
        most = 0
        for second in range(0, 3600, 5):
            t.send(topic, 1, key="k", ts=second)
            most = max(most, t.tasks[0].windows_open, len(t.tasks[0].stores[counts.name]))
        assert most <= 4
        latest = {r.key: r.value for r in t.records(f"bounded-{counts.name}-changelog")}
        assert sum(1 for value in latest.values() if value is not None) <= 4
        assert len(t.read("out")) == 3600 // 10 - 3


def test_open_windows_come_back_from_the_changelog() -> None:
    app = sk.App("back")
    topic = app.topic("in", key=str, value=int)
    app.stream(topic).window(sk.tumbling("10s")).aggregate(n=sk.Count(), sum=sk.Sum(), all=sk.Collect()).to(
        "out"
    )
    with app.test() as t:
        t.send(topic, 1, key="k", ts=1)
        t.restart()
        t.send(topic, 2, key="k", ts=2)
        t.restart()
        t.advance_to(60)
        assert t.read("out") == [
            {"key": "k", "start_ms": 0, "end_ms": 10_000, "n": 2, "sum": 3, "all": [1, 2]}
        ]
