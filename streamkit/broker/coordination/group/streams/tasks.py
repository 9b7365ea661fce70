"""Tasks of a Kafka Streams application: a subtopology, over one partition of each of its topics.

A task is run by one member (*active*), and may be kept ready by others, which only follow its changelogs
(*standby*). *Warm-up* tasks, standbys that are to become active, are in the protocol; nobody is given any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple, Protocol, TypeVar

import msgspec


class Task(NamedTuple):
    subtopology: str
    partition: int


class TaskIds(Protocol):
    """The partitions of one subtopology, as every message and record says tasks."""

    @property
    def subtopology_id(self) -> str: ...

    @property
    def partitions(self) -> list[int]: ...


Ids = TypeVar("Ids")

NO_TASKS: Final[frozenset[Task]] = frozenset()


class Tasks(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks in each role."""

    active: frozenset[Task] = NO_TASKS
    standby: frozenset[Task] = NO_TASKS
    warmup: frozenset[Task] = NO_TASKS

    @property
    def roles(self) -> tuple[frozenset[Task], frozenset[Task], frozenset[Task]]:
        return self.active, self.standby, self.warmup

    @property
    def replicas(self) -> Iterator[Task]:
        """Those that are not processed."""
        yield from self.standby
        yield from self.warmup

    def __bool__(self) -> bool:
        return any(self.roles)

    def __and__(self, other: Tasks) -> Tasks:
        return _by_role(mine & theirs for mine, theirs in zip(self.roles, other.roles, strict=True))

    def __or__(self, other: Tasks) -> Tasks:
        return _by_role(mine | theirs for mine, theirs in zip(self.roles, other.roles, strict=True))

    def __sub__(self, other: Tasks) -> Tasks:
        return _by_role(mine - theirs for mine, theirs in zip(self.roles, other.roles, strict=True))


def _by_role(roles: Iterable[frozenset[Task]]) -> Tasks:
    active, standby, warmup = roles
    return Tasks(active=active, standby=standby, warmup=warmup)


NOTHING: Final = Tasks()


def tasks_of(task_ids: Iterable[TaskIds]) -> frozenset[Task]:
    return frozenset(Task(ids.subtopology_id, number) for ids in task_ids for number in ids.partitions)


def by_subtopology(tasks: Iterable[Task]) -> Mapping[str, list[int]]:
    """The partitions of each subtopology, all sorted."""
    found: dict[str, list[int]] = {}
    for task in sorted(tasks):
        found.setdefault(task.subtopology, []).append(task.partition)
    return found


def task_ids(make: Callable[..., Ids], tasks: Iterable[Task]) -> list[Ids]:
    """Tasks in the words of some message."""
    return [
        make(subtopology_id=subtopology, partitions=partitions)
        for subtopology, partitions in by_subtopology(tasks).items()
    ]
