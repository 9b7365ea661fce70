"""What an agent made of a record leaves before the offset of the record is committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, cast

import pytest

import streamkit as sk
from streamkit.processing.tasks.fuse import SinkRecord
from streamkit.processing.tasks.task import Task
from streamkit.processing.testing import StoredRecord
from streamkit.processing.worker.committer import Committer
from streamkit.processing.worker.metrics import CommitMetrics
from streamkit.processing.worker.restore import ChangelogReader
from streamkit.processing.worker.source import Arrival, Partition, Position, Source
from streamkit.processing.worker.task_runner import TaskRunner
from streamkit.runtime.os.clock import SystemClock
from streamkit.telemetry.instruments import Registry


class Sent:
    """A sink that is told and has it."""

    full = False

    def __init__(self) -> None:
        self.values: list[Any] = []

    def send(self, topic: str, records: Sequence[SinkRecord]) -> None:
        self.values += [record[0] for record in records]

    def serve(self) -> None: ...

    async def flush(self) -> None: ...

    def discard(self) -> None: ...

    async def close(self) -> None: ...


class Group:
    def __init__(self) -> None:
        self.offset: int | None = 0

    async def ends(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        return {}

    async def commit(self, positions: Sequence[Position]) -> bool:
        self.offset = positions[0].offset
        return True


Declare = Callable[[sk.App, asyncio.Event, Callable[[], None]], None]


def stream_agent(app: sk.App, reached: asyncio.Event, _: Callable[[], None]) -> None:
    @app.agent(app.topic("in", key=str, value=int), sink="out")
    async def copy(numbers: sk.Stream[int]) -> AsyncIterator[int]:
        async for n in numbers:
            if n == 1:
                reached.set()
                await asyncio.Event().wait()
            yield n


def agent_with_sinks(app: sk.App, reached: asyncio.Event, drain: Callable[[], None]) -> None:
    """Results leave in the order of the input, several in one go."""

    async def slow_at_one(n: int) -> None:
        if n == 1:
            reached.set()
            await asyncio.Event().wait()
        drain()

    second_made = asyncio.Event()

    @app.agent(app.topic("in", key=str, value=int), sink=[slow_at_one, "out"], concurrency=2, order="input")
    async def copy(n: int) -> int:
        if n == 1:
            second_made.set()
        else:
            await second_made.wait()
            await asyncio.sleep(0)
        return n


@pytest.mark.parametrize("declare", [stream_agent, agent_with_sinks])
async def test_results_leave_before_their_offsets(declare: Declare) -> None:
    app, reached = sk.App("copies"), asyncio.Event()

    def drain() -> None:
        runner.drain()

    declare(app, reached, drain)
    plan = app.topology().plan({})
    task, sink, group, clock = Task(plan, plan.subtopologies[0], 0), Sent(), Group(), SystemClock()
    task.resume(("in", 0), None, 0)
    runner = TaskRunner(task, sink, lambda: None)
    runner.open()
    records = [StoredRecord(("in", 0, offset), (b"k", b"%d" % offset), 0) for offset in range(2)]
    runner.offer(Arrival("in", 0, records))
    runner.run_slice(0)
    await asyncio.wait_for(reached.wait(), 10)
    metrics, reader = CommitMetrics(Registry(), "copies"), cast(ChangelogReader, None)
    committer = Committer(cast(Source, group), sink, reader, clock, metrics)
    assert await committer.commit([runner])
    await runner.close()
    assert (group.offset, sink.values) == (1, [b"0"])
