"""SEMANTICS P4: a record that fails behind a state has changed it already, and will be processed again. So
what it has left there is never committed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest

import streamkit as sk

Numbers = sk.Topic[str, int]
Job = Callable[[sk.App, Numbers, Callable[[Any], Any]], None]


def updated(app: sk.App, topic: Numbers, fragile: Callable[[Any], Any]) -> None:
    counts = app.stream(topic).window(sk.tumbling("1h")).aggregate(emit="on_update", n=sk.Count())
    counts.map(fragile).to("out")


def sessions(app: sk.App, topic: Numbers, fragile: Callable[[Any], Any]) -> None:
    counts = app.stream(topic).window(sk.session("1h")).aggregate(emit="on_update", n=sk.Count())
    counts.map(fragile).to("out")


def beside(app: sk.App, topic: Numbers, fragile: Callable[[Any], Any]) -> None:
    """The window is not before what fails, but comes first."""
    numbers = app.stream(topic)
    numbers.window(sk.tumbling("1h")).aggregate(emit="on_update", n=sk.Count()).to("out")
    numbers.map(fragile)


def table(app: sk.App, topic: Numbers, fragile: Callable[[Any], Any]) -> None:
    counts = app.table("counts", key=str, default=int)

    @app.agent(topic, sink="out")
    def count(n: int, record: sk.Record[str]) -> dict[str, int]:
        counts[record.key] += 1
        fragile(n)
        return {"n": counts[record.key]}


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
@pytest.mark.parametrize("job", [updated, sessions, beside, table])
def test_what_a_failed_record_left_in_a_state_is_not_committed(
    job: Job, guarantee: Literal["at_least_once", "exactly_once"]
) -> None:
    app = sk.App("torn", guarantee=guarantee)
    topic = app.topic("in", key=str, value=int)
    failures = iter([False, True])

    def fragile(value: Any) -> Any:
        if next(failures, False):
            raise ValueError("not today")
        return value

    job(app, topic, fragile)
    with app.test() as t:
        t.send(topic, 1, key="a", ts=1)
        with pytest.raises(ValueError, match="not today"):
            t.send(topic, 2, key="a", ts=2)
        assert t.committed(topic) == 1
        t.read("out")
        t.restart()
        t.send(topic, 3, key="a", ts=3)
        assert [result["n"] for result in t.read("out")] == [2, 3]


def test_a_failed_result_of_a_counted_window_comes_again() -> None:
    app = sk.App("torn")
    topic = app.topic("in", key=str, value=int)
    failures = iter([True])

    def fragile(value: Any) -> Any:
        if next(failures, False):
            raise ValueError("not today")
        return value

    app.stream(topic).window(sk.count_window(2)).aggregate(sum=sk.Sum()).map(fragile).to("out")
    with app.test() as t:
        t.send(topic, 1, key="a")
        with pytest.raises(ValueError, match="not today"):
            t.send(topic, 2, key="a")
        t.restart()
        assert [result["sum"] for result in t.read("out")] == [3]


def test_what_came_before_a_record_that_cannot_be_read_is_committed() -> None:
    app = sk.App("unread")
    topic = app.topic("in", key=str, value=int)
    app.stream(topic).window(sk.tumbling("1h")).aggregate(emit="on_update", n=sk.Count()).to("out")
    with app.test() as t:
        with pytest.raises(ValueError, match="malformed"):
            t.send_all(topic, [(1, "a", 1), (2, "a", 2), (b"no JSON", "a", 3)])
        assert t.committed(topic) == 2
        assert [result["n"] for result in t.read("out")] == [1, 2]


def test_what_came_before_a_record_that_touched_no_table_is_committed() -> None:
    app = sk.App("untouched")
    topic = app.topic("in", key=str, value=int)
    counts = app.table("counts", key=str, default=int)

    @app.agent(topic, sink="out")
    def count(n: int, record: sk.Record[str]) -> int:
        if not n:
            raise ValueError("zero")
        counts[record.key] += 1
        return counts[record.key]

    with app.test() as t:
        with pytest.raises(ValueError, match="zero"):
            t.send_all(topic, [(1, "a"), (2, "a"), (0, "a")])
        assert t.committed(topic) == 2
        assert t.read("out") == [1, 2]
