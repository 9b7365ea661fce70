"""The share group of KIP-932: consumers that take records from the same partitions, each record one of them.

**The idea.** A share group is a queue. Its members are told which partitions to look into, and several may be
told the same one; which of them gets a record is decided by the partition's leader, record by record. So
nobody has to let go of a partition before somebody else may have it, and a member goes to its part of a new
target in one step. What remains of a rebalance are three numbers:

    group epoch       grows whenever the work has to be divided anew: members come, go, want other topics,
                      the topics change, or the state of a partition has been begun
    target epoch      the group epoch that the *target assignment* was computed for
    member epoch      the target epoch that this one member has come to

A partition is given to members only when a share coordinator keeps a state for it (`states`).

**The group's state** is Empty without members, else Stable.

**Files.** Here is what a group is, and `apply`, through which it changes. `draft` is the group as a decision
will leave it. `heartbeat` receives members and sees them off, `target` divides the partitions (`assignor`),
`states` knows which of them have a state, `offsets` lets operators begin and end those. `requests` is the way
in for a shard.

**Hard and soft.** Hard state is the sum of the records (`records.ShareChange`). Soft is what `Soft` holds,
and deadlines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum

import msgspec

from streamkit.broker.config import BrokerConfig
from streamkit.broker.coordination.deadlines import Deadlines
from streamkit.broker.coordination.group.cluster import Cluster
from streamkit.broker.coordination.group.consumer.member import Partition
from streamkit.broker.coordination.group.share.member import ShareMember, read
from streamkit.broker.coordination.group.share.records import (
    ShareChange,
    ShareCurrentChange,
    ShareEpochChange,
    ShareMemberChange,
    ShareStatesChange,
    ShareTargetChange,
    ShareTargetEpochChange,
)
from streamkit.broker.coordination.group.share.states import NO_STATES, states_of
from streamkit.broker.coordination.group.vocabulary import CommitClaim, Timer
from streamkit.broker.coordination.shard import Decision, Refusal
from streamkit.protocol.error_codes import ErrorCode

SHARE = "share"
"""The type of group, as ListGroups names it, and the type of its protocol."""


class ShareState(StrEnum):
    EMPTY = "Empty"
    STABLE = "Stable"


class Soft(msgspec.Struct, kw_only=True):
    """What a crash may take, shared by a group and its drafts."""

    topics_changed: bool = True
    """What there is to divide is not, or may not be, what the target was computed from."""
    asked: set[Partition] = msgspec.field(default_factory=set)
    """Whose states the share coordinator has been asked to begin, and has not said yet that it did."""
    rebalance_began_ms: int | None = None


class ShareGroup:
    """One share group.

    Invariants: a member's epoch is at most the target epoch, which is at most the group epoch; what the
    target gives to anybody has a state.
    """

    group_type = SHARE
    protocol_type = SHARE

    def __init__(
        self, group_id: str, config: BrokerConfig, deadlines: Deadlines[Timer], cluster: Cluster
    ) -> None:
        self.group_id = group_id
        self.config = config
        self.deadlines = deadlines
        self.cluster = cluster
        self.soft = Soft()
        self.is_recorded = False
        self.epoch = 0
        self.metadata_hash = 0
        self.members: dict[str, ShareMember] = {}
        self.target_epoch = 0
        self.target: dict[str, frozenset[Partition]] = {}
        self.states = NO_STATES
        self._subscribed: Mapping[str, int] | None = None

    def copy(self) -> ShareGroup:
        """Another group of the same hard state, which shares the soft one."""
        other = ShareGroup(self.group_id, self.config, self.deadlines, self.cluster)
        other.soft = self.soft
        other.is_recorded = self.is_recorded
        other.epoch, other.metadata_hash = self.epoch, self.metadata_hash
        other.members = self.members.copy()
        other.target_epoch, other.target = self.target_epoch, self.target.copy()
        other.states = self.states
        return other

    # ── replay: hard state ─────────────────────────────────────────────────────────────────────────────

    def apply(self, change: ShareChange) -> None:
        """One record was written; what it deletes may be unknown, for a log is cleaned piece by piece."""
        match change:
            case ShareEpochChange(_, value) if value is not None:
                self.is_recorded = True
                self.epoch, self.metadata_hash = value.epoch, value.metadata_hash
            case ShareMemberChange(_, member_id, value):
                self._subscribed = None
                if value is None:
                    self.members.pop(member_id, None)
                else:
                    self.members[member_id] = self._known(member_id).with_metadata(value)
            case ShareTargetEpochChange(_, value):
                self.target_epoch = 0 if value is None else value.assignment_epoch
            case ShareTargetChange(_, member_id, value):
                if value is None:
                    self.target.pop(member_id, None)
                else:
                    self.target[member_id] = read(value.topic_partitions)
            case ShareCurrentChange(_, member_id, value):
                self._subscribed = None
                if value is not None:
                    self.members[member_id] = self._known(member_id).with_current(value)
                elif member_id in self.members:
                    self.members[member_id] = self.members[member_id].without_partitions()
            case ShareStatesChange(_, value):
                self.states = states_of(value)

    def _known(self, member_id: str) -> ShareMember:
        return self.members.get(member_id) or ShareMember(member_id=member_id)

    # ── questions ──────────────────────────────────────────────────────────────────────────────────────

    @property
    def state(self) -> ShareState:
        return ShareState.STABLE if self.members else ShareState.EMPTY

    @property
    def is_empty(self) -> bool:
        return not self.members

    @property
    def is_unused(self) -> bool:
        """Nothing of the group was ever written."""
        return not self.is_recorded and not self.members

    @property
    def subscribers(self) -> Mapping[str, int]:
        """How many members want each topic."""
        if self._subscribed is None:
            counts: dict[str, int] = {}
            for member in self.members.values():
                for topic in member.topics:
                    counts[topic] = counts.get(topic, 0) + 1
            self._subscribed = counts
        return self._subscribed

    def may_want(self, topic: str) -> bool:
        """Whether a topic that comes, goes or grows concerns the group."""
        return self.is_subscribed(topic)

    def is_subscribed(self, topic: str) -> bool:
        return topic in self.subscribers

    def wanted(self) -> Iterator[Partition]:
        """The partitions, as they exist now, of all topics that members want."""
        for name in sorted(self.subscribers):
            topic = self.cluster.topic(name)
            for number in range(topic.partitions if topic is not None else 0):
                assert topic is not None
                yield Partition(topic.topic_id, number)

    @property
    def waits_for_states(self) -> bool:
        """Whether members will be given more as soon as states have been begun."""
        return bool(self.soft.asked)

    def member(self, member_id: str) -> ShareMember:
        member = self.members.get(member_id)
        if member is None:
            raise Refusal(
                ErrorCode.UNKNOWN_MEMBER_ID,
                f"Member {member_id} is not a member of group {self.group_id}.",
            )
        return member

    # ── offsets: a share group commits none ──────────────────────────────────────────────────────────────

    def check_commit(self, claim: CommitClaim, decision: Decision) -> None:
        raise self._no_consumer_group()

    def check_fetch(self, member_id: str | None, epoch: int) -> None:
        raise self._no_consumer_group()

    def check_delete_offsets(self) -> None:
        raise self._no_consumer_group()

    def retention_began_ms(self, topic: str, committed_ms: int) -> int | None:
        """Offsets that stand under the group's name are of no use to it."""
        return committed_ms

    def _no_consumer_group(self) -> Refusal:
        return Refusal(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {self.group_id} is not a consumer group.")
