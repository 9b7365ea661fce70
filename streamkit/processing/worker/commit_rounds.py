"""When a worker commits: at intervals, sooner where a task has no room for more, and as tasks leave.

Tasks with state and agents commit with nothing in flight, so a commit waits at their *barrier*: they get no
new records until what agents have in hand is done, or the interval is over again. In a transaction every task
commits so, and all at one moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import perf_counter

import structlog

from streamkit.errors import StreamkitError
from streamkit.processing.worker.active_tasks import ActiveTasks
from streamkit.processing.worker.committer import AnyCommitter
from streamkit.processing.worker.keyless import Keyless
from streamkit.processing.worker.rollbacks import Rollbacks
from streamkit.processing.worker.task_runner import TaskRunner

DRAIN_S = 5.0
DRAIN_POLL_S = 0.002
COMMIT_ON_LEAVE_S = 20.0
LEAST_INTERVAL_S = 0.02

log = structlog.get_logger("worker")


class CommitRounds:
    """`due` is set for a commit before the interval is over. `rollbacks`: under exactly-once. `failed` is
    told what the worker cannot go on with.
    """

    def __init__(
        self,
        tasks: ActiveTasks,
        committer: AnyCommitter,
        interval_s: float,
        *,
        rollbacks: Rollbacks | None,
        failed: Callable[[BaseException], None],
    ) -> None:
        self.due = asyncio.Event()
        self._tasks = tasks
        self._committer = committer
        self._interval_s = interval_s
        self._rollbacks = rollbacks
        self._failed = failed
        self._keyless = Keyless()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(min(LEAST_INTERVAL_S, self._interval_s))
            with suppress(TimeoutError):
                await asyncio.wait_for(self.due.wait(), self._interval_s - LEAST_INTERVAL_S)
            self.due.clear()
            await self._reach_barriers()
            await self._committer.commit(self._tasks.ready)
            self._keyless.look(runner.task for runner in self._tasks.ready)

    def under_way(self, runner: TaskRunner) -> bool:
        """Is the task being committed?"""
        return self._committer.commits(runner)

    async def drain(self, leaving: Sequence[TaskRunner]) -> None:
        """Let agents finish what they have in hand, until the deadline."""
        deadline = perf_counter() + DRAIN_S
        while any(_may_finish(runner) for runner in leaving):
            if perf_counter() > deadline:
                log.warning("in flight past the deadline: cancelled and left uncommitted")
                break
            await asyncio.sleep(DRAIN_POLL_S)
            for runner in leaving:
                runner.drain()

    async def last(self, leaving: Sequence[TaskRunner]) -> bool:
        """A last commit. Failing it loses nothing: the next owner starts from the one before. True: all that
        they made is committed.
        """
        try:
            async with asyncio.timeout(COMMIT_ON_LEAVE_S):
                if self._rollbacks is not None:
                    await self._reach_barriers()
                # twice: the first may only finish a commit that had been postponed
                return await self._committer.commit(leaving) and await self._committer.commit(leaving)
        except TimeoutError:
            log.warning("no commit before leaving: outputs are not acknowledged")
        except StreamkitError as error:
            log.warning("no commit before leaving", error=error.message)
            self._failed(error)
        return False

    async def _reach_barriers(self) -> None:
        together = self._rollbacks is not None
        waiting = [
            runner
            for runner in self._tasks.ready
            if together or not (runner.task.can_checkpoint() or self._committer.commits(runner))
        ]
        for runner in waiting:
            runner.at_barrier = True
        deadline = perf_counter() + self._interval_s
        while perf_counter() < deadline and any(not r.task.can_checkpoint() and r.ready for r in waiting):
            if self._rollbacks is not None:
                self._rollbacks.heed_age()
            await asyncio.sleep(DRAIN_POLL_S)
            for runner in waiting if together else ():
                runner.drain()


def _may_finish(runner: TaskRunner) -> bool:
    """A task that failed keeps the record at which it did: waiting for that helps nobody."""
    failed = runner.task.failure is not None or runner.failure is not None
    return runner.ready and runner.task.in_flight > 0 and not failed
