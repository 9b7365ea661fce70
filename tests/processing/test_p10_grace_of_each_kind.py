"""SEMANTICS P10–P12 at the boundary, for each kind of window."""

from __future__ import annotations

import pytest

import streamkit as sk
from tests.processing.windowed import KINDS, build

pytestmark = pytest.mark.usefixtures("each_store")


def test_a_hopping_record_late_for_some_of_its_windows_enters_the_others() -> None:
    app = sk.App("partly")
    topic = app.topic("in", key=str, value=str)
    results = app.stream(topic).window(sk.hopping("10s", "5s", grace="2s")).aggregate(n=sk.Count())
    results.map(lambda r: (r["key"], r["start_ms"], r["n"])).to("out")
    results.late.to("late")
    with app.test() as t:
        # in one slice, so that no window closes between: lateness is a matter of event time alone
        t.send_all(topic, [("a", "a", 8), ("ahead", "b", 12), ("partly", "a", 8), ("late", "a", 4.999)])
        assert t.read("late") == ["late"]  # its last window ends at 10, and 10 > 12 − 2 is false
        t.restart()
        t.advance_to(60)
        assert t.read("out") == [["a", 0, 1], ["a", 5_000, 2], ["b", 5_000, 1], ["b", 10_000, 1]]


def test_a_sliding_record_too_late_for_its_own_window_counts_in_later_ones() -> None:
    app = sk.App("slid")
    topic = app.topic("in", key=str, value=str)
    results = app.stream(topic).window(sk.sliding("10s")).aggregate(n=sk.Count())
    results.map(lambda r: (r["end_ms"], r["n"])).to("out")
    results.late.to("late")
    with app.test() as t:
        t.send_all(topic, [("a", "k", 20), ("b", "k", 15), ("c", "k", 10.001), ("late", "k", 10)])
        assert t.read("late") == ["late"]
        t.advance_to(60)
        assert t.read("out") == [[20_001, 3]]


def test_a_session_accepts_until_its_end_and_grace() -> None:
    app = sk.App("sessions")
    topic = app.topic("in", key=str, value=str)
    results = app.stream(topic).window(sk.session("5s", grace="2s")).aggregate(all=sk.Collect())
    results.map(lambda r: (r["start_ms"], r["end_ms"], r["all"])).to("out")
    results.late.to("late")
    with app.test() as t:
        t.send_all(topic, [("first", "k", 0), ("ahead", "x", 7), ("in time", "k", 5)])
        t.send_all(topic, [("far ahead", "x", 30), ("late", "k", 22.999), ("just", "k", 23)])
        assert t.read("late") == ["late"]
        t.advance_to(60)
        assert sorted(t.read("out")) == [
            [0, 5_000, ["first", "in time"]],
            [7_000, 7_000, ["ahead"]],
            [23_000, 23_000, ["just"]],
            [30_000, 30_000, ["far ahead"]],
        ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_quiet_key_closes(kind: str) -> None:
    """P11."""
    app, topic, _ = build(kind)
    with app.test() as t:
        t.send(topic, 1, key="a", ts=1)
        assert t.read("out") == []
        t.send(topic, 1, key="b", ts=40)
        closed = t.read("out")
        assert closed and all(r["key"] == "a" for r in closed)


@pytest.mark.parametrize("kind", KINDS)
def test_still_late_after_a_restart(kind: str) -> None:
    """P12: partition time is part of the commit."""
    app, topic, results = build(kind)
    with app.test() as t:
        t.send(topic, 1, key="a", ts=100)
        t.restart()
        t.send(topic, 2, key="a", ts=50)
        assert t.read("late") == [2]
        assert t.counts(results.name).late == 1
