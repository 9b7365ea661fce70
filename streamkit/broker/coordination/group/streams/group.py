"""The streams group of KIP-1071: the coordinator divides the tasks of a Kafka Streams application.

**The idea.** It is that of consumer groups (KIP-848), one floor higher: members do not subscribe to topics,
they run a *topology*, and what is divided are its *tasks*. So the coordinator knows what an application is
made of. It has the internal topics made, tells members why they have to wait, and knows which member runs a
task and which only keep a copy of its state. The same numbers move through a group:

    group epoch       grows whenever the tasks have to be divided anew: members come, go or change, topics
                      appear or grow, the number of standby replicas is altered
    target epoch      the group epoch that the *target assignment* was computed for: who shall run what
    member epoch      the target epoch that this one member has come to
    topology epoch    a version of the topology; *validated* in this group once every topic is there

All members run one topology, the one that came first. Another one is refused: an application that is changed
so that its topology differs stops, and has its group deleted, or takes another name.

A member comes to the target in two steps: it gives up what it shall not have, and then is given whatever of
its part is free. An active task is free when nobody runs it; and since the members of a process share a state
directory, no task is given to a member while another member of its process holds it in any role.

**The group's state** follows from the numbers:

    Empty         no members
    NotReady      some topic that the topology needs is missing or does not fit
    Assigning     the group epoch is ahead of the target epoch
    Reconciling   some member is not at the target yet
    Stable        all are

**Files.** Here is what a group is, and `apply`, through which it changes. `draft` is the group as a decision
will leave it. `heartbeat` receives members, `departure` sees them off. `topology` knows what they run,
`internal_topics` what that needs; `target` computes who shall run what (`assignor`), `reconciliation` leads
one member there. `endpoints` tells members where each other's state is.

**Hard and soft.** Hard state is the sum of the records (`records.Change`). Soft is what `Soft` holds, and
deadlines.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from streamkit.broker.config import BrokerConfig
from streamkit.broker.coordination.deadlines import Deadlines
from streamkit.broker.coordination.group.cluster import Cluster
from streamkit.broker.coordination.group.streams.internal_topics import ConfiguredTopology
from streamkit.broker.coordination.group.streams.member import StreamsMember, target_tasks
from streamkit.broker.coordination.group.streams.records import (
    NEVER_VALIDATED,
    Change,
    CurrentChange,
    EpochChange,
    MemberChange,
    TargetChange,
    TargetEpochChange,
    TopologyChange,
)
from streamkit.broker.coordination.group.streams.tasks import NOTHING, Task, Tasks
from streamkit.broker.coordination.group.streams.topology import Topology
from streamkit.broker.coordination.group.vocabulary import CommitClaim, Timer
from streamkit.broker.coordination.shard import Decision, Refusal
from streamkit.protocol.error_codes import ErrorCode

STREAMS = "streams"
"""The type of group, as ListGroups names it; its protocol type, too."""

FIRST_EPOCH = 1
"""Of a group that nobody has joined; members are in it while the first assignment is put off."""


class StreamsState(StrEnum):
    EMPTY = "Empty"
    NOT_READY = "NotReady"
    ASSIGNING = "Assigning"
    RECONCILING = "Reconciling"
    STABLE = "Stable"


class Soft(msgspec.Struct, kw_only=True):
    """What a crash may take, shared by a group and its drafts."""

    topics_changed: bool = True
    """The topology's topics are not, or may not be, those that `configured` was made of."""
    configured: ConfiguredTopology | None = None
    shutdown_requested_by: str | None = None
    """The member that wants the whole application to end; all are told until the last one is gone."""
    endpoint_epoch: int = 0
    """Grows whenever a process with an endpoint is given other tasks."""
    rebalance_began_ms: int | None = None


