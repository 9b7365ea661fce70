"""A member of the app's group: what happens when the group, the source or the user says so.

    KafkaSource ──received──► TaskRunner.intake ──slices (`Turns`)──► KafkaSink
         │  assigned / revoked / lost                                    ▲
         └──────────► Member ──every commit interval (`CommitRounds`)──► Committer

The event loop does all the work, in turns: one slice of one task (≤ 1 ms), then everybody else's turn. The
source's thread only fetches.

**Membership.** Assigned partitions become tasks; a task is restored beside the running ones and reads only
then (`Lifecycle`). Revoked ones stop their intake at once, get some time to finish what agents have in hand,
are committed, and are cancelled. Lost ones are cancelled without a commit. The other tasks go on with what
was fetched for them; librdkafka fetches more once the revocation is answered, which is why the drain has a
deadline.

**Exactly-once.** One transaction holds what all tasks produce between two commits, so all commit at one
moment, and a task that leaves makes the others commit with it. When the transaction is doomed it is aborted,
and every task begins anew at the last commit (`Rollbacks`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

import structlog

from streamkit.errors import StreamkitError
from streamkit.processing.state.cache import CACHE_BYTES
from streamkit.processing.state.store import DamagedStoreError
from streamkit.processing.tasks.task import Task
from streamkit.processing.topology import Plan
from streamkit.processing.worker.active_tasks import ActiveTasks
from streamkit.processing.worker.background import Background
from streamkit.processing.worker.commit_rounds import CommitRounds
from streamkit.processing.worker.committer import Committer
from streamkit.processing.worker.deleted_topics import DeletedTopics
from streamkit.processing.worker.global_tables import follow_globals
from streamkit.processing.worker.lifecycle import Lifecycle, MakeStores
from streamkit.processing.worker.metrics import WorkerMetrics
from streamkit.processing.worker.new_topics import NewTopics
from streamkit.processing.worker.purge import Purge
from streamkit.processing.worker.replies import NoReplies, Replies, RepliesAfterCommit
from streamkit.processing.worker.restore import ChangelogReader
from streamkit.processing.worker.rollbacks import Rollbacks
from streamkit.processing.worker.sink import Sink, TransactionalSink
from streamkit.processing.worker.source import Arrival, Partition, Position, Source
from streamkit.processing.worker.standby import Standbys
from streamkit.processing.worker.task_runner import TaskRunner
from streamkit.processing.worker.ticks import tick
from streamkit.processing.worker.timers import run_timer
from streamkit.processing.worker.transactional_committer import TransactionalCommitter
from streamkit.processing.worker.turns import Turns
from streamkit.runtime.contracts.clock import Clock
from streamkit.telemetry.instruments import Registry

log = structlog.get_logger("worker")


class Member:
    """Runs `plan`'s tasks as the source assigns them. `run()` returns after `stop()`, raises on failure.

    `transactions`: the sink, under exactly-once.
    """

    def __init__(
        self,
        plan: Plan,
        source: Source,
        sink: Sink,
        changelogs: ChangelogReader,
        *,
        clock: Clock,
        registry: Registry,
        commit_interval_s: float,
        make_stores: MakeStores | None = None,
        cache_bytes: int = CACHE_BYTES,
        transactions: TransactionalSink | None = None,
        standbys: Standbys | None = None,
        replies: Replies | None = None,
        purge: Purge | None = None,
        new_topics: NewTopics | None = None,
        deleted_topics: DeletedTopics | None = None,
    ) -> None:
        awake = asyncio.Event()
        self.tasks = ActiveTasks(cache_bytes)
        self.metrics = metrics = WorkerMetrics(
            registry, plan.topology.app_id, clock, lambda: self.tasks, lambda: self.tasks.ends
        )
        self._plan = plan
        self._source = source
        self._sink = sink
        self._changelogs = changelogs
        self._clock = clock
        self._awake = awake
        self._transactions = transactions
        self._standbys = standbys
        self._purge = purge
        self._new_topics = new_topics
        self._deleted_topics = deleted_topics
        self._failure: BaseException | None = None
        self._joined = False
        self._globals_read = asyncio.Event()
        self._background = Background(self.failed)
        self._replies: Replies = replies or NoReplies()
        self.committer: Committer | TransactionalCommitter
        if transactions is None:
            self.committer = Committer(
                source, sink, changelogs, clock, metrics.commits, replies=self._replies
            )
        else:
            self._replies = after_commit = RepliesAfterCommit(self._replies)
            self.committer = TransactionalCommitter(
                source, transactions, clock, metrics.commits, lambda: self.tasks, replies=after_commit
            )
        self._lifecycle = Lifecycle(
            plan,
            self.tasks,
            source,
            changelogs,
            self.committer,
            make_runner=self._make_runner,
            make_stores=make_stores,
            standbys=standbys,
            metrics=metrics,
            background=self._background,
            globals_read=self._globals_read,
        )
        self._rollbacks: Rollbacks | None = None
        if isinstance(self.committer, TransactionalCommitter):
            self._rollbacks = Rollbacks(
                self.committer, source, self.tasks, self._lifecycle, metrics=metrics, awake=awake
            )
        self._commits = CommitRounds(
            self.tasks,
            self.committer,
            commit_interval_s,
            rollbacks=self._rollbacks,
            failed=self.failed,
        )
        self._turns = Turns(
            self.tasks,
            source,
            sink,
            commits=self._commits,
            rollbacks=self._rollbacks,
            clock=clock,
            metrics=metrics,
            awake=awake,
            failed=self.failed,
        )

    # -- life -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until `stop()`; then drain, commit and leave."""
        if self._transactions is not None:
            await self._transactions.start()
        await self._source.start(self)
        self.metrics.up.value = 1
        self._start_background()
        try:
            await self._turns.run()
        except DamagedStoreError as damage:
            self.failed(damage)
        finally:
            self.metrics.up.value = 0
            await self._leave()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Drain and end."""
        if self._transactions is not None:
            self._transactions.stopping()
        self._turns.stop()

    def not_ready(self) -> list[str]:
        """Why this worker does not process yet, a sentence each."""
        if not self._joined:
            return ["no assignment yet"]
        return [f"task {runner.task.id} is restoring" for runner in self._lifecycle.opening]

    # -- `source.Listener` ----------------------------------------------------------------------------

    async def assigned(self, positions: Sequence[Position]) -> None:
        self._joined = True
        self._lifecycle.assigned(positions)

    async def revoked(self, partitions: Sequence[Partition]) -> None:
        leaving = self.tasks.take_out(partitions)
        for runner in leaving:
            runner.stop_intake()
        await self._commits.drain(leaving)
        committed = await self._commits.last(leaving)  # then what is open are records of those that stay
        doomed = leaving and not committed and self._give_up("it has records of tasks that left uncommitted")
        await self._lifecycle.close(leaving)
        if doomed:
            await self._roll_back()

    async def lost(self, partitions: Sequence[Partition]) -> None:
        leaving = self.tasks.take_out(partitions)
        log.warning("partitions lost", tasks=[runner.task.id for runner in leaving])
        doomed = leaving and self._give_up("it holds records of tasks that were lost")
        await self._lifecycle.close(leaving)
        if doomed:
            await self._roll_back()
        elif leaving and not self.tasks:
            self._sink.discard()

    def received(self, arrivals: Sequence[Arrival]) -> None:
        for arrival in arrivals:
            self.tasks.offer(arrival)
        self.metrics.sample_latency(arrivals)
        self._turns.received()

    def failed(self, error: BaseException) -> None:
        """Stop, and raise this from `run`."""
        if isinstance(error, DamagedStoreError):
            error = StreamkitError(
                str(error), hint="start the worker again: it is rebuilt from its changelog"
            )
        if self._failure is None:
            self._failure = error
        self.stop()

    # -- inside ---------------------------------------------------------------------------------------

    def _give_up(self, reason: str) -> bool:
        """Before tasks are closed without a commit: another one would go on with their records, and without
        their offsets. False: there is no transaction.
        """
        return self._rollbacks is not None and self._rollbacks.give_up(reason)

    async def _roll_back(self) -> None:
        if self._rollbacks is None:
            return
        try:
            await self._rollbacks.carry_out()
        except StreamkitError as error:
            self.failed(error)

    def _make_runner(self, task: Task) -> TaskRunner:
        return TaskRunner(task, self._sink, self._awake.set, self._replies)

    def _start_background(self) -> None:
        start = self._background.start
        start(self._commits.run())
        start(tick(self.tasks, self._source, self._clock, self.metrics))
        start(follow_globals(self._plan, self._changelogs, self._globals_read.set))
        if self._standbys is not None:
            start(self._standbys.run(self._source.member_id, self._lifecycle.holds, self.metrics.standby))
        if self._purge is not None:
            start(self._purge.run(lambda: self.tasks.places))
        if self._new_topics is not None:
            start(self._new_topics.run())
        if self._deleted_topics is not None:
            start(self._deleted_topics.run())
        for timer in self._plan.topology.timers:
            start(run_timer(timer, self._clock, self._leads))

    def _leads(self) -> bool:
        """One worker of the app does: the one that has the first task."""
        first = self.tasks.named("0_0")
        return first is not None and first.ready and first.intake_open

    async def _leave(self) -> None:
        """Drain and commit while the source still answers for sure, then leave the group: that whatever goes
        wrong before.
        """
        async with AsyncExitStack() as after:  # from the last to the first
            after.push_async_callback(self._replies.close)
            after.push_async_callback(self._sink.close)
            after.push_async_callback(self._close_tasks)
            after.push_async_callback(self._source.close)
            self._background.cancel(but=self._lifecycle.under_way)
            if self._standbys is not None:
                await self._standbys.close()
            await self.revoked(self.tasks.places)

    async def _close_tasks(self) -> None:
        """Those that are left."""
        await self._lifecycle.close(list(self.tasks))
