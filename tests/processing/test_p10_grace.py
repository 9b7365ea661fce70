"""SEMANTICS P10: at stream time S a window accepts a record iff `end > S − grace`; the rest go to `late`."""

from __future__ import annotations

import pytest

import streamkit as sk

pytestmark = pytest.mark.usefixtures("each_store")


def test_the_boundary() -> None:
    app = sk.App("grace")
    topic = app.topic("in", key=str, value=str)
    counts = app.stream(topic).window(sk.tumbling("10s", grace="5s")).aggregate(v=sk.Collect())
    counts.to("out")
    counts.late.to("late")
    with app.test() as t:
        t.send(topic, "on time", key="k", ts=3)
        t.send(topic, "ahead", key="k", ts=14.999)
        t.send(topic, "just in", key="k", ts=9)  # end 10 > 14.999 − 5
        t.send(topic, "at the limit", key="k", ts=15)
        t.send(topic, "too late", key="k", ts=9.999)  # end 10 > 15 − 5 is false
        assert t.read("late") == ["too late"]
        [late] = t.records("late")
        assert (late.key, late.timestamp_ms) == ("k", 9999)
        [closed] = t.read("out")
        assert closed == {"key": "k", "start_ms": 0, "end_ms": 10_000, "v": ["on time", "just in"]}
        assert t.counts(counts.name).late == 1


def test_still_late_after_a_restart() -> None:
    """P12: partition time is part of the commit."""
    app = sk.App("grace")
    topic = app.topic("in", key=str, value=int)
    counts = app.stream(topic).window(sk.tumbling("10s")).aggregate(n=sk.Count())
    counts.late.to("late")
    with app.test() as t:
        t.send(topic, 1, key="k", ts=100)
        t.restart()
        t.send(topic, 2, key="k", ts=50)
        assert t.read("late") == [2]


def test_on_update_emits_at_each_record() -> None:
    app = sk.App("update")
    topic = app.topic("in", key=str, value=int)
    results = (
        app.stream(topic)
        .window(sk.tumbling("10s"))
        .aggregate(
            emit="on_update", sum=sk.Sum(), least=sk.Min(), most=sk.Max(), mean=sk.Mean(), n=sk.Count()
        )
    )
    results.map(lambda r: (r["sum"], r["least"], r["most"], r["mean"], r["n"])).to("out")
    with app.test() as t:
        for n in (4, 2, 6):
            t.send(topic, n, key="k", ts=1)
        assert t.read("out") == [[4, 4, 4, 4, 1], [6, 2, 4, 3, 2], [12, 2, 6, 4, 3]]


def test_on_update_says_nothing_more_when_the_window_closes() -> None:
    app = sk.App("update-close")
    topic = app.topic("in", key=str, value=int)
    results = app.stream(topic).window(sk.tumbling("10s")).aggregate(emit="on_update", n=sk.Count())
    results.map(lambda r: (r["start_ms"], r["n"])).to("out")
    with app.test() as t:
        t.send(topic, 1, key="k", ts=1)
        t.advance_to(100)
        assert sum(task.windows_closed for task in t.tasks) == 1
        t.send(topic, 1, key="k", ts=101)
        assert t.read("out") == [[0, 1], [100_000, 1]]
