"""SEMANTICS P5: when everything is filtered out or late, the lag still goes to zero."""

from __future__ import annotations

import streamkit as sk


def test_filtered() -> None:
    app = sk.App("filter")
    topic = app.topic("in", value=int)
    app.stream(topic).filter(lambda n: n > 100).to("out")
    with app.test() as t:
        for n in range(10):
            t.send(topic, n)
        assert t.read("out") == []
        assert t.committed(topic) == 10


def test_late() -> None:
    app = sk.App("late")
    topic = app.topic("in", key=str, value=int)
    counts = app.stream(topic).window(sk.tumbling("1s")).aggregate(n=sk.Count())
    counts.to("out")
    with app.test() as t:
        t.send(topic, 1, key="a", ts=100)
        for second in range(5):
            t.send(topic, 1, key="a", ts=second)
        assert t.counts(counts.name).late == 5
        assert t.committed(topic) == 6
