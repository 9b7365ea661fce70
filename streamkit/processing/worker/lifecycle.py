"""How tasks come and go: from an assignment to the first record, and to stores that are closed.

    assigned ─► resume ─► restore ─► open ─► read … taken out ─► close ─► a standby copy, or nothing
                   ▲                                   │
                   └────────── begin anew ◄────────────┘ rolled back

A task is opened beside the running ones. It takes its stores from a standby copy where there is one, and
leaves them as one where copies are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from time import perf_counter

import structlog

from streamkit.errors import StreamkitError
from streamkit.processing.patterns import grown
from streamkit.processing.state.store import Store
from streamkit.processing.tasks.inflight import Place
from streamkit.processing.tasks.task import Task
from streamkit.processing.topology import Plan
from streamkit.processing.worker.active_tasks import ActiveTasks
from streamkit.processing.worker.background import Background
from streamkit.processing.worker.committer import AnyCommitter
from streamkit.processing.worker.metrics import WorkerMetrics
from streamkit.processing.worker.progress import Progress, standard_error
from streamkit.processing.worker.restore import ChangelogReader, restore
from streamkit.processing.worker.source import Position, Source
from streamkit.processing.worker.standby import Standbys, TaskName
from streamkit.processing.worker.task_runner import TaskRunner

log = structlog.get_logger("worker")

MakeStores = Callable[[int, int], Mapping[str, Store]]  # of a subtopology, for a partition


class Lifecycle:
    """Opens and closes tasks. None opens before `globals_read`, and none while `standing` is cleared: what
    it made then would go the way of the transaction that is being given up.
    """

    def __init__(
        self,
        plan: Plan,
        tasks: ActiveTasks,
        source: Source,
        changelogs: ChangelogReader,
        committer: AnyCommitter,
        *,
        make_runner: Callable[[Task], TaskRunner],
        make_stores: MakeStores | None,
        standbys: Standbys | None,
        metrics: WorkerMetrics,
        background: Background,
        globals_read: asyncio.Event,
    ) -> None:
        self._plan = plan
        self._tasks = tasks
        self._source = source
        self._changelogs = changelogs
        self._committer = committer
        self._make_runner = make_runner
        self._make_stores = make_stores
        self._standbys = standbys
        self._metrics = metrics
        self._progress = Progress(metrics.restoring, standard_error())
        self._background = background
        self._globals_read = globals_read
        self._opening: dict[TaskRunner, asyncio.Task[None]] = {}
        self._closing: set[TaskName] = set()
        self.standing = asyncio.Event()
        self.standing.set()

    @property
    def opening(self) -> list[TaskRunner]:
        """Tasks that do not read yet."""
        return list(self._opening)

    @property
    def under_way(self) -> Collection[asyncio.Task[None]]:
        """What opens them."""
        return self._opening.values()

    def holds(self, name: TaskName) -> bool:
        """Are stores of this task open here, other than as a standby copy?"""
        return name in self._closing or self._tasks.is_running(name)

    def assigned(self, positions: Sequence[Position]) -> None:
        """Make tasks of the partitions, and open them in the background."""
        self._plan = grown(self._plan, _counts(positions))
        by_task: dict[tuple[int, int], list[Position]] = {}
        for position in positions:
            sub = self._plan.subtopology_reading(position.topic)
            by_task.setdefault((sub.index, position.partition), []).append(position)
        for (index, partition), its_positions in by_task.items():
            runner = self._make(index, partition, self._stores_for(index, partition))
            _check_whole(runner.task, its_positions)
            self._opening[runner] = self._background.start(self._open(runner, its_positions))

    async def close(self, leaving: Sequence[TaskRunner]) -> None:
        """Cancel what they have in hand, and let them go."""
        for runner in leaving:
            runner.ready = False  # none hands anything over while another is being closed
        for runner in leaving:
            opening = self._opening.pop(runner, None)
            if opening is not None:
                opening.cancel()
                await asyncio.wait([opening])
            self._metrics.closed(runner)
            self._committer.forget(runner)
            self._tasks.remove(runner)
            self._closing.add(name := (runner.task.sub.index, runner.task.partition))
            try:
                await runner.close()
            finally:
                self._closing.discard(name)
            self._let_go(runner.task)

    def stop_opening(self, runner: TaskRunner) -> None:
        """It is closed soon."""
        if runner in self._opening:
            self._opening[runner].cancel()

    def begin_anew(self, former: TaskRunner) -> TaskRunner:
        """The task over the same stores, from the last commit on."""
        opening = self._opening.pop(former, None)
        if opening is not None:
            opening.cancel()
        task = former.task
        runner = self._make(task.sub.index, task.partition, task.stores)
        runner.stop_intake()
        self._opening[runner] = self._background.start(self._reopen(runner, opening))
        return runner

    def _make(self, index: int, partition: int, stores: Mapping[str, Store]) -> TaskRunner:
        runner = self._make_runner(Task(self._plan, self._plan.subtopologies[index], partition, stores))
        self._tasks.add(runner)
        return runner

    def _stores_for(self, index: int, partition: int) -> Mapping[str, Store]:
        copy = self._standbys.take((index, partition)) if self._standbys else None
        if copy is not None:
            log.info("task had a standby copy", task=f"{index}_{partition}")
            return copy
        return self._make_stores(index, partition) if self._make_stores else {}

    def _let_go(self, task: Task) -> None:
        """Its stores become a copy, or are closed."""
        name = task.sub.index, task.partition
        if self._standbys is None or not self._standbys.adopt(name, task.stores):
            for store in task.stores.values():
                store.close()

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
        await self.standing.wait()
        runner.open()
        del self._opening[runner]
        await self._source.begin(positions)
        reads = [f"{p.topic}-{p.partition}" for p in positions]
        log.info("task started", task=task.id, reads=reads, seconds=round(perf_counter() - began, 3))

    async def _reopen(self, runner: TaskRunner, former: asyncio.Task[None] | None) -> None:
        """`former`: what opened it before, and is cancelled."""
        if former is not None:
            await asyncio.wait([former])
        await self.standing.wait()
        positions = await self._source.committed(runner.task.places)
        if self._tasks.is_reading(runner):  # else it is leaving
            runner.open_intake()
        await self._open(runner, [self._from_the_beginning(position) for position in positions])

    def _from_the_beginning(self, position: Position) -> Position:
        """Without a commit a rollback goes back to where reading began, not to where it would begin now."""
        if position.offset is not None:
            return position
        began = self._tasks.began.get((position.topic, position.partition))
        return Position(position.topic, position.partition, began, position.metadata)


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
