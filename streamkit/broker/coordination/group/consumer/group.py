"""The consumer group of KIP-848: the coordinator divides the work, and leads each member to its part.

**The idea.** Members do not wait for each other. Each sends heartbeats that say what it wants and what it
owns, and is told its share. Three numbers move through a group:

    group epoch       grows whenever the work has to be divided anew: members come, go, want other topics,
                      or the topics themselves change
    target epoch      the group epoch that the *target assignment* was computed for: who shall own what
    member epoch      the target epoch that this one member has come to

A member comes to the target in two steps. What it shall give up is taken from its assignment, and it stays in
its epoch until its heartbeat no longer names it (*unrevoked*). Then it is in the target's epoch and is given
whatever of its part is free; what others still hold it gets as they let go (*unreleased*). So a partition is
in the hands of one member at a time, whatever each of them has heard, and whoever need not move is never
disturbed. Those who do not let go within their rebalance timeout, or fall silent for a session, are removed.

**The group's state** follows from the numbers:

    Empty         no members
    Assigning     the group epoch is ahead of the target epoch
    Reconciling   some member is not at the target yet
    Stable        all are

**Files.** Here is what a group is, and `apply`, through which it changes. `draft` is the group as a decision
will leave it. `heartbeat` receives members of the new protocol, `classic_members` those of the classic one
that live in the same group, `departure` sees them off. `subscriptions` knows what they want, `target`
computes who shall own what (`assignors`), `reconciliation` leads one member there. `migration` turns classic
groups into consumer groups and back.

**Hard and soft.** Hard state is the sum of the records (`records.Change`). Soft is what `Soft` holds, and
deadlines: whether the topics have to be looked at again, and since when a rebalance has been going on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

from streamkit.broker.config import BrokerConfig
from streamkit.broker.coordination.deadlines import Deadlines
from streamkit.broker.coordination.group.cluster import Cluster
from streamkit.broker.coordination.group.consumer.member import (
    ConsumerMember,
    MemberState,
    Partition,
    target_partitions,
)
from streamkit.broker.coordination.group.consumer.records import (
    Change,
    CurrentChange,
    EpochChange,
    MemberChange,
    RegexChange,
    RegularExpressionValue,
    TargetChange,
    TargetEpochChange,
)
from streamkit.broker.coordination.group.embedded_protocol import CONSUMER_PROTOCOL
from streamkit.broker.coordination.group.vocabulary import CommitClaim, Timer
from streamkit.broker.coordination.shard import Decision, Refusal
from streamkit.protocol.error_codes import ErrorCode

CONSUMER = "consumer"
"""The type of group, as ListGroups names it."""


class ConsumerState(StrEnum):
    EMPTY = "Empty"
    ASSIGNING = "Assigning"
    RECONCILING = "Reconciling"
    STABLE = "Stable"


class Soft(msgspec.Struct, kw_only=True):
    """What a crash may take, shared by a group and its drafts."""

    topics_changed: bool = True
    """The subscribed topics are not, or may not be, those that `metadata_hash` was computed from."""
    rebalance_began_ms: int | None = None


class ConsumerGroup:
    """One consumer group.

    Invariants: a partition is held by one member at most (`holders`); a member's epoch is at most the target
    epoch, which is at most the group epoch; every member has a part in a target of the group epoch.
    """

    group_type = CONSUMER
    protocol_type = CONSUMER_PROTOCOL

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
        self.members: dict[str, ConsumerMember] = {}
        self.static: dict[str, str] = {}
        """The member of each instance id."""
        self.target_epoch = 0
        self.target_computed_ms = 0
        self.target: dict[str, frozenset[Partition]] = {}
        self.regexes: dict[str, RegularExpressionValue] = {}
        self.holders: dict[Partition, str] = {}
        self._subscribed: Mapping[str, int] | None = None
        self._state: ConsumerState | None = None

    def copy(self) -> ConsumerGroup:
        """Another group of the same hard state, which shares the soft one."""
        other = ConsumerGroup(self.group_id, self.config, self.deadlines, self.cluster)
        other.soft = self.soft
        other.is_recorded = self.is_recorded
        other.epoch, other.metadata_hash = self.epoch, self.metadata_hash
        other.members, other.static = self.members.copy(), self.static.copy()
        other.target_epoch, other.target_computed_ms = self.target_epoch, self.target_computed_ms
        other.target, other.regexes = self.target.copy(), self.regexes.copy()
        other.holders = self.holders.copy()
        return other

    # ── replay: hard state ─────────────────────────────────────────────────────────────────────────────

    def apply(self, change: Change) -> None:
        """One record was written; what it deletes may be unknown, for a log is cleaned piece by piece."""
        self._subscribed = self._state = None
        match change:
            case EpochChange(_, value) if value is not None:
                self.is_recorded = True
                self.epoch, self.metadata_hash = value.epoch, value.metadata_hash
            case MemberChange(_, member_id, value):
                wanted = None if value is None else self._known(member_id).with_metadata(value)
                self._replace(member_id, wanted)
            case TargetEpochChange(_, value):
                self.target_epoch = 0 if value is None else value.assignment_epoch
                self.target_computed_ms = 0 if value is None else value.assignment_timestamp
            case TargetChange(_, member_id, value):
                if value is None:
                    self.target.pop(member_id, None)
                else:
                    self.target[member_id] = target_partitions(value)
            case CurrentChange(_, member_id, value):
                if value is not None:
                    self._replace(member_id, self._known(member_id).with_current(value))
                elif member_id in self.members:
                    self._replace(member_id, self.members[member_id].without_partitions())
            case RegexChange(_, regex, value):
                if value is None:
                    self.regexes.pop(regex, None)
                else:
                    self.regexes[regex] = value

    def _known(self, member_id: str) -> ConsumerMember:
        return self.members.get(member_id) or ConsumerMember(member_id=member_id)

    def _replace(self, member_id: str, after: ConsumerMember | None) -> None:
        before = self.members.pop(member_id, None)
        if before is not None:
            for partition in before.held:
                if self.holders.get(partition) == member_id:
                    del self.holders[partition]
            if before.instance_id is not None and self.static.get(before.instance_id) == member_id:
                del self.static[before.instance_id]
        if after is not None:
            self.members[member_id] = after
            self.holders.update(dict.fromkeys(after.held, member_id))
            if after.instance_id is not None:
                self.static[after.instance_id] = member_id

    # ── questions ──────────────────────────────────────────────────────────────────────────────────────

    @property
    def state(self) -> ConsumerState:
        if self._state is None:
            self._state = self._compute_state()
        return self._state

    def _compute_state(self) -> ConsumerState:
        if not self.members:
            return ConsumerState.EMPTY
        if self.epoch > self.target_epoch:
            return ConsumerState.ASSIGNING
        if all(member.is_reconciled_to(self.target_epoch) for member in self.members.values()):
            return ConsumerState.STABLE
        return ConsumerState.RECONCILING

    @property
    def is_empty(self) -> bool:
        return not self.members

    @property
    def is_unused(self) -> bool:
        """Nothing of the group was ever written."""
        return not self.is_recorded and not self.members

    def topics_of(self, member: ConsumerMember) -> Iterable[str]:
        """What a member wants, each topic once: its names, and what its regular expression means."""
        found = self.regexes.get(member.regex) if member.regex else None
        return dict.fromkeys([*member.topics, *(found.topics if found else ())])

    @property
    def subscribers(self) -> Mapping[str, int]:
        """How many members want each topic."""
        if self._subscribed is None:
            counts: dict[str, int] = {}
            for member in self.members.values():
                for topic in self.topics_of(member):
                    counts[topic] = counts.get(topic, 0) + 1
            self._subscribed = counts
        return self._subscribed

    def is_subscribed(self, topic: str) -> bool:
        return topic in self.subscribers

    @property
    def uses_patterns(self) -> bool:
        """Whether any new topic may be one that the group wants."""
        return any(member.regex for member in self.members.values())

    def may_want(self, topic: str) -> bool:
        """Whether a topic that comes, goes or grows concerns the group."""
        return self.uses_patterns or self.is_subscribed(topic)

    def is_free(self, partition: Partition, member_id: str) -> bool:
        """Whether a member may be given a partition: nobody else has it in hand."""
        return self.holders.get(partition, member_id) == member_id

    def waits_for_others(self, member: ConsumerMember) -> bool:
        """Whether something of a member's part is still held by somebody else."""
        if member.state is not MemberState.UNRELEASED_PARTITIONS:
            return False
        return any(
            not self.is_free(partition, member.member_id)
            for partition in self.target.get(member.member_id, ())
        )

    def member(self, member_id: str) -> ConsumerMember:
        member = self.members.get(member_id)
        if member is None:
            raise Refusal(
                ErrorCode.UNKNOWN_MEMBER_ID,
                f"Member {member_id} is not a member of group {self.group_id}.",
            )
        return member

    def static_member(self, instance_id: str, member_id: str) -> ConsumerMember:
        """The member with an instance id, if it is the one that asks."""
        owner = self.static.get(instance_id)
        if owner is None:
            raise Refusal(ErrorCode.UNKNOWN_MEMBER_ID, f"Instance id {instance_id} is unknown.")
        if owner != member_id:
            raise Refusal(
                ErrorCode.FENCED_INSTANCE_ID,
                f"Static member {member_id} with instance id {instance_id} was fenced by member {owner}.",
            )
        return self.members[owner]

    # ── offsets ────────────────────────────────────────────────────────────────────────────────────────

    def check_commit(self, claim: CommitClaim, decision: Decision) -> None:
        """Offsets are accepted from members, for what they own since the epoch that they name (KIP-1251)."""
        if claim.epoch < 0 and not self.members:
            return
        member = self.member(claim.member_id)
        if not member.uses_classic_protocol and not claim.knows_member_epochs:
            raise Refusal(ErrorCode.UNSUPPORTED_VERSION)
        if claim.epoch > member.epoch or (claim.epoch < member.epoch and not _owned_since(member, claim)):
            raise Refusal(_another_epoch(member))

    def check_fetch(self, member_id: str | None, epoch: int) -> None:
        """Whoever says that it is a member has to be one, in this epoch."""
        if member_id is None and epoch < 0:
            return
        member = self.member(member_id or "")
        if epoch != member.epoch:
            raise Refusal(_another_epoch(member))

    def check_delete_offsets(self) -> None:
        """Offsets of single topics may go as soon as nobody wants the topic."""

    def retention_began_ms(self, topic: str, committed_ms: int) -> int | None:
        """When the retention of an offset began (wall clock); None while it must be kept.

        The target assignment of a group without members is computed when the last one goes, so its time is
        when the group became empty.
        """
        if self.is_subscribed(topic):
            return None
        return max(committed_ms, self.target_computed_ms) if self.is_empty else committed_ms


def _owned_since(member: ConsumerMember, claim: CommitClaim) -> bool:
    """Whether the member has had all these partitions since the epoch that it names, or longer."""
    since = {**member.assigned, **member.revoking}
    never = claim.epoch + 1
    return all(since.get(Partition(*partition), never) <= claim.epoch for partition in claim.partitions)


def _another_epoch(member: ConsumerMember) -> ErrorCode:
    """In the words of the member's protocol."""
    return ErrorCode.ILLEGAL_GENERATION if member.uses_classic_protocol else ErrorCode.STALE_MEMBER_EPOCH
