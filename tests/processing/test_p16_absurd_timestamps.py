"""SEMANTICS P16: one timestamp ten years ahead is its record's error; the others' windows stay open."""

from __future__ import annotations

from typing import Any

import pytest

import streamkit as sk

NOW_S = 1_700_000_000.0
TEN_YEARS_S = 10 * 365 * 86_400.0


def counting(**settings: Any) -> tuple[sk.App, sk.Topic[str, float]]:
    app = sk.App("clocks")
    topic = app.topic("in", key=str, value=float)
    events = app.stream(topic, time=lambda at: at, on_error=sk.DeadLetter("dead"), **settings)
    events.window(sk.tumbling("1m")).aggregate(n=sk.Count()).to("out")
    return app, topic


@pytest.mark.parametrize("ahead_s", [TEN_YEARS_S, 86_401.0])
def test_it_is_rejected_and_no_window_closes_by_it(ahead_s: float) -> None:
    app, topic = counting()
    with app.test() as t:
        t.send(topic, NOW_S, key="k", ts=NOW_S)
        t.send(topic, NOW_S + ahead_s, key="k", ts=NOW_S)
        t.send(topic, NOW_S + 1, key="k", ts=NOW_S)
        assert t.read("out") == []
        (letter,) = t.records("dead")
        assert (
            b"later than the time at which its record was written"
            in dict(letter.headers)["streamkit.dlq.message"]
        )
        t.send(topic, NOW_S + 120, key="k", ts=NOW_S + 120)
        assert [window["n"] for window in t.read("out")] == [2]


@pytest.mark.parametrize(
    ("settings", "ahead_s", "written_s"),
    [({}, 86_400.0, NOW_S), ({"max_ahead": None}, TEN_YEARS_S, NOW_S), ({}, NOW_S, 0.0)],
    ids=["within a day", "without a limit", "a clock that was never set"],
)
def test_what_is_allowed_moves_time(settings: dict[str, Any], ahead_s: float, written_s: float) -> None:
    app, topic = counting(**settings)
    with app.test() as t:
        t.send(topic, written_s, key="k", ts=written_s)
        t.send(topic, written_s + ahead_s, key="k", ts=written_s)
        assert [window["n"] for window in t.read("out")] == [1]
