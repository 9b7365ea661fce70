"""A member of the app's group: the tasks that it was given, and the loop that runs them.

    KafkaSource ──received──► TaskRunner.intake ──slices──► KafkaSink
         │  assigned / revoked / lost                          ▲
         └──────────► Member ──every commit interval──► Committer

The event loop does all the work, in turns: one slice of one task (≤ 1 ms), then everybody else's turn. The
source's thread only fetches.

**Membership.** Assigned partitions become tasks; a task is restored beside the running ones and reads only
then. Revoked ones stop their intake at once, get `DRAIN_S` to finish what agents have in hand, are committed,
and are cancelled. Lost ones are cancelled without a commit. The other tasks go on with what was fetched for
them; librdkafka fetches more once the revocation is answered, which is why the drain has a deadline.

**Exactly-once.** One transaction holds what all tasks produce between two commits, so all commit at one
moment, and a task that leaves makes the others commit with it. When the transaction is doomed (a delivery
failed, the group or the cluster has fenced us, tasks were lost) it is aborted, and every task begins anew at
the last commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from time import monotonic, perf_counter
from typing import Any

import msgspec
import structlog

from streamkit.errors import StreamkitError
from streamkit.processing.patterns import grown
from streamkit.processing.record import RawRecord
from streamkit.processing.state.cache import CACHE_BYTES
from streamkit.processing.state.store import DamagedStoreError, Store
from streamkit.processing.tasks.inflight import Place
from streamkit.processing.tasks.settlement import TaskFailure
from streamkit.processing.tasks.task import Task
from streamkit.processing.topology import Plan
from streamkit.processing.worker.committer import Committer
from streamkit.processing.worker.metrics import LoopLag, WorkerMetrics
from streamkit.processing.worker.new_topics import NewTopics
from streamkit.processing.worker.progress import Progress, standard_error
from streamkit.processing.worker.purge import Purge
from streamkit.processing.worker.replies import NoReplies, Replies, RepliesAfterCommit
from streamkit.processing.worker.restore import ChangelogReader, restore
from streamkit.processing.worker.sink import Sink, TransactionalSink
from streamkit.processing.worker.source import Arrival, Partition, Position, Source
from streamkit.processing.worker.standby import Standbys
from streamkit.processing.worker.task_runner import TaskRunner
from streamkit.processing.worker.timers import run_timer
from streamkit.processing.worker.transactional_committer import TransactionalCommitter
from streamkit.runtime.contracts.clock import Clock
from streamkit.telemetry.instruments import Registry

TICK_S = 0.5
DRAIN_S = 5.0
DRAIN_POLL_S = 0.002
COMMIT_ON_LEAVE_S = 20.0
LONGEST_REST_S = 0.5
DRAIN_SHARE = 0.7  # of a transaction's timeout: so long may its records be in flight
FULL_POLL_S = 0.002
QUEUED_RECORDS = 20_000
LEAST_INTERVAL_S = 0.02

log = structlog.get_logger("worker")


class Member:
    """Runs `plan`'s tasks as the source assigns them. `run()` returns after `stop()`, raises on failure."""

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
        make_stores: Callable[[int, int], Mapping[str, Store]] | None = None,
        cache_bytes: int = CACHE_BYTES,
        transactions: TransactionalSink | None = None,
        standbys: Standbys | None = None,
        replies: Replies | None = None,
        purge: Purge | None = None,
        new_topics: NewTopics | None = None,
    ) -> None:
        self._purge = purge
        self._new_topics = new_topics
        self._plan = plan
        self._source = source
        self._sink = sink
        self._changelogs = changelogs
        self._clock = clock
        self._commit_interval_s = commit_interval_s
        self._make_stores = make_stores
        self._cache_bytes = cache_bytes
        self._standbys = standbys
        self._runners: dict[str, TaskRunner] = {}  # by task
        self._by_place: dict[Place, TaskRunner] = {}  # by each source partition of the task
        self._opening: dict[TaskRunner, asyncio.Task[None]] = {}
        self._ends: dict[Place, int] = {}
        self._rounds_owed = 0  # rounds of records for which the source has not been given room again
        self._globals_read = asyncio.Event()
        self._awake = asyncio.Event()
        self._commit_due = asyncio.Event()  # before the interval is over
        self._stopping = asyncio.Event()
        self._failure: BaseException | None = None
        self._joined = False
        self._background: set[asyncio.Task[None]] = set()
        app = plan.topology.app_id
        self.metrics = WorkerMetrics(registry, app, clock, self._runners.values, lambda: self._ends)
        self._progress = Progress(self.metrics.restoring, standard_error())
        self._transactions = transactions  # the sink, under exactly-once
        self._began: dict[Place, int] = {}  # where reading began without a commit: a rollback goes back there
        self._committer: Committer | TransactionalCommitter
        self._replies = replies or NoReplies()
        if transactions is None:
            self._committer = Committer(
                source, sink, changelogs, clock, self.metrics.commits, replies=self._replies
            )
        else:
            self._replies = after_commit = RepliesAfterCommit(self._replies)
            self._committer = TransactionalCommitter(
                source,
                transactions,
                clock,
                self.metrics.commits,
                self._runners.values,
                replies=after_commit,
            )

    # -- life -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until `stop()`; then drain, commit and leave."""
        if self._transactions is not None:
            await self._transactions.start()
        await self._source.start(self)
        self.metrics.up.value = 1
        self._spawn(self._commit_regularly())
        self._spawn(self._tick_regularly())
        self._spawn(self._follow_globals())
        if self._standbys is not None:
            self._spawn(self._standbys.run(self._source.member_id, self._is_running, self.metrics.standby))
        if self._purge is not None:
            self._spawn(self._purge.run(lambda: list(self._by_place)))
        if self._new_topics is not None:
            self._spawn(self._new_topics.run())
        for timer in self._plan.topology.timers:
            self._spawn(run_timer(timer, self._clock, self._leads))
        try:
            await self._pump()
        except DamagedStoreError as damage:
            self.failed(damage)
        finally:
            self.metrics.up.value = 0
            await self._leave()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Drain and end."""
        self._stopping.set()
        if self._transactions is not None:
            self._transactions.stopping()
        self._wake()

    def not_ready(self) -> list[str]:
        """Why this worker does not process yet, a sentence each."""
        if not self._joined:
            return ["no assignment yet"]
        return [f"task {runner.task.id} is restoring" for runner in self._opening]

    def runner_of(self, task: str) -> TaskRunner | None:
        """The task of this id, if it is at work here; it may still be restoring."""
        return self._runners.get(task)

    def _leads(self) -> bool:
        """One worker of the app does: the one that has the first task."""
        first = self._runners.get("0_0")
        return first is not None and first.ready and first.intake_open

    # -- `source.Listener` ------------------------------------------------------------------------------

    async def assigned(self, positions: Sequence[Position]) -> None:
        self._joined = True
        self._plan = grown(self._plan, _counts(positions))
        by_task: dict[tuple[int, int], list[Position]] = {}
        for position in positions:
            sub = self._plan.subtopology_reading(position.topic)
            by_task.setdefault((sub.index, position.partition), []).append(position)
        for (index, partition), its_positions in by_task.items():
            runner = self._make_runner(index, partition, self._stores_for(index, partition))
            _check_whole(runner.task, its_positions)
            self._opening[runner] = self._spawn(self._open(runner, its_positions))

    async def revoked(self, partitions: Sequence[Partition]) -> None:
        leaving = self._take_out(partitions)
        for runner in leaving:
            runner.stop_intake()
        await self._drain(leaving)
        committed = await self._commit_and_leave(leaving)  # then what is open are records of those that stay
        doomed = leaving and not committed and self._doom("it holds records of tasks that left uncommitted")
        await self._close(leaving)
        if doomed:
            await self._roll_back()

    async def lost(self, partitions: Sequence[Partition]) -> None:
        leaving = self._take_out(partitions)
        log.warning("partitions lost", tasks=[runner.task.id for runner in leaving])
        doomed = leaving and self._doom("it holds records of tasks that were lost")
        await self._close(leaving)
        if doomed:
            await self._roll_back()
        elif leaving and not self._runners:
            self._sink.discard()

    def received(self, arrivals: Sequence[Arrival]) -> None:
        self._rounds_owed += 1
        for arrival in arrivals:
            place = arrival.topic, arrival.partition
            runner = self._by_place.get(place)
            if runner is not None:
                runner.offer(arrival)
                if place not in self._began and (first := _first_offset(arrival)) is not None:
                    self._began[place] = first
        self._sample_latency(arrivals)
        self._wake()

    def failed(self, error: BaseException) -> None:
        """Stop, and raise this from `run`."""
        if isinstance(error, DamagedStoreError):
            error = StreamkitError(
                str(error), hint="start the worker again: it is rebuilt from its changelog"
            )
        if self._failure is None:
            self._failure = error
        self.stop()

    # -- tasks come and go --------------------------------------------------------------------------------

    def _make_runner(self, index: int, partition: int, stores: Mapping[str, Store]) -> TaskRunner:
        task = Task(self._plan, self._plan.subtopologies[index], partition, stores)
        runner = TaskRunner(task, self._sink, self._wake, self._replies)
        self._runners[task.id] = runner
        self._share_caches()
        self._by_place.update((place, runner) for place in task.places)
        return runner

    def _stores_for(self, index: int, partition: int) -> Mapping[str, Store]:
        copy = self._standbys.take((index, partition)) if self._standbys else None
        if copy is not None:
            log.info("task had a standby copy", task=f"{index}_{partition}")
            return copy
        return self._make_stores(index, partition) if self._make_stores else {}

    def _is_running(self, name: tuple[int, int]) -> bool:
        return f"{name[0]}_{name[1]}" in self._runners

    async def _open(self, runner: TaskRunner, positions: Sequence[Position]) -> None:
        """Resume, restore, start, and only then read."""
        task, began = runner.task, perf_counter()
        changelogs: dict[Place, int] = {}
        for position in positions:
            place = (position.topic, position.partition)
            committed = task.resume(place, position.metadata, position.offset)
            for topic, end in committed.changelogs.items():
                known = changelogs.get((topic, task.partition), 0)
                changelogs[topic, task.partition] = max(known, end)
        self._committer.positions |= changelogs
        await self._globals_read.wait()
        runner.changelog_ends = await restore(task, changelogs, self._changelogs, self._progress)
        runner.open()
        del self._opening[runner]
        await self._source.begin(positions)
        reads = [f"{p.topic}-{p.partition}" for p in positions]
        log.info("task started", task=task.id, reads=reads, seconds=round(perf_counter() - began, 3))

    def _take_out(self, partitions: Sequence[Partition]) -> list[TaskRunner]:
        """The tasks of these partitions, which get no more records from here on."""
        leaving = {self._by_place[place]: None for place in partitions if place in self._by_place}
        for runner in leaving:
            for place in runner.task.places:
                self._by_place.pop(place, None)
                self._ends.pop(place, None)
                self._began.pop(place, None)
        return list(leaving)

    async def _drain(self, leaving: Sequence[TaskRunner]) -> None:
        """Let agents finish what they have in hand, until the deadline."""
        deadline = perf_counter() + DRAIN_S
        while any(runner.ready and runner.task.in_flight for runner in leaving):
            if perf_counter() > deadline:
                log.warning("in flight past the deadline: cancelled and left uncommitted")
                break
            await asyncio.sleep(DRAIN_POLL_S)
            for runner in leaving:
                runner.drain()

    async def _commit_and_leave(self, leaving: Sequence[TaskRunner]) -> bool:
        """A last commit. Failing it loses nothing: the next owner starts from the one before. True: all that
        they made is committed.
        """
        try:
            async with asyncio.timeout(COMMIT_ON_LEAVE_S):
                if self._transactions is not None:
                    await self._reach_barriers()
                # twice: the first may only finish a commit that had been postponed
                return await self._committer.commit(leaving) and await self._committer.commit(leaving)
        except TimeoutError:
            log.warning("no commit before leaving: outputs are not acknowledged")
        except StreamkitError as error:
            log.warning("no commit before leaving", error=error.message)
            self.failed(error)
        return False

    def _doom(self, reason: str) -> bool:
        """Before tasks are closed without a commit: another one would go on with their records, and without
        their offsets. False: there is no transaction.
        """
        if self._transactions is None or self._transactions.began_at_s is None:
            return False
        self._transactions.doom(reason)
        return True

    async def _close(self, leaving: Sequence[TaskRunner]) -> None:
        for runner in leaving:
            runner.ready = False  # none hands anything over while another is being closed
        for runner in leaving:
            opening = self._opening.pop(runner, None)
            if opening is not None:
                opening.cancel()
                await asyncio.wait([opening])
            self.metrics.closed(runner)
            self._committer.forget(runner)
            if self._runners.get(runner.task.id) is runner:
                del self._runners[runner.task.id]
                self._share_caches()
            await runner.close()
            self._let_go(runner.task)

    def _share_caches(self) -> None:
        for runner in self._runners.values():
            runner.task.share_caches(len(self._runners), self._cache_bytes)

    def _let_go(self, task: Task) -> None:
        """Its stores become a copy, or are closed."""
        name = task.sub.index, task.partition
        if self._standbys is None or not self._standbys.adopt(name, task.stores):
            for store in task.stores.values():
                store.close()

    async def _roll_back(self) -> None:
        """Abort the transaction, and take every task back to the last commit.

        The tasks begin anew at once, beside whatever the group does meanwhile; they open when the abort is
        done. Their stores are at a commit, and what the last one wrote, if its outcome is unknown, is read
        from the changelogs as in any restore.
        """
        assert self._transactions is not None and isinstance(self._committer, TransactionalCommitter)
        async with self._committer.turn:
            if not self._transactions.doomed:
                return
            former, aborted = list(self._runners.values()), asyncio.Event()
            leaving = [runner for runner in former if self._by_place.get(runner.task.places[0]) is not runner]
            anew = [self._begin_anew(runner, aborted) for runner in former if runner not in leaving]
            for runner in former:
                self._committer.forget(runner)
                if runner in leaving:  # whoever takes it out closes it; from here on it commits nothing
                    self._stop_opening(runner)
                else:
                    self.metrics.closed(runner)
                await runner.close()
            await self._source.halt([place for runner in anew for place in runner.task.places])
            await self._transactions.abort()
            self._committer.replies.drop()
            log.warning("rolled back to the last commit", tasks=[runner.task.id for runner in former])
            aborted.set()

    def _stop_opening(self, runner: TaskRunner) -> None:
        if runner in self._opening:
            self._opening[runner].cancel()

    def _begin_anew(self, former: TaskRunner, aborted: asyncio.Event) -> TaskRunner:
        opening = self._opening.pop(former, None)
        if opening is not None:
            opening.cancel()
        task = former.task
        runner = self._make_runner(task.sub.index, task.partition, task.stores)
        runner.stop_intake()

        async def reopen() -> None:
            if opening is not None:
                await asyncio.wait([opening])
            await aborted.wait()
            positions = await self._source.committed(task.places)
            if any(self._by_place.get(place) is runner for place in task.places):  # else it is leaving
                runner.open_intake()
            await self._open(runner, [self._from_the_beginning(p) for p in positions])

        self._opening[runner] = self._spawn(reopen())
        return runner

    def _from_the_beginning(self, position: Position) -> Position:
        """Without a commit a rollback goes back to where reading began, not to where it would begin now."""
        if position.offset is not None:
            return position
        return msgspec.structs.replace(position, offset=self._began.get((position.topic, position.partition)))

    async def _leave(self) -> None:
        """Drain and commit while the source still answers for sure, then leave the group."""
        for task in list(self._background):
            if task not in self._opening.values():
                task.cancel()
        if self._standbys is not None:
            await self._standbys.close()
        await self.revoked(list(self._by_place))
        try:
            await self._source.close()
        finally:
            await self._close(list(self._runners.values()))
            await self._sink.close()
            await self._replies.close()

    # -- the loop -----------------------------------------------------------------------------------------

    async def _pump(self) -> None:
        """Slices in turn, until stopped."""
        while not self._stopping.is_set():
            self._sink.serve()
            if self._transactions is not None and self._transactions.doomed:
                await self._roll_back()
            ran = False
            for runner in list(self._runners.values()):
                runner.drain()
                self._heed_failure(runner)
                if self._sink.full or not runner.can_run(self._clock.now_ms()):
                    continue
                if runner.task.full and self._committer.commits(runner):
                    continue
                ran = True
                began = perf_counter()
                runner.run_slice(self._clock.now_ms())
                self._took(perf_counter() - began)
                if runner.task.crowded:
                    self._commit_due.set()
                self._heed_failure(runner)
                await asyncio.sleep(0)
                if self._stopping.is_set():
                    return
            self._make_room()
            if not ran:
                await self._rest()

    async def _rest(self) -> None:
        """Until something may run again."""
        now_ms = self._clock.now_ms()
        blocked = self._sink.full or any(runner.queued for runner in self._runners.values())
        waits = [r.wake_at_ms - now_ms for r in self._runners.values() if r.wake_at_ms is not None]
        longest = FULL_POLL_S if self._sink.full else LONGEST_REST_S
        wait_s = min([longest, *(max(wait, 1) / 1000 for wait in waits)])
        began = perf_counter()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._awake.wait(), wait_s)
        self._awake.clear()
        (self.metrics.blocked if blocked else self.metrics.idle).value += perf_counter() - began

    @property
    def _queued(self) -> int:
        """Records that wait for their turn; those that wait for more records must not keep them away."""
        return sum(runner.queued for runner in self._runners.values() if not runner.waits_for_input)

    def _make_room(self) -> None:
        """Give the source room for as many rounds as were received, unless too much still waits."""
        if self._rounds_owed and self._queued < QUEUED_RECORDS:
            for _ in range(self._rounds_owed):
                self._source.taken()
            self._rounds_owed = 0

    def _heed_failure(self, runner: TaskRunner) -> None:
        if runner.task.failure is not None:
            self.failed(_explained(runner.task.failure))
        elif runner.failure is not None:
            self.failed(runner.failure)

    def _took(self, seconds: float) -> None:
        self.metrics.busy.value += seconds
        self.metrics.batch_seconds.observe(seconds)

    def _wake(self) -> None:
        self._awake.set()

    async def _follow_globals(self) -> None:
        """Read global tables to their ends, then go on; tasks open after the first."""
        tables = {table.topic.name: table for table in self._plan.topology.global_tables}
        counts = self._plan.partition_counts
        places = [(topic, partition) for topic in tables for partition in range(counts[topic])]
        if not places:
            self._globals_read.set()
            return

        def apply(place: Place, records: Sequence[RawRecord]) -> None:
            for table in self._plan.topology.global_tables:
                if table.topic.name == place[0]:
                    table.apply(records)

        await self._changelogs.follow(dict.fromkeys(places, 0), apply, self._globals_read.set)

    # -- at intervals -------------------------------------------------------------------------------------

    async def _commit_regularly(self) -> None:
        while True:
            await asyncio.sleep(min(LEAST_INTERVAL_S, self._commit_interval_s))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._commit_due.wait(), self._commit_interval_s - LEAST_INTERVAL_S)
            self._commit_due.clear()
            await self._reach_barriers()
            await self._committer.commit([runner for runner in self._runners.values() if runner.ready])

    async def _reach_barriers(self) -> None:
        """Tasks with state and agents commit with nothing in flight: hold their records back until then.

        In a transaction every task commits so, and all at one moment.
        """
        together = self._transactions is not None
        runners = [runner for runner in self._runners.values() if runner.ready]
        waiting = [
            r for r in runners if together or not (r.task.can_checkpoint() or self._committer.commits(r))
        ]
        for runner in waiting:
            runner.at_barrier = True
        deadline = perf_counter() + self._commit_interval_s
        while perf_counter() < deadline and any(not r.task.can_checkpoint() and r.ready for r in waiting):
            self._heed_age()
            await asyncio.sleep(DRAIN_POLL_S)
            for runner in waiting if together else ():
                runner.drain()

    def _heed_age(self) -> None:
        """A transaction that the cluster is about to abort is aborted here first."""
        sink = self._transactions
        if sink is None or sink.began_at_s is None or sink.doomed:
            return
        if monotonic() - sink.began_at_s > sink.timeout_s * DRAIN_SHARE:
            sink.doom(
                f"records were in flight for most of its timeout of {sink.timeout_s:g} s; agents that take "
                "longer need a larger transaction.timeout.ms in App(kafka=...)"
            )
            self._wake()

    async def _tick_regularly(self) -> None:
        lag = LoopLag(TICK_S)
        while True:
            await asyncio.sleep(TICK_S)
            self.metrics.loop_lag.value = lag.tick()
            self._ends |= await self._source.known_ends(list(self._by_place))
            for runner in list(self._runners.values()):
                caught_up = await self._caught_up(runner)
                if runner.ready and runner.intake_open:  # who leaves makes nothing more
                    runner.tick(self._clock.now_ms(), caught_up)
            lag.restart()

    async def _caught_up(self, runner: TaskRunner) -> set[Place]:
        """The partitions of which everything is processed. Before they count as idle, the broker confirms
        that nothing was added: an end seen long ago may be the last word of a broker that is gone.
        """
        idle_at_ms = runner.task.clock.idle_at_ms()
        if idle_at_ms is None or self._clock.now_ms() < idle_at_ms:
            return set(runner.at_end)
        ends = await self._source.ends(list(runner.at_end))
        return {place for place, end in runner.at_end.items() if ends.get(place) == end}

    def _sample_latency(self, arrivals: Sequence[Arrival]) -> None:
        now_ms = self._clock.now_ms()
        for arrival in arrivals:
            if arrival.records:
                self.metrics.e2e.observe(max(0, now_ms - arrival.records[-1].timestamp()[1]) / 1000)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed(error)


def _first_offset(arrival: Arrival) -> int | None:
    return arrival.records[0].offset() if arrival.records else arrival.end_offset


def _counts(positions: Sequence[Position]) -> dict[str, int]:
    """How many partitions topics have at least."""
    counts: dict[str, int] = {}
    for position in positions:
        counts[position.topic] = max(counts.get(position.topic, 0), position.partition + 1)
    return counts


def _check_whole(task: Task, positions: Sequence[Position]) -> None:
    """A task's partitions belong together: two owners would both write its state."""
    given = {(position.topic, position.partition) for position in positions}
    missing = [f"{topic}-{number}" for topic, number in task.places if (topic, number) not in given]
    if missing:
        raise StreamkitError(
            f"the task {task.id} was assigned without {', '.join(missing)}: it has two owners",
            hint="stop every worker of this app, then start them with one version of it",
        )


def _explained(failure: TaskFailure) -> StreamkitError:
    at = f" at {failure.place[0]}-{failure.place[1]}, offset {failure.offset}" if failure.place else ""
    explained = StreamkitError(
        f"{failure.operator} failed{at}: {type(failure.error).__name__}: {failure.error}",
        hint="fix it and start again: nothing past that record is committed (or declare on_error=)",
    )
    explained.__cause__ = failure.error
    return explained
