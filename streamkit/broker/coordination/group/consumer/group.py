"""The consumer group of KIP-848: the coordinator divides partitions, each to one member at a time.

A member comes to the target in two steps. What it shall give up is taken from its assignment, and it stays in
its epoch until its heartbeat no longer names it (*unrevoked*). Then it is in the target's epoch and is given
whatever of its part is free; what others still hold it gets as they let go (*unreleased*). So a partition is
in the hands of one member at a time, whatever each of them has heard, and whoever need not move is never
disturbed. Those who do not let go within their rebalance timeout, or fall silent for a session, are removed.

**Files.** Here is what such a group is beyond `modern.group`. `heartbeat` receives members of the new
protocol, `classic_members` those of the classic one that live in the same group, `departure` sees them off.
`subscriptions` knows what they want, `target` computes who shall own what (`assignors`), `reconciliation`
leads one member there. `migration` turns classic groups into consumer groups and back; `requests` is the way
in for a shard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Self, TypeAlias

from streamkit.broker.config import BrokerConfig
from streamkit.broker.coordination.deadlines import Deadlines
from streamkit.broker.coordination.group.cluster import Cluster
from streamkit.broker.coordination.group.consumer.member import ConsumerMember
from streamkit.broker.coordination.group.consumer.records import (
    SCHEMAS,
    RegexChange,
    RegularExpressionValue,
)
from streamkit.broker.coordination.group.embedded_protocol import CONSUMER_PROTOCOL
from streamkit.broker.coordination.group.modern.draft import Draft
from streamkit.broker.coordination.group.modern.group import ModernGroup
from streamkit.broker.coordination.group.modern.member import MemberState
from streamkit.broker.coordination.group.modern.partitions import (
    Partition,
    TargetPartitionsValue,
    target_partitions,
    target_value,
)
from streamkit.broker.coordination.group.modern.records import Change
from streamkit.broker.coordination.group.vocabulary import CommitClaim, Timer
from streamkit.broker.coordination.shard import Decision, Refusal
from streamkit.protocol.error_codes import ErrorCode

CONSUMER = "consumer"
"""The type of group, as ListGroups names it."""


class ConsumerGroup(ModernGroup[ConsumerMember, frozenset[Partition]]):
    """One consumer group.

    Invariants: a partition is held by one member at most (`holders`); every member has a part in a target of
    the group epoch.
    """

    group_type = CONSUMER
    protocol_type = CONSUMER_PROTOCOL
    schemas = SCHEMAS

    def __init__(
        self, group_id: str, config: BrokerConfig, deadlines: Deadlines[Timer], cluster: Cluster
    ) -> None:
        super().__init__(group_id, config, deadlines, cluster)
        self.static: dict[str, str] = {}
        """The member of each instance id."""
        self.regexes: dict[str, RegularExpressionValue] = {}
        self.holders: dict[Partition, str] = {}
        self._subscribed: Mapping[str, int] | None = None

    def copy(self) -> Self:
        other = super().copy()
        other.static, other.regexes = self.static.copy(), self.regexes.copy()
        other.holders = self.holders.copy()
        return other

    # ── replay: hard state ─────────────────────────────────────────────────────────────────────────────

    def apply(self, change: Change) -> None:
        self._subscribed = None
        super().apply(change)

    def _apply_own(self, change: Change) -> None:
        assert isinstance(change, RegexChange)
        if change.value is None:
            self.regexes.pop(change.regex, None)
        else:
            self.regexes[change.regex] = change.value

    def own_tombstones(self) -> Iterable[Change]:
        return [RegexChange(self.group_id, regex, None) for regex in self.regexes]

    def new_member(self, member_id: str) -> ConsumerMember:
        return ConsumerMember(member_id=member_id)

    def part_in(self, value: TargetPartitionsValue) -> frozenset[Partition]:
        return target_partitions(value)

    def part_value(self, part: Iterable[Partition]) -> TargetPartitionsValue:
        return target_value(part)

    def _replace(self, member_id: str, after: ConsumerMember | None) -> None:
        before = self.members.pop(member_id, None)
        if before is not None:
            for partition in before.held:
                if self.holders.get(partition) == member_id:
                    del self.holders[partition]
            if before.instance_id is not None and self.static.get(before.instance_id) == member_id:
                del self.static[before.instance_id]
        super()._replace(member_id, after)
        if after is not None:
            self.holders.update(dict.fromkeys(after.held, member_id))
            if after.instance_id is not None:
                self.static[after.instance_id] = member_id

    # ── questions ──────────────────────────────────────────────────────────────────────────────────────

    def topics_of(self, member: ConsumerMember) -> Iterable[str]:
        """What a member wants, each topic once: its names, and what its regular expression means."""
        found = self.regexes.get(member.regex) if member.regex else None
        return dict.fromkeys([*member.topics, *(found.topics if found else ())])

    @property
    def subscribers(self) -> Mapping[str, int]:
        """How many members want each topic."""
        if self._subscribed is None:
            wanted = (topic for member in self.members.values() for topic in self.topics_of(member))
            self._subscribed = Counter(wanted)
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
        if member.state is not MemberState.UNRELEASED:
            return False
        return any(
            not self.is_free(partition, member.member_id)
            for partition in self.target.get(member.member_id, ())
        )

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


ConsumerDraft: TypeAlias = Draft[ConsumerGroup]
