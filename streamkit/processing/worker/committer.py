"""Commits, in the only order that loses nothing.

    1  freeze      each task's checkpoint, between two slices
    2  deliver     outputs, watermark records and changelog: all acknowledged, and nobody else's row the
                   newest of its key (`changelog_ends`)
    3  commit      source offsets; their metadata carries the changelog ends just acknowledged
    4  write       the stores take their changes

A step that does not succeed is the end of the commit: nothing after it happens. A failed delivery stops the
worker. A commit that the group refuses for now (a rebalance, no coordinator) is offered again, unchanged, at
the next interval; until then its task makes no other checkpoint.

What has not changed is committed again every hour: brokers forget the offsets of topics that no member of a
group subscribes to, and followers of another topic's assignment (`kafka.source`) are not subscribed to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from time import perf_counter
from typing import Protocol

import msgspec

from streamkit.processing.tasks.checkpoint import Checkpoint, CommitMetadata
from streamkit.processing.tasks.inflight import Place
from streamkit.processing.worker.changelog_ends import ChangelogEnds
from streamkit.processing.worker.metrics import CommitMetrics
from streamkit.processing.worker.replies import NoReplies, Replies
from streamkit.processing.worker.restore import ChangelogReader
from streamkit.processing.worker.sink import Sink
from streamkit.processing.worker.source import Position, Source
from streamkit.processing.worker.task_runner import TaskRunner
from streamkit.runtime.contracts.clock import Clock

REPEAT_MS = 3_600_000


class AnyCommitter(Protocol):
    """What commits look like to whoever wants one, in transactions or not.

    `positions[changelog partition]` is the end up to which a restore may read: what the last commit, ours or
    a predecessor's, says.
    """

    positions: dict[Place, int]

    async def commit(self, runners: Collection[TaskRunner]) -> bool:
        """Commit what these tasks can commit now. False: some of it has to be tried again."""
        ...

    def commits(self, runner: TaskRunner) -> bool:
        """Is a commit of this task under way, or waiting to be offered again?"""
        ...

    def forget(self, runner: TaskRunner) -> None:
        """The task is gone, or begins anew; a commit of it that is under way is dropped."""
        ...


class Commit(msgspec.Struct):
    """One task's commit on its way. `acknowledged`: step 2 is done."""

    checkpoint: Checkpoint
    acknowledged: bool = False


class Committer:
    """Commits for the tasks of one worker; one commit at a time."""

    def __init__(
        self,
        source: Source,
        sink: Sink,
        changelogs: ChangelogReader,
        clock: Clock,
        metrics: CommitMetrics,
        *,
        replies: Replies | None = None,
    ) -> None:
        self.positions: dict[Place, int] = {}
        self._replies = replies or NoReplies()
        self._source = source
        self._sink = sink
        self._ends = ChangelogEnds(source, sink, changelogs, clock)
        self._clock = clock
        self._metrics = metrics
        self._turn = asyncio.Lock()
        self._pending: dict[TaskRunner, Commit] = {}
        self._committed: dict[TaskRunner, tuple[dict[Place, int], dict[Place, CommitMetadata], int]] = {}

    async def commit(self, runners: Collection[TaskRunner]) -> bool:
        async with self._turn:
            return await self._commit(runners)

    def commits(self, runner: TaskRunner) -> bool:
        return runner in self._pending

    def forget(self, runner: TaskRunner) -> None:
        self._pending.pop(runner, None)
        self._committed.pop(runner, None)
        for topic in changelogs_of(runner):
            self.positions.pop((topic, runner.task.partition), None)

    async def _commit(self, runners: Collection[TaskRunner]) -> bool:
        began = perf_counter()
        for runner in runners:
            if runner.ready:
                self._freeze(runner)
        if not any(runner in self._pending for runner in runners):
            return True
        await self._deliver(runners)
        moving = [runner for runner in runners if runner in self._pending]
        done = await self._source.commit([p for runner in moving for p in self._offsets(runner)])
        for runner in moving:
            if done and runner in self._pending:
                self._finish(runner)
        self._metrics.ended("ok" if done else "postponed", perf_counter() - began, self._clock.now_ms())
        return done

    def _freeze(self, runner: TaskRunner) -> None:
        """Step 1, unless a commit is already under way or nothing has changed since the last."""
        task = runner.task
        if runner in self._pending or not task.can_checkpoint():
            return
        runner.drain()
        checkpoint = task.checkpoint(self._clock.now_ms())
        runner.at_barrier = False
        *before, at_ms = self._committed.get(runner, (None, None, 0))
        due = self._clock.monotonic_ms() - at_ms >= REPEAT_MS
        changed = due or [checkpoint.offsets, checkpoint.clocks] != before
        if not (changed or checkpoint.changelog or checkpoint.sinks):
            task.committed(checkpoint, {})
            return
        for topic, records in (*checkpoint.sinks.items(), *checkpoint.changelog.items()):
            self._sink.send(topic, records)
        self._metrics.changelog_records.value += sum(map(len, checkpoint.changelog.values()))
        self._pending[runner] = Commit(checkpoint)

    async def _deliver(self, runners: Collection[TaskRunner]) -> None:
        """Step 2."""
        fresh = [r for r in runners if r in self._pending and not self._pending[r].acknowledged]
        if not fresh:
            return
        await self._sink.flush()
        await self._replies.flush()
        ends = await self._ends.after({r: self._pending[r].checkpoint for r in fresh if r in self._pending})
        for runner in fresh:
            if runner in self._pending:
                self._pending[runner].acknowledged = True
                self.positions |= {place: end for place, end in ends.items() if _owns(runner, place)}

    def _offsets(self, runner: TaskRunner) -> list[Position]:
        return offsets_of(self._pending[runner].checkpoint, positions_of(runner, self.positions))

    def _finish(self, runner: TaskRunner) -> None:
        """Step 4."""
        checkpoint = self._pending.pop(runner).checkpoint
        runner.task.committed(checkpoint, positions_of(runner, self.positions))
        self._committed[runner] = checkpoint.offsets, checkpoint.clocks, self._clock.monotonic_ms()


def _owns(runner: TaskRunner, place: Place) -> bool:
    return place[1] == runner.task.partition and place[0] in changelogs_of(runner)


def offsets_of(checkpoint: Checkpoint, positions: Mapping[str, int]) -> list[Position]:
    """What the group is to remember of a checkpoint; `positions`: the ends of its changelogs."""
    return [
        Position(topic, partition, offset, checkpoint.metadata((topic, partition), positions))
        for (topic, partition), offset in checkpoint.offsets.items()
    ]


def positions_of(runner: TaskRunner, positions: Mapping[Place, int]) -> dict[str, int]:
    """The committed ends of the task's changelogs, by topic."""
    places = ((topic, runner.task.partition) for topic in changelogs_of(runner))
    return {place[0]: positions[place] for place in places if place in positions}


def changelogs_of(runner: TaskRunner) -> list[str]:
    """The changelog topics of the task's stores."""
    sub = runner.task.sub
    return [sub.changelog(store) for store in sub.stores]
