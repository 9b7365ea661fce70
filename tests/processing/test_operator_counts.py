"""What agents did with their records is counted, whatever their shape."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import streamkit as sk
from streamkit.processing.error_policy import OnError


def plain(n: int) -> int:
    return 10 // n


async def awaited(n: int) -> int:
    return 10 // n


async def looped(stream: sk.Stream[int, int]) -> AsyncIterator[int]:
    async for n in stream:
        yield 10 // n


SHAPES = pytest.mark.parametrize("function", [plain, awaited, looped])


@SHAPES
@pytest.mark.parametrize(
    ("policy", "field"), [(sk.Skip(), "skipped"), (sk.DeadLetter("dead"), "dead_letters")]
)
def test_ok_and_not_ok_add_up(function: object, policy: OnError, field: str) -> None:
    app = sk.App("counts")
    topic = app.topic("in", value=int)
    app.agent(topic, sink="out", on_error=policy, name="divide")(function)  # type: ignore[call-overload]
    with app.test() as t:
        for n in (1, 0, 2, 0, 5):
            t.send(topic, n)
        counts = t.counts("divide")
        assert (counts.done, getattr(counts, field), counts.failed) == (3, 2, 0)
        dead = sum((task.dead_letters for task in t.tasks), start=type(t.tasks[0].dead_letters)())
        assert dead == ({("divide", "ZeroDivisionError"): 2} if field == "dead_letters" else {})


@SHAPES
def test_a_failure_is_counted_once_and_what_came_before_is_ok(function: object) -> None:
    app = sk.App("failing")
    topic = app.topic("in", value=int)
    app.agent(topic, sink="out", name="divide")(function)  # type: ignore[call-overload]
    with app.test() as t:
        t.send(topic, 1)
        with pytest.raises(ZeroDivisionError):
            t.send(topic, 0)
        counts = t.counts("divide")
        assert (counts.done, counts.failed) == (1, 1)


def test_an_agent_behind_an_agent_and_a_filter_counts_what_reaches_it() -> None:
    app = sk.App("chain")
    topic = app.topic("in", value=int)

    @app.agent(app.stream(topic).filter(lambda n: n > 1), sink="out")
    def half(n: int) -> int | None:
        return n // 2 if n % 2 == 0 else None

    with app.test() as t:
        for n in range(5):
            t.send(topic, n)
        assert t.counts("half").done == 3
        assert t.read("out") == [1, 2]
