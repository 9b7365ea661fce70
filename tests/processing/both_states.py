"""An app with a table and windows over one topic: both kinds of state that a crash must not spoil."""

from __future__ import annotations

import streamkit as sk
from streamkit.processing.topology import Plan

PLACE = ("in", 0)


def plan_of_both_states(name: str) -> tuple[Plan, sk.Table[str, int]]:
    """Counts per key in a table, which a negative number deletes, and per key and window."""
    app = sk.App(name)
    topic = app.topic("in", key=str, value=int)
    counts = app.table("counts", default=int, key=str)

    @app.agent(topic)
    def count(n: int, record: sk.Record[str]) -> None:
        if n >= 0:
            counts[record.key] += 1
        elif record.key in counts:
            del counts[record.key]

    app.stream(topic).window(sk.tumbling("1s")).aggregate(n=sk.Count()).to(app.topic("out", value=dict))
    return app.topology().plan({}), counts
