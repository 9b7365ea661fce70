"""The streams group of KIP-1071: the coordinator divides the tasks of a Kafka Streams application.

**The idea.** It is that of consumer groups (KIP-848), one floor higher: members do not subscribe to topics,
they run a *topology*, and what is divided are its *tasks*. So the coordinator knows what an application is
made of. It has the internal topics made, tells members why they have to wait, and knows which member runs a
task and which only keep a copy of its state. The tasks are divided anew when members come, go or change, when
topics appear or grow, when the number of standby replicas is altered. One more number moves through a group:

    topology epoch    a version of the topology; *validated* in this group once every topic is there, and
                      until then the group is NotReady

All members run one topology, the one that came first. Another one is refused: an application that is changed
so that its topology differs stops, and has its group deleted, or takes another name.

A member comes to the target in two steps: it gives up what it shall not have, and then is given whatever of
its part is free. An active task is free when nobody runs it; and since the members of a process share a state
directory, no task is given to a member while another member of its process holds it in any role.

**Files.** Here is what such a group is beyond `modern.group`. `heartbeat` receives members, `departure` sees
them off. `topology` knows what they run, `internal_topics` what that needs; `target` computes who shall run
what (`assignor`), `reconciliation` leads one member there. `endpoints` tells members where each other's state
is; `requests` is the way in for a shard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Self, TypeAlias

from streamkit.broker.config import BrokerConfig
from streamkit.broker.coordination.deadlines import Deadlines
from streamkit.broker.coordination.group.cluster import Cluster
from streamkit.broker.coordination.group.modern import group as modern
from streamkit.broker.coordination.group.modern.draft import Draft
from streamkit.broker.coordination.group.modern.group import GroupState, ModernGroup
from streamkit.broker.coordination.group.modern.records import Change
from streamkit.broker.coordination.group.streams.internal_topics import ConfiguredTopology
from streamkit.broker.coordination.group.streams.member import StreamsMember, target_tasks, target_value
from streamkit.broker.coordination.group.streams.records import (
    NEVER_VALIDATED,
    SCHEMAS,
    GroupMetadataValue,
    TargetAssignmentMemberValue,
    TopologyChange,
)
from streamkit.broker.coordination.group.streams.tasks import NOTHING, Task, Tasks
from streamkit.broker.coordination.group.streams.topology import Topology
from streamkit.broker.coordination.group.vocabulary import CommitClaim, Timer
from streamkit.broker.coordination.shard import Decision, Refusal
from streamkit.protocol.error_codes import ErrorCode

STREAMS = "streams"
"""The type of group, as ListGroups names it; its protocol type, too."""


class Soft(modern.Soft, kw_only=True):
    configured: ConfiguredTopology | None = None
    """The topology over the topics that there were when they were last looked at."""
    shutdown_requested_by: str | None = None
    """The member that wants the whole application to end; all are told until the last one is gone."""
    endpoint_epoch: int = 0
    """Grows whenever a process with an endpoint is given other tasks."""


class StreamsGroup(ModernGroup[StreamsMember, Tasks]):
    """One streams group.

    Invariants: an active task is held by one member at most (`runners`).
    """

    group_type = STREAMS
    protocol_type = STREAMS
    schemas = SCHEMAS
    work = "tasks"
    first_epoch = 1  # members are in it while the first assignment is put off
    soft: Soft

    def __init__(
        self, group_id: str, config: BrokerConfig, deadlines: Deadlines[Timer], cluster: Cluster
    ) -> None:
        super().__init__(group_id, config, deadlines, cluster)
        self.soft = Soft()
        self.validated_topology_epoch = NEVER_VALIDATED
        self.assignment_configs: Mapping[str, str] = {}
        """The settings that the group's epoch was begun with."""
        self.topology: Topology | None = None
        self.runners: dict[Task, str] = {}
        self.keepers: dict[Task, frozenset[str]] = {}
        """The members that hold each standby or warm-up task."""

    def copy(self) -> Self:
        other = super().copy()
        other.runners, other.keepers = self.runners.copy(), self.keepers.copy()
        return other

    # ── replay: hard state ─────────────────────────────────────────────────────────────────────────────

    def _begin(self, value: GroupMetadataValue) -> None:
        super()._begin(value)
        self.validated_topology_epoch = value.validated_topology_epoch
        configs = value.last_assignment_configs or ()
        self.assignment_configs = {one.key: one.value for one in configs}

    def _apply_own(self, change: Change) -> None:
        assert isinstance(change, TopologyChange)
        self.topology = None if change.value is None else Topology(change.value)

    def own_tombstones(self) -> Iterable[Change]:
        return [TopologyChange(self.group_id, None)]

    def new_member(self, member_id: str) -> StreamsMember:
        return StreamsMember(member_id=member_id)

    def part_in(self, value: TargetAssignmentMemberValue) -> Tasks:
        return target_tasks(value)

    def part_value(self, part: Tasks) -> TargetAssignmentMemberValue:
        return target_value(part)

    def _replace(self, member_id: str, after: StreamsMember | None) -> None:
        before = self.members.pop(member_id, None)
        if before is not None:
            self._release(before)
        super()._replace(member_id, after)
        if after is not None:
            held = after.held
            self.runners.update(dict.fromkeys(held.active, member_id))
            for task in held.replicas:
                self.keepers[task] = self.keepers.get(task, frozenset()) | {member_id}

    def _release(self, member: StreamsMember) -> None:
        held = member.held
        for task in held.active:
            if self.runners.get(task) == member.member_id:
                del self.runners[task]
        for task in held.replicas:
            left = self.keepers.get(task, frozenset()) - {member.member_id}
            if left:
                self.keepers[task] = left
            else:
                self.keepers.pop(task, None)

    # ── questions ──────────────────────────────────────────────────────────────────────────────────────

    def _compute_state(self) -> GroupState:
        if self.members and (self.topology is None or self.topology.epoch != self.validated_topology_epoch):
            return GroupState.NOT_READY
        return super()._compute_state()

    def may_want(self, topic: str) -> bool:
        """Whether a topic that comes, goes or grows concerns the group."""
        return self.topology is not None and topic in self.topology.required_topics

    def is_subscribed(self, topic: str) -> bool:
        return bool(self.members) and self.topology is not None and topic in self.topology.sources

    def part_of(self, member_id: str) -> Tasks:
        return self.target.get(member_id, NOTHING)

    def may_run(self, task: Task, member: StreamsMember) -> bool:
        """Whether a member may be given an active task: nobody else runs it, and its process has no copy."""
        runner = self.runners.get(task, member.member_id)
        return runner == member.member_id and not self._is_kept_beside(task, member)

    def may_keep(self, task: Task, member: StreamsMember) -> bool:
        """Whether a member may be given a copy of a task: no other member of its process holds the task."""
        runner = self.runners.get(task, member.member_id)
        return not self._is_beside(runner, member) and not self._is_kept_beside(task, member)

    def _is_kept_beside(self, task: Task, member: StreamsMember) -> bool:
        return any(self._is_beside(keeper, member) for keeper in self.keepers.get(task, ()))

    def _is_beside(self, other_id: str, member: StreamsMember) -> bool:
        """Whether another member is of the same process."""
        return other_id != member.member_id and self.members[other_id].process_id == member.process_id

    # ── offsets ────────────────────────────────────────────────────────────────────────────────────────

    def check_commit(self, claim: CommitClaim, decision: Decision) -> None:
        """Offsets are accepted from members, for tasks that they run since the epoch that they name."""
        if claim.epoch < 0 and not self.members:
            return
        member = self.member(claim.member_id)
        if not claim.knows_member_epochs:
            raise Refusal(ErrorCode.UNSUPPORTED_VERSION)
        if claim.epoch > member.epoch or (claim.epoch < member.epoch and not self._ran_since(member, claim)):
            raise Refusal(ErrorCode.STALE_MEMBER_EPOCH)

    def _ran_since(self, member: StreamsMember, claim: CommitClaim) -> bool:
        """Whether the member has run the tasks of all these partitions since this epoch, or longer."""
        never = claim.epoch + 1
        sources = {} if self.topology is None else self.topology.sources
        return all(
            topic in sources and member.since.get(Task(sources[topic], partition), never) <= claim.epoch
            for topic, partition in claim.named_partitions
        )

    def check_fetch(self, member_id: str | None, epoch: int) -> None:
        """Whoever says that it is a member has to be one, in this epoch."""
        if member_id is None and epoch < 0:
            return
        if epoch != self.member(member_id or "").epoch:
            raise Refusal(ErrorCode.STALE_MEMBER_EPOCH)

    def retention_began_ms(self, topic: str, committed_ms: int) -> int | None:
        """When the retention of an offset began (wall clock); None while it must be kept."""
        return None if self.is_subscribed(topic) else committed_ms


StreamsDraft: TypeAlias = Draft[StreamsGroup]
