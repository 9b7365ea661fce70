"""The tasks that a worker was given, by name and by the partitions that they read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from streamkit.processing.tasks.inflight import Place
from streamkit.processing.worker.source import Arrival, Partition
from streamkit.processing.worker.task_runner import TaskRunner


class ActiveTasks:
    """Iterates over the tasks of the moment, while others may come and go.

    A task that leaves reads no partition from when it is taken out, and is here until it is closed. All share
    `cache_bytes`. `ends`: of the partitions that are read, as far as they are known. `began`: where reading
    of them began.
    """

    def __init__(self, cache_bytes: int) -> None:
        self.ends: dict[Place, int] = {}
        self.began: dict[Place, int] = {}
        self._cache_bytes = cache_bytes
        self._by_id: dict[str, TaskRunner] = {}
        self._by_place: dict[Place, TaskRunner] = {}

    def __iter__(self) -> Iterator[TaskRunner]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def ready(self) -> list[TaskRunner]:
        """Those that are restored and open."""
        return [runner for runner in self if runner.ready]

    @property
    def places(self) -> list[Place]:
        """The partitions that are read."""
        return list(self._by_place)

    def named(self, task: str) -> TaskRunner | None:
        return self._by_id.get(task)

    def is_running(self, name: tuple[int, int]) -> bool:
        """`name`: subtopology and partition."""
        return f"{name[0]}_{name[1]}" in self._by_id

    def is_reading(self, runner: TaskRunner) -> bool:
        """Is it not on its way out?"""
        return any(self._by_place.get(place) is runner for place in runner.task.places)

    def add(self, runner: TaskRunner) -> None:
        """In the place of one of this name, if there is one."""
        self._by_id[runner.task.id] = runner
        self._by_place.update((place, runner) for place in runner.task.places)
        self._share_caches()

    def offer(self, arrival: Arrival) -> None:
        """To whoever reads the partition."""
        place = arrival.topic, arrival.partition
        runner = self._by_place.get(place)
        if runner is None:
            return
        runner.offer(arrival)
        if place not in self.began and (first := _first_offset(arrival)) is not None:
            self.began[place] = first

    def take_out(self, partitions: Sequence[Partition]) -> list[TaskRunner]:
        """The tasks of these partitions, which get no more records from here on."""
        leaving = {self._by_place[place]: None for place in partitions if place in self._by_place}
        for runner in leaving:
            for place in runner.task.places:
                self._by_place.pop(place, None)
                self.ends.pop(place, None)
                self.began.pop(place, None)
        return list(leaving)

    def remove(self, runner: TaskRunner) -> None:
        """It is closed."""
        if self._by_id.get(runner.task.id) is runner:
            del self._by_id[runner.task.id]
            self._share_caches()

    def _share_caches(self) -> None:
        for runner in self:
            runner.task.share_caches(len(self), self._cache_bytes)


def _first_offset(arrival: Arrival) -> int | None:
    return arrival.records[0].offset() if arrival.records else arrival.end_offset
