"""A group as a decision will leave it: what is decided next already sees what was decided before.

Hard state changes by replay alone, once the whole decision is made. Until then each change is written into
the decision and applied to a copy of the group, which is made when the first change is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Generic, TypeVar

from streamkit.broker.coordination.group.modern.group import ModernGroup
from streamkit.broker.coordination.group.modern.member import Member
from streamkit.broker.coordination.group.modern.records import (
    Change,
    CurrentChange,
    EpochChange,
    MemberChange,
    TargetChange,
    TargetEpochChange,
    TargetEpochValue,
)
from streamkit.broker.coordination.group.vocabulary import (
    RebalanceCompleted,
    RebalanceReason,
    RebalanceStarted,
    Timer,
)
from streamkit.broker.coordination.shard import Decision
from streamkit.protocol.schema import Message

MEMBER_TIMERS: Final = ("session", "revoke", "join", "sync")

G = TypeVar("G", bound=ModernGroup[Any, Any])


class Draft(Generic[G]):
    """`group` must not be kept across a `write`."""

    def __init__(self, group: G, decision: Decision) -> None:
        self.group = group
        self.decision = decision
        self._is_copy = False

    def write(self, change: Change) -> None:
        if not self._is_copy:
            self.group = self.group.copy()
            self._is_copy = True
        self.decision.records.append(self.group.schemas.record_of(change))
        self.group.apply(change)

    # ── the group ──────────────────────────────────────────────────────────────────────────────────────

    def begin_epoch(self, value: Message, reason: RebalanceReason) -> None:
        """The work has to be divided anew."""
        group = self.group
        self.write(EpochChange(group.group_id, value))
        self.decision.events.append(RebalanceStarted(group.group_id, reason))
        if group.soft.rebalance_began_ms is None:
            group.soft.rebalance_began_ms = self.decision.at.monotonic_ms

    def write_target(self, parts: Mapping[str, Any]) -> None:
        """Who shall have what in the group's epoch."""
        before = self.group.target
        for member_id, part in parts.items():
            if before.get(member_id) != part:
                self.write_part(member_id, part)
        self.write_target_epoch(self.group.epoch)

    def write_part(self, member_id: str, part: Any) -> None:
        self.write(TargetChange(self.group.group_id, member_id, self.group.part_value(part)))

    def write_target_epoch(self, epoch: int) -> None:
        value = TargetEpochValue(assignment_epoch=epoch, assignment_timestamp=self.decision.at.wall_ms)
        self.write(TargetEpochChange(self.group.group_id, value))

    def note_completion(self) -> None:
        """The rebalance is over, if there was one."""
        soft = self.group.soft
        if soft.rebalance_began_ms is not None:
            duration_ms = self.decision.at.monotonic_ms - soft.rebalance_began_ms
            self.decision.events.append(RebalanceCompleted(self.group.group_id, duration_ms))
            soft.rebalance_began_ms = None

    def delete(self) -> None:
        """Take back every record of the group."""
        group_id = self.group.group_id
        members, parts = list(self.group.members), list(self.group.target)
        for member_id in members:
            self.write(CurrentChange(group_id, member_id, None))
        for member_id in parts:
            self.write(TargetChange(group_id, member_id, None))
        self.write(TargetEpochChange(group_id, None))
        for member_id in members:
            self.write(MemberChange(group_id, member_id, None))
        for change in list(self.group.own_tombstones()):
            self.write(change)
        self.write(EpochChange(group_id, None))

    # ── members ────────────────────────────────────────────────────────────────────────────────────────

    def write_metadata(self, member: Member) -> None:
        self.write(MemberChange(self.group.group_id, member.member_id, member.metadata()))

    def write_current(self, member: Member) -> None:
        self.write(CurrentChange(self.group.group_id, member.member_id, member.current()))

    def remove(self, member_id: str) -> None:
        """Forget a member and its deadlines."""
        group_id = self.group.group_id
        self.write(CurrentChange(group_id, member_id, None))
        self.write(TargetChange(group_id, member_id, None))
        self.write(MemberChange(group_id, member_id, None))
        self.cancel_deadlines(member_id)

    # ── deadlines ──────────────────────────────────────────────────────────────────────────────────────

    def expect(self, kind: str, member_id: str, timeout_ms: int) -> None:
        """Give a member this long; see `Timer` for what."""
        due_ms = self.decision.at.monotonic_ms + timeout_ms
        self.group.deadlines.set(Timer(kind, self.group.group_id, member_id), due_ms)

    def expect_once(self, kind: str, member_id: str, timeout_ms: int) -> None:
        """The same, unless it has been told before."""
        if not self.is_expected(kind, member_id):
            self.expect(kind, member_id, timeout_ms)

    def is_expected(self, kind: str, member_id: str = "") -> bool:
        return self.group.deadlines.get(Timer(kind, self.group.group_id, member_id)) is not None

    def cancel(self, kind: str, member_id: str) -> None:
        self.group.deadlines.cancel(Timer(kind, self.group.group_id, member_id))

    def cancel_deadlines(self, member_id: str) -> None:
        for kind in MEMBER_TIMERS:
            self.cancel(kind, member_id)