class StreamsGroup:
    """One streams group.

    Invariants: an active task is held by one member at most (`runners`); a member's epoch is at most the
    target epoch, which is at most the group epoch.
    """

    group_type = STREAMS
    protocol_type = STREAMS

    def __init__(
        self, group_id: str, config: BrokerConfig, deadlines: Deadlines[Timer], cluster: Cluster
    ) -> None:
        self.group_id = group_id
        self.config = config
        self.deadlines = deadlines
        self.cluster = cluster
        self.soft = Soft()
        self.is_recorded = False
        self.epoch = FIRST_EPOCH
        self.metadata_hash = 0
        self.validated_topology_epoch = NEVER_VALIDATED
        self.assignment_configs: Mapping[str, str] = {}
        """The settings that the group's epoch was begun with."""
        self.topology: Topology | None = None
        self.members: dict[str, StreamsMember] = {}
        self.target_epoch = FIRST_EPOCH
        self.target_computed_ms = 0
        self.target: dict[str, Tasks] = {}
        self.runners: dict[Task, str] = {}
        self.keepers: dict[Task, frozenset[str]] = {}
        """The members that hold each standby or warm-up task."""
        self._state: StreamsState | None = None

    def copy(self) -> StreamsGroup:
        """Another group of the same hard state, which shares the soft one."""
        other = StreamsGroup(self.group_id, self.config, self.deadlines, self.cluster)
        other.soft = self.soft
        other.is_recorded = self.is_recorded
        other.epoch, other.metadata_hash = self.epoch, self.metadata_hash
        other.validated_topology_epoch = self.validated_topology_epoch
        other.assignment_configs, other.topology = self.assignment_configs, self.topology
        other.members = self.members.copy()
        other.target_epoch, other.target_computed_ms = self.target_epoch, self.target_computed_ms
        other.target = self.target.copy()
        other.runners, other.keepers = self.runners.copy(), self.keepers.copy()
        return other

    # ── replay: hard state ─────────────────────────────────────────────────────────────────────────────

    def apply(self, change: Change) -> None:
        """One record was written; what it deletes may be unknown, for a log is cleaned piece by piece."""
        self._state = None
        match change:
            case EpochChange(_, value) if value is not None:
                self.is_recorded = True
                self.epoch, self.metadata_hash = value.epoch, value.metadata_hash
                self.validated_topology_epoch = value.validated_topology_epoch
                configs = value.last_assignment_configs or ()
                self.assignment_configs = {one.key: one.value for one in configs}
            case TopologyChange(_, value):
                self.topology = None if value is None else Topology(value)
            case MemberChange(_, member_id, value):
                said = None if value is None else self._known(member_id).with_metadata(value)
                self._replace(member_id, said)
            case TargetEpochChange(_, value):
                self.target_epoch = FIRST_EPOCH if value is None else value.assignment_epoch
                self.target_computed_ms = 0 if value is None else value.assignment_timestamp
            case TargetChange(_, member_id, value):
                if value is None:
                    self.target.pop(member_id, None)
                else:
                    self.target[member_id] = target_tasks(value)
            case CurrentChange(_, member_id, value):
                if value is not None:
                    self._replace(member_id, self._known(member_id).with_current(value))
                elif member_id in self.members:
                    self._replace(member_id, self.members[member_id].without_tasks())

    def _known(self, member_id: str) -> StreamsMember:
        return self.members.get(member_id) or StreamsMember(member_id=member_id)

    def _replace(self, member_id: str, after: StreamsMember | None) -> None:
        before = self.members.pop(member_id, None)
        if before is not None:
            self._release(before)
        if after is not None:
            self.members[member_id] = after
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

    @property
    def state(self) -> StreamsState:
        if self._state is None:
            self._state = self._compute_state()
        return self._state

    def _compute_state(self) -> StreamsState:
        if not self.members:
            return StreamsState.EMPTY
        if self.topology is None or self.topology.epoch != self.validated_topology_epoch:
            return StreamsState.NOT_READY
        if self.epoch > self.target_epoch:
            return StreamsState.ASSIGNING
        if all(member.is_reconciled_to(self.target_epoch) for member in self.members.values()):
            return StreamsState.STABLE
        return StreamsState.RECONCILING

    @property
    def is_empty(self) -> bool:
        return not self.members

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

    def member(self, member_id: str) -> StreamsMember:
        member = self.members.get(member_id)
        if member is None:
            raise Refusal(
                ErrorCode.UNKNOWN_MEMBER_ID,
                f"Member {member_id} is not a member of group {self.group_id}.",
            )
        return member

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

    def check_delete_offsets(self) -> None:
        """Offsets of single topics may go as soon as nobody reads the topic."""

    def retention_began_ms(self, topic: str, committed_ms: int) -> int | None:
        """When the retention of an offset began (wall clock); None while it must be kept."""
        return None if self.is_subscribed(topic) else committed_ms
