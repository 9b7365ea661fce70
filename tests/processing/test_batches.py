"""Batch agents get lists: full ones, or what came in time; and what fails is found in them."""

from __future__ import annotations

import asyncio
from typing import Any, cast, get_args

import pytest

import streamkit as sk
from streamkit.errors import RefusedError, UsageError
from streamkit.processing.batch import paired
from streamkit.processing.tasks.inflight import Order
from streamkit.processing.tasks.task import Batch, Task
from streamkit.processing.testing import StoredRecord
from streamkit.processing.worker.agents import AgentRunner
from streamkit.processing.worker.sink import Sink
from streamkit.processing.worker.source import Arrival
from streamkit.processing.worker.task_runner import TaskRunner


def test_a_batch_is_full_or_has_waited() -> None:
    app = sk.App("batches")
    numbers = app.topic("numbers", key=str, value=int)
    calls: list[list[int]] = []

    @app.agent(numbers, sink="out")
    @sk.batch(3, max_wait="2s")
    async def store(values: list[int]) -> list[int | None]:
        calls.append(values)
        return [n * 10 if n % 2 else None for n in values]

    with app.test() as t:
        t.send_all(numbers, [(n, "k") for n in range(7)])
        assert calls == [[0, 1, 2], [3, 4, 5], [6]]
        assert t.now_ms == 2_000, "the last one waited for more"
        assert t.read("out") == [10, 30, 50]
        assert t.committed(numbers) == 7
        assert t.counts("store").done == 7


def test_results_leave_with_their_own_records() -> None:
    app = sk.App("batches")
    numbers = app.topic("numbers", key=str, value=int)

    @app.agent(numbers, sink=app.topic("out", key=str, value=int))
    @sk.batch(10)
    async def same(values: list[int], records: list[sk.Record[str]]) -> list[int]:
        assert [r.key for r in records] == [f"k{n}" for n in values]
        return values

    with app.test() as t:
        t.send_all(numbers, [(n, f"k{n}", n) for n in range(3)])
        assert [(r.key, r.value, r.timestamp_ms) for r in t.records("out")] == [
            (f"k{n}", n, n * 1000) for n in range(3)
        ]
        assert t.run(same.ask(7, key="k7")) == 7


def test_a_key_keeps_its_order_with_many_batches_at_once() -> None:
    app = sk.App("batches")
    numbers = app.topic("numbers", key=str, value=int)
    stored: list[int] = []
    running, most = 0, 0

    @app.agent(numbers, concurrency=4)
    @sk.batch(5)
    async def store(values: list[int]) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(1 + values[0] % 3)
        stored.extend(values)
        running -= 1

    with app.test() as t:
        t.send_all(numbers, [(n, f"k{n % 10}") for n in range(100)])
        assert t.committed(numbers) == 100
    assert 1 < most <= 4
    for key in range(10):
        assert [n for n in stored if n % 10 == key] == list(range(key, 100, 10))


@pytest.mark.parametrize("last", [sk.DeadLetter("dead"), sk.Skip(), sk.Fail()])
def test_a_batch_that_fails_is_tried_whole_and_then_apart(last: Any) -> None:
    app = sk.App("batches")
    numbers = app.topic("numbers", value=int)
    calls: list[list[int]] = []

    @app.agent(numbers, sink="out", retry=sk.Retry(2, initial="1s"), on_error=last)
    @sk.batch(3)
    async def invert(values: list[int]) -> list[float]:
        calls.append(values)
        return [1 / n for n in values]

    with app.test() as t:
        try:
            t.send_all(numbers, [(n, None) for n in (1, 0, 2, 4)])
        except ZeroDivisionError:
            assert isinstance(last, sk.Fail)
            assert calls == [[1, 0, 2]] * 3 + [[1], [0]]
            assert (t.committed(numbers), t.read("out")) == (0, [])
            return
        assert calls == [[1, 0, 2]] * 3 + [[1], [0], [2], [4]]
        assert t.read("out") == [1, 0.5, 0.25]
        assert t.committed(numbers) == 4
        assert t.counts("invert").done == 3
        if isinstance(last, sk.DeadLetter):
            assert t.read("dead") == [b"0"]


def test_a_call_that_takes_too_long_is_an_error() -> None:
    app = sk.App("batches")
    numbers = app.topic("numbers", value=int)

    @app.agent(numbers, timeout="2s", on_error=sk.DeadLetter("dead"))
    @sk.batch(2)
    async def sleep(values: list[int]) -> None:
        await asyncio.sleep(sum(values))

    with app.test() as t:
        t.send_all(numbers, [(1, None), (60, None)])
        assert t.read("dead") == [b"60"]
        assert b"no answer within timeout=2 s" in dict(t.records("dead")[0].headers).values()


