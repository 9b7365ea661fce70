"""The worker's loop: one slice of one task (≤ 1 ms), then everybody else's turn, until stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter

from streamkit.processing.worker.active_tasks import ActiveTasks
from streamkit.processing.worker.commit_rounds import CommitRounds
from streamkit.processing.worker.failures import explained
from streamkit.processing.worker.metrics import WorkerMetrics
from streamkit.processing.worker.rollbacks import Rollbacks
from streamkit.processing.worker.sink import Sink
from streamkit.processing.worker.source import Source
from streamkit.processing.worker.task_runner import TaskRunner
from streamkit.runtime.contracts.clock import Clock

LONGEST_REST_S = 0.5
FULL_POLL_S = 0.002
QUEUED_RECORDS = 20_000


class Turns:
    """Runs slices of `tasks`; `awake` is set when something may. `failed` is told what ends the worker."""

    def __init__(
        self,
        tasks: ActiveTasks,
        source: Source,
        sink: Sink,
        *,
        commits: CommitRounds,
        rollbacks: Rollbacks | None,
        clock: Clock,
        metrics: WorkerMetrics,
        awake: asyncio.Event,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._tasks = tasks
        self._source = source
        self._sink = sink
        self._commits = commits
        self._rollbacks = rollbacks
        self._clock = clock
        self._metrics = metrics
        self._awake = awake
        self._failed = failed
        self._stopping = asyncio.Event()
        self._rounds_owed = 0  # rounds of records for which the source has not been given room again

    def stop(self) -> None:
        self._stopping.set()
        self._awake.set()

    def received(self) -> None:
        """A round of records has come."""
        self._rounds_owed += 1
        self._awake.set()

    async def run(self) -> None:
        """Slices in turn, until stopped."""
        while not self._stopping.is_set():
            self._sink.serve()
            if self._rollbacks is not None and self._rollbacks.due:
                await self._rollbacks.carry_out()
            ran = False
            for runner in self._tasks:
                if not self._take_turn(runner):
                    continue
                ran = True
                await asyncio.sleep(0)
                if self._stopping.is_set():
                    return
            self._make_room()
            if not ran:
                await self._rest()

    def _take_turn(self, runner: TaskRunner) -> bool:
        """A slice of the task, if it may have one now."""
        runner.drain()
        self._heed_failure(runner)
        if self._sink.full or not runner.can_run(self._clock.now_ms()):
            return False
        if runner.task.full and self._commits.under_way(runner):
            return False
        began = perf_counter()
        runner.run_slice(self._clock.now_ms())
        seconds = perf_counter() - began
        self._metrics.busy.value += seconds
        self._metrics.batch_seconds.observe(seconds)
        if runner.task.crowded:
            self._commits.due.set()
        self._heed_failure(runner)
        return True

    async def _rest(self) -> None:
        """Until something may run again."""
        now_ms = self._clock.now_ms()
        blocked = self._sink.full or any(runner.queued for runner in self._tasks)
        waits = [r.wake_at_ms - now_ms for r in self._tasks if r.wake_at_ms is not None]
        longest = FULL_POLL_S if self._sink.full else LONGEST_REST_S
        wait_s = min([longest, *(max(wait, 1) / 1000 for wait in waits)])
        began = perf_counter()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._awake.wait(), wait_s)
        self._awake.clear()
        (self._metrics.blocked if blocked else self._metrics.idle).value += perf_counter() - began

    @property
    def _queued(self) -> int:
        """Records that wait for their turn; those that wait for more records must not keep them away."""
        return sum(runner.queued for runner in self._tasks if not runner.waits_for_input)

    def _make_room(self) -> None:
        """Give the source room for as many rounds as were received, unless too much still waits."""
        if self._rounds_owed and self._queued < QUEUED_RECORDS:
            for _ in range(self._rounds_owed):
                self._source.taken()
            self._rounds_owed = 0

    def _heed_failure(self, runner: TaskRunner) -> None:
        if runner.task.failure is not None:
            self._failed(explained(runner.task.failure))
        elif runner.failure is not None:
            self._failed(runner.failure)
