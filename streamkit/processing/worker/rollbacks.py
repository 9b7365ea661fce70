"""Under exactly-once: when a transaction is given up, and how every task begins anew at the last commit.

One transaction holds what all tasks produce between two commits. It is doomed when a delivery failed, when
the group or the cluster has fenced us, when it holds records of tasks that left without a commit, and when it
has become so old that the cluster is about to abort it.
"""

from __future__ import annotations

import asyncio
from time import monotonic

import structlog

from streamkit.processing.worker.active_tasks import ActiveTasks
from streamkit.processing.worker.lifecycle import Lifecycle
from streamkit.processing.worker.metrics import WorkerMetrics
from streamkit.processing.worker.source import Source
from streamkit.processing.worker.transactional_committer import TransactionalCommitter

DRAIN_SHARE = 0.7  # of a transaction's timeout: so long may its records be in flight

log = structlog.get_logger("worker")


class Rollbacks:
    """Of one worker's transactions. `awake` is set when one has become due."""

    def __init__(
        self,
        committer: TransactionalCommitter,
        source: Source,
        tasks: ActiveTasks,
        lifecycle: Lifecycle,
        *,
        metrics: WorkerMetrics,
        awake: asyncio.Event,
    ) -> None:
        self._sink = committer.sink
        self._committer = committer
        self._source = source
        self._tasks = tasks
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._awake = awake

    @property
    def due(self) -> bool:
        return self._sink.doomed

    def give_up(self, reason: str) -> bool:
        """Doom the open transaction. False: none is open."""
        if self._sink.began_at_s is None:
            return False
        self._sink.doom(reason)
        return True

    def heed_age(self) -> None:
        """A transaction that the cluster is about to abort is given up here first."""
        sink = self._sink
        if sink.began_at_s is None or sink.doomed:
            return
        if monotonic() - sink.began_at_s > sink.timeout_s * DRAIN_SHARE:
            sink.doom(
                f"records were in flight for most of its timeout of {sink.timeout_s:g} s; agents that take "
                "longer need a larger transaction.timeout.ms in App(kafka=...)"
            )
            self._awake.set()

    async def carry_out(self) -> None:
        """Abort the transaction, and take every task back to the last commit.

        The tasks begin anew at once, beside whatever the group does meanwhile; they open when the abort is
        done. Their stores are at a commit, and what the last one wrote, if its outcome is unknown, is read
        from the changelogs as in any restore.
        """
        async with self._committer.turn:
            if not self.due:
                return
            self._lifecycle.standing.clear()
            former = list(self._tasks)
            leaving = [runner for runner in former if not self._tasks.is_reading(runner)]
            anew = [self._lifecycle.begin_anew(runner) for runner in former if runner not in leaving]
            for runner in former:
                self._committer.forget(runner)
                if runner in leaving:  # whoever takes it out closes it; from here on it commits nothing
                    self._lifecycle.stop_opening(runner)
                else:
                    self._metrics.closed(runner)
                await runner.close()
            await self._source.halt([place for runner in anew for place in runner.task.places])
            self._committer.replies.drop()
            await self._sink.abort()
            log.warning("rolled back to the last commit", tasks=[runner.task.id for runner in former])
            self._lifecycle.standing.set()
