"""One member of a streams group: a thread of a Kafka Streams process, what it said of itself, what it has.

Members are values; every change makes another, and a record carries one half of it: `MemberMetadataValue`
what was said, `CurrentAssignmentValue` what it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from itertools import zip_longest
from types import MappingProxyType
from typing import Final

import msgspec
from msgspec.structs import replace

from streamkit.broker.coordination.group.streams.records import (
    CurrentAssignmentValue,
    CurrentTaskIds,
    Endpoint,
    KeyValue,
    MemberMetadataValue,
    TargetAssignmentMemberValue,
    TargetTaskIds,
)
from streamkit.broker.coordination.group.streams.tasks import (
    NOTHING,
    Task,
    Tasks,
    by_subtopology,
    task_ids,
    tasks_of,
)

JOINING_EPOCH: Final = 0
LEAVING_EPOCH: Final = -1
LEAVING_STATIC_EPOCH: Final = -2
NO_TOPOLOGY: Final = -1

_NO_EPOCHS: Final[Mapping[Task, int]] = MappingProxyType({})


class MemberState(IntEnum):
    """How far a member has come on its way to its target, by Kafka's numbers."""

    STABLE = 1
    UNREVOKED_TASKS = 2
    """It has been told to give tasks up, and has not said yet that it did."""
    UNRELEASED_TASKS = 3
    """It waits for tasks that others have not given up yet."""
    UNKNOWN = 127


class StreamsMember(msgspec.Struct, frozen=True, kw_only=True):
    """A member. It may run `assigned` now; `revoking` is still its own until it confirms that it let go.

    Invariants: `revoking` is empty unless the state is UNREVOKED; `since` has every active task of both.
    """

    member_id: str
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    rebalance_timeout_ms: int = -1
    topology_epoch: int = NO_TOPOLOGY
    process_id: str = ""
    """Members of one process share its state directory, so a task is there once at a time in any role."""
    user_endpoint: Endpoint | None = None
    """Where the process answers queries about its state."""
    client_tags: tuple[tuple[str, str], ...] = ()
    epoch: int = JOINING_EPOCH
    previous_epoch: int = JOINING_EPOCH
    state: MemberState = MemberState.STABLE
    assigned: Tasks = NOTHING
    revoking: Tasks = NOTHING
    since: Mapping[Task, int] = _NO_EPOCHS
    """The epoch in which it was given each active task."""

    @property
    def held(self) -> Tasks:
        return self.assigned | self.revoking

    def is_reconciled_to(self, epoch: int) -> bool:
        return self.state is MemberState.STABLE and self.epoch == epoch

    def at_epoch(self, epoch: int) -> StreamsMember:
        """The member in an epoch; it may not have heard of it yet, so the one before is remembered."""
        return replace(self, epoch=epoch, previous_epoch=self.epoch)

    # ── records ────────────────────────────────────────────────────────────────────────────────────────

    def metadata(self) -> MemberMetadataValue:
        return MemberMetadataValue(
            rack_id=self.rack_id,
            client_id=self.client_id,
            client_host=self.client_host,
            rebalance_timeout_ms=self.rebalance_timeout_ms,
            topology_epoch=self.topology_epoch,
            process_id=self.process_id,
            user_endpoint=self.user_endpoint,
            client_tags=[KeyValue(key=key, value=value) for key, value in self.client_tags],
        )

    def with_metadata(self, value: MemberMetadataValue) -> StreamsMember:
        return replace(
            self,
            rack_id=value.rack_id,
            client_id=value.client_id,
            client_host=value.client_host,
            rebalance_timeout_ms=value.rebalance_timeout_ms,
            topology_epoch=value.topology_epoch,
            process_id=value.process_id,
            user_endpoint=value.user_endpoint,
            client_tags=tuple((tag.key, tag.value) for tag in value.client_tags),
        )

    def current(self) -> CurrentAssignmentValue:
        return CurrentAssignmentValue(
            member_epoch=self.epoch,
            previous_member_epoch=self.previous_epoch,
            state=self.state,
            active_tasks=self._recorded(self.assigned.active),
            standby_tasks=task_ids(CurrentTaskIds, self.assigned.standby),
            warmup_tasks=task_ids(CurrentTaskIds, self.assigned.warmup),
            active_tasks_pending_revocation=self._recorded(self.revoking.active),
            standby_tasks_pending_revocation=task_ids(CurrentTaskIds, self.revoking.standby),
            warmup_tasks_pending_revocation=task_ids(CurrentTaskIds, self.revoking.warmup),
        )

    def _recorded(self, active: Iterable[Task]) -> list[CurrentTaskIds]:
        return [
            CurrentTaskIds(
                subtopology_id=subtopology,
                partitions=partitions,
                assignment_epochs=[self.since[Task(subtopology, number)] for number in partitions],
            )
            for subtopology, partitions in by_subtopology(active).items()
        ]

    def with_current(self, value: CurrentAssignmentValue) -> StreamsMember:
        active, giving_up = value.active_tasks, value.active_tasks_pending_revocation
        return replace(
            self,
            epoch=value.member_epoch,
            previous_epoch=value.previous_member_epoch,
            state=_state(value.state),
            assigned=Tasks(
                active=tasks_of(active),
                standby=tasks_of(value.standby_tasks),
                warmup=tasks_of(value.warmup_tasks),
            ),
            revoking=Tasks(
                active=tasks_of(giving_up),
                standby=tasks_of(value.standby_tasks_pending_revocation),
                warmup=tasks_of(value.warmup_tasks_pending_revocation),
            ),
            since=_epochs([*active, *giving_up], value.member_epoch),
        )

    def without_tasks(self) -> StreamsMember:
        """What is left of a member whose assignment was deleted."""
        return replace(
            self,
            epoch=LEAVING_EPOCH,
            previous_epoch=LEAVING_EPOCH,
            state=MemberState.STABLE,
            assigned=NOTHING,
            revoking=NOTHING,
            since=_NO_EPOCHS,
        )


def target_value(tasks: Tasks) -> TargetAssignmentMemberValue:
    """A member's part of a target assignment, as a record says it."""
    return TargetAssignmentMemberValue(
        active_tasks=task_ids(TargetTaskIds, tasks.active),
        standby_tasks=task_ids(TargetTaskIds, tasks.standby),
        warmup_tasks=task_ids(TargetTaskIds, tasks.warmup),
    )


def target_tasks(value: TargetAssignmentMemberValue) -> Tasks:
    return Tasks(
        active=tasks_of(value.active_tasks),
        standby=tasks_of(value.standby_tasks),
        warmup=tasks_of(value.warmup_tasks),
    )


def _epochs(task_ids: Iterable[CurrentTaskIds], member_epoch: int) -> Mapping[Task, int]:
    """Where no epochs were written, only commits of the member's own epoch are taken."""
    since: dict[Task, int] = {}
    for ids in task_ids:
        epochs = ids.assignment_epochs or ()
        for number, epoch in zip_longest(ids.partitions, epochs, fillvalue=member_epoch):
            since[Task(ids.subtopology_id, number)] = epoch
    return since


def _state(number: int) -> MemberState:
    try:
        return MemberState(number)
    except ValueError:
        return MemberState.UNKNOWN
