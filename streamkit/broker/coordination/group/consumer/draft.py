"""A group as a decision will leave it: what is decided next already sees what was decided before.

Hard state changes by replay alone, once the whole decision is made. Until then each change is written into
the decision and applied to a copy of the group, which is made when the first change is.
"""

from __future__ import annotations

from streamkit.broker.coordination.group.consumer.group import ConsumerGroup
from streamkit.broker.coordination.group.consumer.member import ConsumerMember
from streamkit.broker.coordination.group.consumer.records import (
    Change,
    CurrentChange,
    EpochChange,
    MemberChange,
    RegexChange,
    TargetChange,
    TargetEpochChange,
    record_of,
)
from streamkit.broker.coordination.group.vocabulary import Timer
from streamkit.broker.coordination.shard import Decision

MEMBER_TIMERS = ("session", "revoke", "join", "sync")


class Draft:
    """`group` must not be kept across a `write`."""

    def __init__(self, group: ConsumerGroup, decision: Decision) -> None:
        self.group = group
        self.decision = decision
        self._is_copy = False

    def write(self, change: Change) -> None:
        if not self._is_copy:
            self.group = self.group.copy()
            self._is_copy = True
        self.decision.records.append(record_of(change))
        self.group.apply(change)

    # ── members ────────────────────────────────────────────────────────────────────────────────────────

    def write_metadata(self, member: ConsumerMember) -> None:
        self.write(MemberChange(self.group.group_id, member.member_id, member.metadata()))

    def write_current(self, member: ConsumerMember) -> None:
        self.write(CurrentChange(self.group.group_id, member.member_id, member.current()))

    def remove(self, member_id: str) -> None:
        """Forget a member and its deadlines."""
        group_id = self.group.group_id
        self.write(CurrentChange(group_id, member_id, None))
        self.write(TargetChange(group_id, member_id, None))
        self.write(MemberChange(group_id, member_id, None))
        self.cancel_deadlines(member_id)

    def delete(self) -> None:
        """Take back every record of the group."""
        group_id = self.group.group_id
        members, parts, regexes = list(self.group.members), list(self.group.target), list(self.group.regexes)
        for member_id in members:
            self.write(CurrentChange(group_id, member_id, None))
        for member_id in parts:
            self.write(TargetChange(group_id, member_id, None))
        self.write(TargetEpochChange(group_id, None))
        for member_id in members:
            self.write(MemberChange(group_id, member_id, None))
        for regex in regexes:
            self.write(RegexChange(group_id, regex, None))
        self.write(EpochChange(group_id, None))

    # ── deadlines ──────────────────────────────────────────────────────────────────────────────────────

    def expect(self, kind: str, member_id: str, timeout_ms: int) -> None:
        """Give a member this long; see `Timer` for what."""
        due_ms = self.decision.at.monotonic_ms + timeout_ms
        self.group.deadlines.set(Timer(kind, self.group.group_id, member_id), due_ms)

    def expect_once(self, kind: str, member_id: str, timeout_ms: int) -> None:
        """The same, unless it has been told before."""
        if self.group.deadlines.get(Timer(kind, self.group.group_id, member_id)) is None:
            self.expect(kind, member_id, timeout_ms)

    def cancel(self, kind: str, member_id: str) -> None:
        self.group.deadlines.cancel(Timer(kind, self.group.group_id, member_id))

    def cancel_deadlines(self, member_id: str) -> None:
        for kind in MEMBER_TIMERS:
            self.cancel(kind, member_id)
