"""A group whose work is divided by the coordinator, whatever kind of work that is.

**The idea.** Members do not wait for each other. Each sends heartbeats that say what it wants and what it
has, and is told its share. Three numbers move through a group:

    group epoch       grows whenever the work has to be divided anew: members come, go, want something else,
                      or what there is to divide changes
    target epoch      the group epoch that the *target assignment* was computed for: who shall have what
    member epoch      the target epoch that this one member has come to

**The group's state** follows from the numbers:

    Empty         no members
    NotReady      what shall be divided is not there yet (streams groups)
    Assigning     the group epoch is ahead of the target epoch
    Reconciling   some member is not at the target yet
    Stable        all are

**Files.** Here is what all such groups are, and `apply`, through which they change; what is divided, and when
a member may be given its part, is the affair of each kind (`consumer`, `share`, `streams`). `records` has the
changes, `draft` the group as a decision will leave it, `reconciliation` the steps of one member to its
target, `heartbeat` and `departure` what those who come, live and go have in common.

**Hard and soft.** Hard state is the sum of the records. Soft is what `Soft` holds, and deadlines.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from copy import copy
from enum import StrEnum
from typing import Any, ClassVar, Generic, Self, TypeVar

import msgspec

from streamkit.broker.config import BrokerConfig
from streamkit.broker.coordination.deadlines import Deadlines
from streamkit.broker.coordination.group.cluster import Cluster
from streamkit.broker.coordination.group.modern.member import Member
from streamkit.broker.coordination.group.modern.records import (
    Change,
    CurrentChange,
    EpochChange,
    MemberChange,
    Schemas,
    TargetChange,
    TargetEpochChange,
)
from streamkit.broker.coordination.group.vocabulary import CommitClaim, Timer
from streamkit.broker.coordination.shard import Decision, Refusal
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.schema import Message

M = TypeVar("M", bound=Member)
Part = TypeVar("Part")
"""What a target gives to one member."""


class GroupState(StrEnum):
    EMPTY = "Empty"
    NOT_READY = "NotReady"
    ASSIGNING = "Assigning"
    RECONCILING = "Reconciling"
    STABLE = "Stable"


class Soft(msgspec.Struct, kw_only=True):
    """What a crash may take, shared by a group and its drafts."""

    topics_changed: bool = True
    """What there is to divide is not, or may not be, what the group's epoch was begun for."""
    rebalance_began_ms: int | None = None


class ModernGroup(ABC, Generic[M, Part]):
    """One group.

    Invariants: a member's epoch is at most the target epoch, which is at most the group epoch.
    """

    group_type: ClassVar[str]
    """As ListGroups names it."""
    protocol_type: ClassVar[str]
    schemas: ClassVar[Schemas]
    work: ClassVar[str] = "partitions"
    """What members have, as they are told."""
    first_epoch: ClassVar[int] = 0
    """Of a group that nobody has joined."""

    def __init__(
        self, group_id: str, config: BrokerConfig, deadlines: Deadlines[Timer], cluster: Cluster
    ) -> None:
        self.group_id = group_id
        self.config = config
        self.deadlines = deadlines
        self.cluster = cluster
        self.soft = Soft()
        self.is_recorded = False
        self.epoch = self.first_epoch
        self.metadata_hash = 0
        self.members: dict[str, M] = {}
        self.target_epoch = self.first_epoch
        self.target_computed_ms = 0
        self.target: dict[str, Part] = {}
        self._state: GroupState | None = None

    def copy(self) -> Self:
        """Another group of the same hard state, which shares the soft one."""
        other = copy(self)
        other.members, other.target = self.members.copy(), self.target.copy()
        return other

    # ── replay: hard state ─────────────────────────────────────────────────────────────────────────────

    def apply(self, change: Change) -> None:
        """One record was written; what it deletes may be unknown, for a log is cleaned piece by piece."""
        self._state = None
        what: object = change
        match what:
            case EpochChange(_, value):
                if value is not None:
                    self._begin(value)
            case MemberChange(_, member_id, value):
                said = None if value is None else self._known(member_id).with_metadata(value)
                self._replace(member_id, said)
            case TargetEpochChange(_, value):
                self.target_epoch = self.first_epoch if value is None else value.assignment_epoch
                self.target_computed_ms = 0 if value is None else value.assignment_timestamp
            case TargetChange(_, member_id, value):
                if value is None:
                    self.target.pop(member_id, None)
                else:
                    self.target[member_id] = self.part_in(value)
            case CurrentChange(_, member_id, value):
                if value is not None:
                    self._replace(member_id, self._known(member_id).with_current(value))
                elif member_id in self.members:
                    self._replace(member_id, self.members[member_id].without_part())
            case _:
                self._apply_own(change)

    def _begin(self, value: Any) -> None:
        """An epoch, as its record says it."""
        self.is_recorded = True
        self.epoch, self.metadata_hash = value.epoch, value.metadata_hash

    def _known(self, member_id: str) -> M:
        return self.members.get(member_id) or self.new_member(member_id)

    def _replace(self, member_id: str, after: M | None) -> None:
        if after is None:
            self.members.pop(member_id, None)
        else:
            self.members[member_id] = after

    @abstractmethod
    def _apply_own(self, change: Change) -> None:
        """A record that only this kind of group has."""

    # ── what the kinds divide ──────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def new_member(self, member_id: str) -> M: ...

    @abstractmethod
    def part_in(self, value: Any) -> Part:
        """A member's part of a target, as a record says it."""

    @abstractmethod
    def part_value(self, part: Part) -> Message:
        """The record that says it."""

    @abstractmethod
    def own_tombstones(self) -> Iterable[Change]:
        """Take back the records that only this kind of group has."""

    # ── questions ──────────────────────────────────────────────────────────────────────────────────────

    @property
    def state(self) -> GroupState:
        if self._state is None:
            self._state = self._compute_state()
        return self._state

    def _compute_state(self) -> GroupState:
        if not self.members:
            return GroupState.EMPTY
        if self.epoch > self.target_epoch:
            return GroupState.ASSIGNING
        if all(member.is_reconciled_to(self.target_epoch) for member in self.members.values()):
            return GroupState.STABLE
        return GroupState.RECONCILING

    @property
    def is_empty(self) -> bool:
        return not self.members

    @abstractmethod
    def may_want(self, topic: str) -> bool:
        """Whether a topic that comes, goes or grows concerns the group."""

    @abstractmethod
    def is_subscribed(self, topic: str) -> bool:
        """Whether a live member may still need offsets of this topic."""

    def member(self, member_id: str) -> M:
        member = self.members.get(member_id)
        if member is None:
            raise Refusal(
                ErrorCode.UNKNOWN_MEMBER_ID,
                f"Member {member_id} is not a member of group {self.group_id}.",
            )
        return member

    # ── offsets ────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def check_commit(self, claim: CommitClaim, decision: Decision) -> None:
        """Raises Refusal."""

    @abstractmethod
    def check_fetch(self, member_id: str | None, epoch: int) -> None:
        """Whoever says that it is a member has to be one, in this epoch. Raises Refusal."""

    def check_delete_offsets(self) -> None:
        """Offsets of single topics may go as soon as nobody wants the topic. Raises Refusal."""

    @abstractmethod
    def retention_began_ms(self, topic: str, committed_ms: int) -> int | None:
        """When the retention of an offset began (wall clock); None while it must be kept."""
