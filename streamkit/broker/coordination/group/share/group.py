"""The share group of KIP-932: consumers that take records from the same partitions, each record one of them.

**The idea.** A share group is a queue. Its members are told which partitions to look into, and several may be
told the same one; which of them gets a record is decided by the partition's leader, record by record. So
nobody has to let go of a partition before somebody else may have it, and a member goes to its part of a new
target in one step. The work is divided anew, too, when the state of a partition has been begun: a partition
is given to members only when a share coordinator keeps a state for it (`states`).

**The group's state** is Empty without members, else Stable.

**Files.** Here is what such a group is beyond `modern.group`. `heartbeat` receives members and sees them off,
`target` divides the partitions (`assignor`), `states` knows which of them have a state, `offsets` lets
operators begin and end those. `requests` is the way in for a shard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NoReturn, TypeAlias

import msgspec

from streamkit.broker.config import BrokerConfig
from streamkit.broker.coordination.deadlines import Deadlines
from streamkit.broker.coordination.group.cluster import Cluster
from streamkit.broker.coordination.group.modern import group as modern
from streamkit.broker.coordination.group.modern.draft import Draft
from streamkit.broker.coordination.group.modern.group import GroupState, ModernGroup
from streamkit.broker.coordination.group.modern.partitions import (
    Partition,
    TargetPartitionsValue,
    target_partitions,
    target_value,
)
from streamkit.broker.coordination.group.modern.records import Change
from streamkit.broker.coordination.group.share.member import ShareMember
from streamkit.broker.coordination.group.share.records import SCHEMAS, StatesChange
from streamkit.broker.coordination.group.share.states import NO_STATES, states_of
from streamkit.broker.coordination.group.vocabulary import CommitClaim, Timer
from streamkit.broker.coordination.shard import Decision, Refusal
from streamkit.protocol.error_codes import ErrorCode

SHARE = "share"
"""The type of group, as ListGroups names it, and the type of its protocol."""


class Soft(modern.Soft, kw_only=True):
    asked: set[Partition] = msgspec.field(default_factory=set)
    """Whose states the share coordinator has been asked to begin, and has not said yet that it did."""


class ShareGroup(ModernGroup[ShareMember, frozenset[Partition]]):
    """One share group.

    Invariants: what the target gives to anybody has a state.
    """

    group_type = SHARE
    protocol_type = SHARE
    schemas = SCHEMAS
    soft: Soft

    def __init__(
        self, group_id: str, config: BrokerConfig, deadlines: Deadlines[Timer], cluster: Cluster
    ) -> None:
        super().__init__(group_id, config, deadlines, cluster)
        self.soft = Soft()
        self.states = NO_STATES
        self._subscribed: Mapping[str, int] | None = None

    # ── replay: hard state ─────────────────────────────────────────────────────────────────────────────

    def apply(self, change: Change) -> None:
        self._subscribed = None
        super().apply(change)

    def _apply_own(self, change: Change) -> None:
        assert isinstance(change, StatesChange)
        self.states = states_of(change.value)

    def own_tombstones(self) -> Iterable[Change]:
        return [StatesChange(self.group_id, None)]

    def new_member(self, member_id: str) -> ShareMember:
        return ShareMember(member_id=member_id)

    def part_in(self, value: TargetPartitionsValue) -> frozenset[Partition]:
        return target_partitions(value)

    def part_value(self, part: Iterable[Partition]) -> TargetPartitionsValue:
        return target_value(part)

    # ── questions ──────────────────────────────────────────────────────────────────────────────────────

    def _compute_state(self) -> GroupState:
        return GroupState.STABLE if self.members else GroupState.EMPTY

    @property
    def subscribers(self) -> Mapping[str, int]:
        """How many members want each topic."""
        if self._subscribed is None:
            self._subscribed = Counter(topic for member in self.members.values() for topic in member.topics)
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

    # ── offsets: a share group commits none ──────────────────────────────────────────────────────────────

    def check_commit(self, claim: CommitClaim, decision: Decision) -> None:
        self._refuse()

    def check_fetch(self, member_id: str | None, epoch: int) -> None:
        self._refuse()

    def check_delete_offsets(self) -> None:
        self._refuse()

    def retention_began_ms(self, topic: str, committed_ms: int) -> int | None:
        """Offsets that stand under the group's name are of no use to it."""
        return committed_ms

    def _refuse(self) -> NoReturn:
        raise Refusal(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {self.group_id} is not a consumer group.")


ShareDraft: TypeAlias = Draft[ShareGroup]
