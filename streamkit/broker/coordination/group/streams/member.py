"""One member of a streams group: a thread of a Kafka Streams process, what it said of itself, what it has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import zip_longest
from types import MappingProxyType
from typing import Final

from msgspec.structs import replace

from streamkit.broker.coordination.group.modern.member import Member, member_state
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

NO_TOPOLOGY: Final = -1
FIRST_STATE: Final = 1
"""The number of the first of a member's states in records of streams groups."""

_NO_EPOCHS: Final[Mapping[Task, int]] = MappingProxyType({})


class StreamsMember(Member, frozen=True, kw_only=True):
    """A member. It may run `assigned` now; `revoking` is still its own until it confirms that it let go.

    Invariants: `revoking` is empty unless the state is UNREVOKED; `since` has every active task of both.
    """

    rebalance_timeout_ms: int = -1
    topology_epoch: int = NO_TOPOLOGY
    process_id: str = ""
    """Members of one process share its state directory, so a task is there once at a time in any role."""
    user_endpoint: Endpoint | None = None
    """Where the process answers queries about its state."""
    client_tags: tuple[tuple[str, str], ...] = ()
    assigned: Tasks = NOTHING
    revoking: Tasks = NOTHING
    since: Mapping[Task, int] = _NO_EPOCHS
    """The epoch in which it was given each active task."""

    @property
    def held(self) -> Tasks:
        return self.assigned | self.revoking

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
            state=self.state.counted_from(FIRST_STATE),
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
            state=member_state(value.state, FIRST_STATE),
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
