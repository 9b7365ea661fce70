"""Who shall run which task: Kafka's sticky task assignor, `sticky`.

Three wishes, the first the strongest: members have equally many tasks; a task stays where its state is; a
process never holds a task twice. So active tasks go first to the member that had them, then to one that kept
a copy, each up to its even share of what is left, and the rest to the least loaded process (tasks for each of
its members). Standby tasks, if the group wants any, follow in the same way, to processes that do not have the
task yet; where there are too few processes, some standbys stay unassigned.

The even share is of those that can still take more: when a member has reached it, what is left is shared anew
among the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from streamkit.broker.coordination.group.streams.internal_topics import ConfiguredSubtopology
from streamkit.broker.coordination.group.streams.tasks import Task, Tasks


class Claimant(NamedTuple):
    """A member, and its part of the last assignment."""

    member_id: str
    process_id: str
    had: Tasks


def assign(
    claimants: Sequence[Claimant],
    subtopologies: Mapping[str, ConfiguredSubtopology],
    standby_replicas: int,
) -> dict[str, Tasks]:
    """Each claimant's part; there is at least one claimant."""
    division = _Division(claimants, subtopologies, standby_replicas)
    division.assign_active()
    if standby_replicas:
        division.assign_standby()
    return {
        claimant.member_id: Tasks(
            active=frozenset(division.active[claimant.member_id]),
            standby=frozenset(division.standby[claimant.member_id]),
        )
        for claimant in claimants
    }


class _Process:
    """A process on its way to its part."""

    def __init__(self, order: int) -> None:
        self.order = order
        self.task_counts: dict[str, int] = {}
        """Of each of its members."""
        self.tasks: set[Task] = set()

    @property
    def load(self) -> float:
        return len(self.tasks) / len(self.task_counts)

    def least_loaded(self) -> str:
        return min(self.task_counts, key=lambda member_id: (self.task_counts[member_id], member_id))


class _Share:
    """How many tasks a member takes at most, while `tasks` of them are shared by `members`."""

    def __init__(self, tasks: int, members: int) -> None:
        self._tasks = tasks
        self._members = members
        self.size = _rounded_up(tasks, members)

    def took(self, count: int) -> None:
        """A member has this many now."""
        if count == self.size:
            self._members -= 1
            self._tasks -= count
            self.size = _rounded_up(self._tasks, self._members)


class _Division:
    def __init__(
        self,
        claimants: Sequence[Claimant],
        subtopologies: Mapping[str, ConfiguredSubtopology],
        standby_replicas: int,
    ) -> None:
        self.active: dict[str, list[Task]] = defaultdict(list)
        self.standby: dict[str, list[Task]] = defaultdict(list)
        self._replicas = standby_replicas
        self._tasks = [
            Task(name, number) for name, one in subtopologies.items() for number in range(one.tasks)
        ]
        self._stateful = [task for task in self._tasks if subtopologies[task.subtopology].is_stateful]
        self._process_of: dict[str, _Process] = {}
        self._ran: dict[Task, str] = {}
        self._kept: dict[Task, list[str]] = defaultdict(list)
        self._remember(claimants)
        self._active_share = _Share(len(self._tasks), len(claimants))
        self._share = _Share(len(self._tasks) + standby_replicas * len(self._stateful), len(claimants))

    def _remember(self, claimants: Iterable[Claimant]) -> None:
        processes: dict[str, _Process] = {}
        for member_id, process_id, had in claimants:
            process = processes.setdefault(process_id, _Process(len(processes)))
            process.task_counts[member_id] = 0
            self._process_of[member_id] = process
            self._ran.update(dict.fromkeys(had.active, member_id))
            for task in sorted(had.standby):
                self._kept[task].append(member_id)

    # ── active ─────────────────────────────────────────────────────────────────────────────────────────

    def assign_active(self) -> None:
        tasks = sorted(self._tasks, key=lambda task: (task.partition, task.subtopology))
        tasks = [task for task in tasks if not self._run_where(self._ran.get(task), task)]
        tasks = [task for task in tasks if not self._run_where(self._least_loaded(self._kept[task]), task)]
        queue = self._by_load()
        for task in sorted(tasks):
            process = heappop(queue)[-1]
            self._give(process.least_loaded(), task, self.active)
            heappush(queue, (process.load, process.order, process))

    def _run_where(self, member_id: str | None, task: Task) -> bool:
        if member_id is None or self._count(member_id) >= self._active_share.size:
            return False
        self._give(member_id, task, self.active)
        return True

    # ── standby ────────────────────────────────────────────────────────────────────────────────────────

    def assign_standby(self) -> None:
        """From the last task to the first, so that what is left over meets other members than active ones."""
        left: dict[Task, int] = {}
        for task in sorted(self._stateful, key=lambda task: (task.partition, task.subtopology), reverse=True):
            left[task] = self._replicas - self._keep_where_it_was(task)
        queue = self._by_load()
        for task in sorted(left, reverse=True):
            for _ in range(left[task]):
                if not self._keep_where_load_is_least(task, queue):
                    break

    def _keep_where_it_was(self, task: Task) -> int:
        """How many copies could stay with members that had the task."""
        for copies in range(self._replicas):
            ran = self._ran.get(task)
            if not self._keep_at(ran, task) and not self._keep_at(
                self._least_loaded(self._kept[task], lacking=task), task
            ):
                return copies
        return self._replicas

    def _keep_at(self, member_id: str | None, task: Task) -> bool:
        if member_id is None or task in self._process_of[member_id].tasks:
            return False
        if self._count(member_id) >= self._share.size:
            return False
        self._give(member_id, task, self.standby)
        return True

    def _keep_where_load_is_least(self, task: Task, queue: list[tuple[float, int, _Process]]) -> bool:
        """False if every process has the task."""
        having = []
        while queue and task in queue[0][-1].tasks:
            having.append(heappop(queue))
        is_lacking = bool(queue)
        if is_lacking:
            process = heappop(queue)[-1]
            self._give(process.least_loaded(), task, self.standby)
            heappush(queue, (process.load, process.order, process))
        for entry in having:
            heappush(queue, entry)
        return is_lacking

    # ── small ──────────────────────────────────────────────────────────────────────────────────────────

    def _give(self, member_id: str, task: Task, role: dict[str, list[Task]]) -> None:
        process = self._process_of[member_id]
        process.tasks.add(task)
        process.task_counts[member_id] += 1
        role[member_id].append(task)
        self._active_share.took(process.task_counts[member_id])
        self._share.took(process.task_counts[member_id])

    def _least_loaded(self, member_ids: Iterable[str], lacking: Task | None = None) -> str | None:
        """Of members, by process and then by themselves; processes that have `lacking` do not count."""
        able = [one for one in member_ids if lacking is None or lacking not in self._process_of[one].tasks]
        return min(able, key=lambda one: (self._process_of[one].load, self._count(one), one), default=None)

    def _count(self, member_id: str) -> int:
        return self._process_of[member_id].task_counts[member_id]

    def _by_load(self) -> list[tuple[float, int, _Process]]:
        processes = {process.order: process for process in self._process_of.values()}
        queue = [(process.load, order, process) for order, process in processes.items()]
        heapify(queue)
        return queue


def _rounded_up(tasks: int, members: int) -> int:
    return -(-tasks // members) if members else 0
