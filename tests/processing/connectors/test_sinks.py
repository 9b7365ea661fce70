"""What a sink may count on, and who suffers when it raises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

import streamkit as sk
from streamkit.errors import UsageError
from tests.processing.connectors.outflows import one_task


class Recorded(sk.Sink):
    """Writes what it may, and remembers how it was called."""

    max_wait = 0

    def __init__(self, max_rows: int = 8) -> None:
        self.max_rows = max_rows
        self.calls: list[list[Any]] = []
        self.rows: list[sk.Row] = []
        self.life: list[str] = []
        self.refusing: list[Exception] = []  # raised one after the other
        self.bad: set[Any] = set()

    async def open(self) -> None:
        self.life.append("open")

    async def write(self, rows: Sequence[sk.Row]) -> None:
        self.calls.append([row.value for row in rows])
        if self.refusing:
            raise self.refusing.pop(0)
        if found := self.bad.intersection(row.value for row in rows):
            raise ValueError(f"cannot write {found}")
        self.rows += rows

    async def close(self) -> None:
        self.life.append("close")


def app_with(sink: sk.Sink, **policy: Any) -> sk.App:
    app = sk.App("sinks")
    app.stream(app.topic("numbers", key=str, value=int)).to(sink, **policy)
    return app


async def test_rows_come_with_all_that_is_known_of_their_record() -> None:
    sink = Recorded()
    async with one_task(app_with(sink)) as one:
        one.offer([7, 8])
        await one.until_committable(2)
    assert sink.rows == [
        sk.Row(7, "k", 1000, [("n", b"0")], "numbers", 0, 0),
        sk.Row(8, "k", 1001, [], "numbers", 0, 1),
    ]
    assert sink.life == ["open", "close"]


async def test_a_batch_is_bounded() -> None:
    sink = Recorded(max_rows=3)
    async with one_task(app_with(sink)) as one:
        one.offer(range(7))
        await one.until_committable(7)
    assert sink.calls == [[0, 1, 2], [3, 4, 5], [6]]


async def test_rows_of_one_record_stay_together() -> None:
    sink, app = Recorded(max_rows=2), sk.App("sinks")
    app.stream(app.topic("numbers", value=int)).flat_map(range).to(sink)
    async with one_task(app) as one:
        one.offer([1, 3, 1])
        await one.until_committable(3)
    assert sink.calls == [[0, 0, 1, 2], [0]]


async def test_a_commit_waits_for_what_is_not_written() -> None:
    sink = Recorded(max_rows=2)
    writing = asyncio.Event()

    async def never(rows: Sequence[sk.Row]) -> None:
        if rows[0].value == 2:
            writing.set()
            await asyncio.Event().wait()

    sink.write = never  # type: ignore[method-assign]
    async with one_task(app_with(sink)) as one:
        one.offer([0, 1, 2, 3])
        await asyncio.wait_for(writing.wait(), 5)
        assert one.task.committable(("numbers", 0)) == 2
    assert sink.life[-1] == "close"


async def test_who_is_unavailable_is_asked_again_and_nothing_else_happens() -> None:
    sink = Recorded()
    sink.refusing = [sk.Unavailable("away"), sk.Unavailable("away")]
    async with one_task(app_with(sink, on_error=sk.DeadLetter("dead"))) as one:
        one.offer([1, 2])
        await one.until_committable(2)
    assert (sink.calls, one.letters) == ([[1, 2]] * 3, [])


@pytest.mark.parametrize("last", [sk.DeadLetter("dead"), sk.Skip(), sk.Fail()])
async def test_rows_at_fault_are_found_and_meet_the_policy(last: Any) -> None:
    sink = Recorded()
    sink.bad = {2, 7}
    async with one_task(app_with(sink, on_error=last)) as one:
        one.offer(range(8))
        await one.until_committable(8)
        failure = one.task.failure
    if isinstance(last, sk.Fail):
        assert failure is not None and failure.offset == 2
        assert [row.value for row in sink.rows] == [0, 1]
        assert one.task.committable(("numbers", 0)) == 0, "the batch is in hand still"
        return
    assert [row.value for row in sink.rows] == [0, 1, 3, 4, 5, 6]
    assert one.letters == ([b"2", b"7"] if isinstance(last, sk.DeadLetter) else [])
    assert len(sink.calls) == 11, "halves, not every row"


async def test_retries_come_before_the_search_for_the_row_at_fault() -> None:
    sink = Recorded()
    sink.refusing = [ConnectionError(), ConnectionError()]
    retry = sk.Retry(2, backoff="fixed", initial="1ms")
    async with one_task(app_with(sink, retry=retry, on_error=sk.DeadLetter("dead"))) as one:
        one.offer([1, 2])
        await one.until_committable(2)
    assert (sink.calls, one.letters) == ([[1, 2]] * 3, [])


async def test_a_bad_row_suffers_at_once_and_alone() -> None:
    sink = Recorded()
    sink.refusing = [sk.BadRow(1, ValueError("no")), sk.BadRow(1, ValueError("no"))]
    async with one_task(app_with(sink, retry=sk.Retry(5), on_error=sk.DeadLetter("dead"))) as one:
        one.offer([0, 1, 2, 3])
        await one.until_committable(4)
    assert sink.calls == [[0, 1, 2, 3], [0, 2, 3], [0, 3]]
    assert one.letters == [b"1", b"2"]


async def test_an_error_while_opening_ends_the_worker() -> None:
    sink = Recorded()

    async def refuse() -> None:
        raise UsageError("no such table")

    sink.open = refuse  # type: ignore[method-assign]
    async with one_task(app_with(sink)) as one:
        async with asyncio.timeout(5):
            while one.runner.failure is None:
                await asyncio.sleep(0)
        assert isinstance(one.runner.failure, UsageError)


def test_in_the_driver_rows_are_collected_and_no_code_of_the_sink_runs() -> None:
    sink = Recorded(max_rows=2)
    app = app_with(sink)
    with app.test() as t:
        t.send_all("numbers", [(1, "a"), (2, "b"), (3, "c")])
        assert [(row.key, row.value) for row in t.written(sink)] == [("a", 1), ("b", 2), ("c", 3)]
        t.restart()
        t.send("numbers", 4, key="d")
        assert [row.value for row in t.written(sink)] == [4]
        assert t.committed("numbers") == 4
    assert sink.life == [] and sink.calls == []


def test_agents_and_tables_have_sinks_too() -> None:
    app, made, board = sk.App("sinks"), Recorded(), Recorded()
    numbers = app.topic("numbers", key=str, value=int)

    @app.agent(numbers, sink=["doubled", made])
    async def double(n: int) -> int:
        return n * 2

    app.table_from(app.topic("names", key=str, value=str)).to(board)
    with app.test() as t:
        t.send(numbers, 2, key="a")
        t.send("names", "Ann", key="a")
        t.send("names", None, key="a")
        assert t.read("doubled") == [4]
        assert [(row.value, row.offset) for row in t.written(made)] == [(4, 0)]
        assert [row.value for row in t.written(board)] == ["Ann", None]


def test_a_sink_that_needs_offsets_refuses_streams_without() -> None:
    app = sk.App("sinks")
    numbers = app.topic("numbers", key=str, value=int)
    counts = app.stream(numbers).window(sk.tumbling("1m")).aggregate(n=sk.Count())
    with pytest.raises(UsageError, match="results of numbers-window come from many records"):
        counts.to(sk.FileSink("counts"))
    with pytest.raises(UsageError, match="results of check leave in another order"):

        @app.agent(numbers, sink=sk.FileSink("checked"), concurrency=4)
        async def check(n: int) -> int:
            return n

    with pytest.raises(UsageError, match="split may make several results of a record"):

        @app.agent(numbers, sink=sk.FileSink("parts"))
        async def split(stream: sk.Stream[int]) -> AsyncIterator[int]:
            async for n in stream:
                for part in range(n):
                    yield part

    counts.to("counts")
    app.stream("counts").to(sk.FileSink("counts"))

    @app.agent(numbers, sink=sk.FileSink("in-order"), concurrency=4, order="input")
    async def ordered(n: int) -> int:
        return n


def test_policies_of_to_are_for_sinks() -> None:
    app = sk.App("sinks")
    with pytest.raises(UsageError, match="are for sinks"):
        app.stream("numbers").to("out", retry=sk.Retry(3))
