"""Commits of a worker whose group refuses, forgets, or takes partitions away while a commit is in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import streamkit as sk
from streamkit.processing.tasks.fuse import SinkRecord
from streamkit.processing.tasks.task import Task
from streamkit.processing.testing import StoredRecord
from streamkit.processing.worker.committer import REPEAT_MS, Committer
from streamkit.processing.worker.metrics import CommitMetrics
from streamkit.processing.worker.restore import ChangelogReader
from streamkit.processing.worker.source import Arrival, Partition, Position, Source
from streamkit.processing.worker.task_runner import TaskRunner
from streamkit.telemetry.instruments import Registry

CHANGELOG = "commits-counts-changelog"


class ManualClock:
    time_ms = 0

    def now_ms(self) -> int:
        return self.time_ms

    def monotonic_ms(self) -> int:
        return self.time_ms

    def monotonic_s(self) -> float:
        return self.time_ms / 1000


class Ends:
    """Everything sent is acknowledged at once, and counted."""

    full = False

    def __init__(self) -> None:
        self.sent: dict[str, int] = {}

    def send(self, topic: str, records: Sequence[SinkRecord]) -> None:
        self.sent[topic] = self.sent.get(topic, 0) + len(records)

    def serve(self) -> None: ...

    async def flush(self) -> None: ...

    def discard(self) -> None: ...

    async def close(self) -> None: ...


class Group:
    """The source's half of a commit: answers as told, once `answering` is set."""

    def __init__(self, sink: Ends) -> None:
        self.commits: list[Position] = []
        self.accepts = True
        self.asked = asyncio.Event()
        self.answering = asyncio.Event()
        self.answering.set()
        self._sink = sink

    async def ends(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        return {place: self._sink.sent[place[0]] for place in partitions}

    async def commit(self, positions: Sequence[Position]) -> bool:
        self.asked.set()
        await self.answering.wait()
        self.commits += positions
        return self.accepts


class Worker:
    def __init__(self) -> None:
        app = sk.App("commits")
        topic = app.topic("in", key=str, value=int)
        counts = app.table("counts", default=int, key=str)

        @app.agent(topic)
        def count(n: int, record: sk.Record[str]) -> None:
            counts[record.key] += n

        plan = app.topology().plan({})
        self.clock, self.sink = ManualClock(), Ends()
        self.group = Group(self.sink)
        self.task = Task(plan, plan.subtopologies[0], 0)
        self.task.resume(("in", 0), None, 0)
        self.runner = TaskRunner(self.task, self.sink, lambda: None)
        self.runner.open()
        metrics = CommitMetrics(Registry(), "commits")
        reader = cast(ChangelogReader, None)
        self.committer = Committer(cast(Source, self.group), self.sink, reader, self.clock, metrics)

    def process(self, offset: int) -> None:
        record = StoredRecord(("in", 0, offset), (b"k", b"1"), 0)
        self.runner.offer(Arrival("in", 0, [record]))
        self.runner.run_slice(0)

    async def commit(self) -> bool:
        return await self.committer.commit([self.runner])


async def test_a_refused_commit_is_offered_again_unchanged() -> None:
    worker = Worker()
    worker.process(0)
    worker.group.accepts = False
    assert not await worker.commit()
    assert len(worker.task.stores["counts"]) == 0
    worker.process(1)
    worker.group.accepts = True
    assert await worker.commit()
    first, second = worker.group.commits
    assert first == second and second.offset == 1
    assert worker.task.stores["counts"].get(b"k") == b"1"
    assert await worker.commit()
    assert worker.group.commits[-1].offset == 2


async def test_a_commit_of_lost_partitions_writes_nothing() -> None:
    worker = Worker()
    worker.process(0)
    worker.group.answering.clear()
    commit = asyncio.create_task(worker.commit())
    await worker.group.asked.wait()
    worker.committer.forget(worker.runner)
    await worker.runner.close()
    worker.group.answering.set()
    await commit
    assert len(worker.task.stores["counts"]) == 0
    assert worker.committer.positions == {}


async def test_offsets_that_stand_still_are_repeated_every_hour() -> None:
    worker = Worker()
    worker.process(0)
    await worker.commit()
    worker.clock.time_ms += REPEAT_MS - 1
    await worker.commit()
    assert len(worker.group.commits) == 1
    worker.clock.time_ms += 1
    await worker.commit()
    assert worker.group.commits[0] == worker.group.commits[1]
    await worker.commit()
    assert len(worker.group.commits) == 2
