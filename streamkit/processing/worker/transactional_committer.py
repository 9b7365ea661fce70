"""Commits under exactly-once: outputs, changelog and offsets of all tasks become visible together, or never.

    1  freeze      the checkpoints of all tasks at one moment, each with nothing in flight
    2  hold        what is produced from now on belongs to the next transaction
    3  deliver     outputs and changelog acknowledged; where the changelogs end is asked for
    4  commit      source offsets, with those ends in their metadata, in the same transaction
    5  write       the stores take their changes; replies to those who asked agents leave

One producer serves the worker, so its tasks commit together. A step that does not succeed dooms the
transaction; the member then aborts it and takes every task back to the last commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from time import monotonic, perf_counter

from streamkit.processing.tasks.checkpoint import Checkpoint, CommitMetadata
from streamkit.processing.tasks.inflight import Place
from streamkit.processing.worker.changelog_ends import ENDS_PAUSE_S
from streamkit.processing.worker.committer import REPEAT_MS, changelogs_of, offsets_of, positions_of
from streamkit.processing.worker.metrics import CommitMetrics
from streamkit.processing.worker.replies import RepliesAfterCommit
from streamkit.processing.worker.sink import TransactionalSink
from streamkit.processing.worker.source import Source
from streamkit.processing.worker.task_runner import TaskRunner
from streamkit.runtime.contracts.clock import Clock

Standing = tuple[dict[Place, int], dict[Place, CommitMetadata]]  # offsets, and what was committed with them


class TransactionalCommitter:
    """Commits for all `runners()` of one worker. Whoever holds `turn` has the transaction to itself."""

    def __init__(
        self,
        source: Source,
        sink: TransactionalSink,
        clock: Clock,
        metrics: CommitMetrics,
        runners: Callable[[], Iterable[TaskRunner]],
        *,
        replies: RepliesAfterCommit,
    ) -> None:
        self.sink = sink
        self.replies = replies
        self.positions: dict[Place, int] = {}
        self.turn = asyncio.Lock()
        self._source = source
        self._clock = clock
        self._metrics = metrics
        self._runners = runners
        self._pending: dict[TaskRunner, Checkpoint] = {}
        self._committed: dict[TaskRunner, tuple[Standing, int]] = {}

    async def commit(self, runners: Collection[TaskRunner]) -> bool:
        """Commit everything; `runners` are among it. False: not at the barrier, or doomed."""
        async with self.turn:
            commit = asyncio.ensure_future(self._commit())
            try:
                return await asyncio.shield(commit)
            except asyncio.CancelledError:  # half a commit helps nobody
                await asyncio.wait([commit])
                raise

    def commits(self, runner: TaskRunner) -> bool:
        return runner in self._pending

    def forget(self, runner: TaskRunner) -> None:
        self._pending.pop(runner, None)
        self._committed.pop(runner, None)
        for topic in changelogs_of(runner):
            self.positions.pop((topic, runner.task.partition), None)

    async def _commit(self) -> bool:
        began = perf_counter()
        runners = [runner for runner in self._runners() if runner.ready]
        for runner in runners:
            runner.drain()
        if self.sink.doomed or not all(runner.task.can_checkpoint() for runner in runners):
            return False
        if not self._freeze(runners):
            return True
        done = await self._transact()
        if done:
            for runner in list(self._pending):
                self._finish(runner)
            self.replies.release()
        self._pending.clear()
        self._metrics.ended("ok" if done else "aborted", perf_counter() - began, self._clock.now_ms())
        return done

    def _freeze(self, runners: Collection[TaskRunner]) -> bool:
        """Steps 1 and 2. False: nothing has changed."""
        now_ms = self._clock.now_ms()
        frozen = {runner: runner.task.checkpoint(now_ms) for runner in runners}
        for runner in runners:
            runner.at_barrier = False
        if self.sink.began_at_s is None and not any(self._news(r, c) for r, c in frozen.items()):
            for runner, checkpoint in frozen.items():
                runner.task.committed(checkpoint, {})
            return False
        self._pending = frozen
        for checkpoint in frozen.values():
            for topic, records in (*checkpoint.sinks.items(), *checkpoint.changelog.items()):
                self.sink.send(topic, records)
            self._metrics.changelog_records.value += sum(map(len, checkpoint.changelog.values()))
        self.sink.hold()
        self.replies.seal()
        return True

    def _news(self, runner: TaskRunner, checkpoint: Checkpoint) -> bool:
        standing, at_ms = self._committed.get(runner, (None, 0))
        if checkpoint.changelog or checkpoint.sinks or standing != (checkpoint.offsets, checkpoint.clocks):
            return True
        return self._clock.monotonic_ms() - at_ms >= REPEAT_MS

    async def _transact(self) -> bool:
        """Steps 3 and 4."""
        await self.sink.flush()
        wanted = [(topic, r.task.partition) for r, c in self._pending.items() for topic in c.changelog]
        ends = await self.sink.ends(wanted)
        while len(ends) < len(wanted):
            if self.sink.began_at_s is None or monotonic() - self.sink.began_at_s > self.sink.timeout_s:
                self.sink.doom("the ends of changelogs are not known in time")
                return False
            await asyncio.sleep(ENDS_PAUSE_S)
            ends |= await self.sink.ends([place for place in wanted if place not in ends])
        group = await self._source.group()
        positions = self.positions | ends
        offsets = [p for r, c in self._pending.items() for p in offsets_of(c, positions_of(r, positions))]
        if not await self.sink.commit(offsets, group):
            return False
        mine = {(t, r.task.partition) for r in self._pending for t in changelogs_of(r)}
        self.positions |= {place: end for place, end in ends.items() if place in mine}
        return True

    def _finish(self, runner: TaskRunner) -> None:
        """Step 5."""
        checkpoint = self._pending[runner]
        runner.task.committed(checkpoint, positions_of(runner, self.positions))
        self._committed[runner] = (checkpoint.offsets, checkpoint.clocks), self._clock.monotonic_ms()