def test_undecodable_records_and_errors_of_sinks_follow_the_policy() -> None:
    app = sk.App("batches")
    numbers = app.topic("numbers", value=int)

    def refuse(n: int) -> None:
        if n == 2:
            raise ConnectionError

    @app.agent(numbers, sink=[refuse, "out"], on_error=sk.DeadLetter("dead"))
    @sk.batch(10)
    async def same(values: list[int]) -> list[int]:
        return values

    with app.test() as t:
        t.send_all(numbers, [(1, None), (2, None), (b"?", None), (3, None)])
        assert t.read("out") == [1, 3]
        assert sorted(t.read("dead")) == [b"2", b"?"]
        assert t.committed(numbers) == 4


@pytest.mark.parametrize("wrong", [[1], (1, 2, 3), {1, 2}, "ab"])
def test_another_number_of_results_is_an_error(wrong: Any) -> None:
    with pytest.raises(TypeError, match="a batch of 2 was answered with a"):
        paired(2, wrong)
    assert paired(2, None) == [None, None]
    assert paired(2, (1, None)) == (1, None)


async def test_a_hurry_ends_the_waiting() -> None:
    """Which is what a commit at a barrier and a revocation make of it."""
    app = sk.App("batches")
    numbers = app.topic("numbers", value=int)
    calls: list[list[int]] = []

    @app.agent(numbers)
    @sk.batch(100, max_wait="1h")
    async def store(values: list[int]) -> None:
        calls.append(values)

    plan = app.topology().plan({})
    task = Task(plan, plan.subtopologies[0], 0)
    task.resume(("numbers", 0), None, 0)
    task.start()
    moved = asyncio.Event()
    runner = AgentRunner(task, moved.set)
    runner.start()
    records = [StoredRecord(("numbers", 0, n), (None, b"%d" % n), 0) for n in range(3)]
    task.process(Batch("numbers", 0, records), 0)
    runner.wake()
    await asyncio.sleep(0)
    assert (calls, task.committable(("numbers", 0))) == ([], 0)
    runner.hurry(True)
    await asyncio.wait_for(moved.wait(), 5)
    assert (calls, task.committable(("numbers", 0))) == ([[0, 1, 2]], 3)
    await runner.stop()


def test_what_a_batch_cannot_be() -> None:
    app = sk.App("batches")
    numbers = app.topic("numbers", key=str, value=int)
    counts = app.table("counts", key=str, default=int)
    with pytest.raises(UsageError, match="at least one record"):
        sk.batch(0)
    with pytest.raises(UsageError, match="need an async function"):

        @sk.batch(2)
        def plain(values: list[int]) -> None: ...

    @sk.batch(2)
    async def store(values: list[int]) -> None: ...

    for order in set(get_args(Order)) - {"key"}:
        with pytest.raises(UsageError, match="needs an async function of one record"):
            app.agent(numbers, order=order)(store)

    @app.agent(numbers)
    @sk.batch(2)
    async def count(values: list[int], records: list[sk.Record[str]]) -> None:
        counts[records[0].key] += 1

    with app.test() as t, pytest.raises(RefusedError, match="records of several keys at once"):
        t.send(numbers, 1, key="a")


def test_a_batch_agent_has_a_typed_topic() -> None:
    app = sk.App("batches")

    @app.agent()
    @sk.batch(2)
    async def store(values: list[int]) -> list[int]:
        return values

    assert store.topic is not None
    assert store.topic.value.decode(b"1") == 1
    assert "batch test_a_batch_agent_has_a_typed_topic.store, up to 2 within 100 ms" in str(app.explain())


class Nowhere:
    """A sink for a task that writes nothing."""

    full = False

    def send(self, topic: str, records: object) -> None:
        raise AssertionError(topic)


async def test_a_batch_does_not_wait_for_records_that_have_no_room() -> None:
    app = sk.App("batches")
    stored: list[int] = []

    numbers = app.topic("numbers", key=int, value=int)

    @sk.batch(100, max_wait="1h")
    async def store(values: list[int]) -> None:
        stored.extend(values)

    for name in ("one", "two", "three"):  # all have the same records in hand, which is what is bounded
        app.agent(numbers, concurrency=4, name=name)(store)
    plan = app.topology().plan({})
    task = Task(plan, plan.subtopologies[0], 0)
    task.resume(("numbers", 0), None, 0)
    moved = asyncio.Event()
    runner = TaskRunner(task, cast(Sink, Nowhere()), moved.set)
    runner.open()
    count = 2_000
    records = [StoredRecord(("numbers", 0, n), (b"%d" % (n % 97), b"%d" % n), 0) for n in range(count)]
    runner.offer(Arrival("numbers", 0, records))
    while runner.queued:
        while runner.can_run(0):
            runner.run_slice(0)
        moved.clear()
        if runner.queued:
            await asyncio.wait_for(moved.wait(), 5)
    runner.stop_intake()
    while task.in_flight:
        await asyncio.sleep(0)
    assert sorted(stored) == sorted([*range(count)] * 3)
    await runner.close()
