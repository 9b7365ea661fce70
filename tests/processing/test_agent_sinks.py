"""What an agent makes goes to each of its sinks: topics, other agents, functions; then the record is done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

import streamkit as sk
from streamkit.errors import UsageError


class Order(msgspec.Struct):
    amount: int


def plain(n: int) -> int:
    return n * 10


async def record(n: int) -> int:
    return n * 10


async def stream(numbers: sk.Stream[int]) -> AsyncIterator[int]:
    async for n in numbers:
        yield n * 10


@pytest.mark.parametrize("function", [plain, record, stream])
def test_each_sink_gets_the_result(function: Callable[..., Any]) -> None:
    app = sk.App("sinks")
    numbers = app.topic("numbers", key=str, value=int)
    told, seen = [], []

    @app.agent(sink="halves")
    async def halve(n: int) -> float:
        return n / 2

    def tell(n: int) -> None:
        told.append(n)

    def see(n: int, record: sk.Record[str]) -> None:
        seen.append((record.key, n))

    app.agent(numbers, sink=[app.topic("tens", key=str, value=int), halve, tell, see])(function)
    with app.test() as t:
        t.send_all(numbers, [(1, "a"), (2, "b")])
        assert t.read("tens") == told == [10, 20]
        assert seen == [("a", 10), ("b", 20)]
        assert t.read("sinks-halve") == [10, 20]
        assert t.read("halves") == [5, 10]
        assert [r.key for r in t.records("halves")] == [b"a", b"b"]


def test_an_async_sink_is_awaited_before_the_record_is_done() -> None:
    app = sk.App("sinks")
    numbers = app.topic("numbers", value=int)
    stored: list[int] = []

    async def store(n: int) -> None:
        await asyncio.sleep(3 - n)
        stored.append(n)

    @app.agent(numbers, sink=[store, "out"], concurrency=3, order="input")
    async def same(n: int) -> int:
        await asyncio.sleep(n)
        return n

    with app.test() as t:
        t.send_all(numbers, [(2, None), (1, None), (0, None)])
        assert stored == [2, 1, 0], "sinks too hear of results in the order of the input"
        assert t.read("out") == [2, 1, 0]
        assert t.committed(numbers) == 3


def test_a_sink_that_raises_is_called_again_and_nobody_else() -> None:
    app = sk.App("sinks")
    numbers = app.topic("numbers", value=int)
    calls: list[str] = []

    def first(n: int) -> None:
        calls.append("first")

    def second(n: int) -> None:
        calls.append("second")
        if n < 0 or calls.count("second") < 3:
            raise ConnectionError

    @app.agent(numbers, sink=[first, second, "out"], retry=sk.Retry(2), on_error=sk.DeadLetter("dead"))
    async def same(n: int) -> int:
        calls.append("agent")
        return n

    with app.test() as t:
        t.send(numbers, 1)
        assert calls == ["agent", "first", "second", "second", "second"]
        assert t.read("out") == [1]
        t.send(numbers, -1)
        assert t.read("out") == []
        assert t.read("dead") == [b"-1"]
        assert t.counts("same").done == 1


def test_a_loop_that_yields_nothing_for_a_sink() -> None:
    app = sk.App("sinks")
    told: list[int] = []

    @app.agent(app.topic("numbers", value=int), sink=[told.append])
    async def odd(numbers: sk.Stream[int]) -> AsyncIterator[int | None]:
        async for n in numbers:
            yield n if n % 2 else None

    with app.test() as t:
        t.send_all("numbers", [(1, None), (2, None), (3, None)])
        assert told == [1, 3]


def test_an_agent_without_a_source_has_a_typed_topic() -> None:
    app = sk.App("shop")

    @app.agent()
    async def bill(stream: sk.Stream[Order]) -> AsyncIterator[int]:
        async for order in stream:
            yield order.amount

    @app.agent()
    def pay(order: Order) -> int:
        return order.amount

    assert bill.topic is not None and pay.topic is not None
    assert (bill.topic.name, pay.topic.name) == ("shop-bill", "shop-pay")
    assert bill.topic.value.decode(b'{"amount":1}') == Order(1)
    assert pay(Order(2)) == 2
    assert pay.name == pay.__name__ == "pay"
    assert app.topology().plan({}).topics[0].name == "shop-bill"


def test_what_is_no_sink_is_refused() -> None:
    app = sk.App("sinks")
    numbers = app.topic("numbers", value=int)

    @app.agent(app.stream(numbers).map(str))
    async def computed(text: str) -> None: ...

    with pytest.raises(UsageError, match="which takes what a stream computes"):
        app.agent(numbers, sink=computed)(record)
    with pytest.raises(UsageError, match="is no sink"):
        app.agent(numbers, sink=[3])(record)  # type: ignore[list-item]
    with pytest.raises(UsageError, match="is async, and the agent plain is not"):
        app.agent(numbers, sink=record)(plain)


def test_a_function_among_the_sinks_claims_its_tables() -> None:
    app = sk.App("sinks")
    counts = app.table("counts", key=str, default=int)

    def count(n: int, record: sk.Record[str]) -> None:
        counts[record.key] += n

    @app.agent(app.topic("numbers", key=str, value=int), sink=count)
    async def same(n: int) -> int:
        return n

    with app.test() as t:
        t.send_all("numbers", [(1, "a"), (2, "a")])
        t.restart()
        assert counts["a"] == 3
