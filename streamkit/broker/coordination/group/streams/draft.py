"""A streams group as a decision will leave it: what is decided next sees what was decided before.

Hard state changes by replay alone, once the whole decision is made. Until then each change is written into
the decision and applied to a copy of the group, which is made when the first change is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from streamkit.broker.coordination.group.streams.group import StreamsGroup
from streamkit.broker.coordination.group.streams.member import StreamsMember
from streamkit.broker.coordination.group.streams.records import (
    Change,
    CurrentChange,
    EpochChange,
    GroupMetadataValue,
    KeyValue,
    MemberChange,
    TargetChange,
    TargetEpochChange,
    TopologyChange,
    record_of,
)
from streamkit.broker.coordination.group.vocabulary import RebalanceReason, RebalanceStarted, Timer
from streamkit.broker.coordination.shard import Decision

MEMBER_TIMERS: Final = ("session", "revoke")


class Draft:
    """`group` must not be kept across a `write`."""

    def __init__(self, group: StreamsGroup, decision: Decision) -> None:
        self.group = group
        self.decision = decision
        self._is_copy = False

    def write(self, change: Change) -> None:
        if not self._is_copy:
            self.group = self.group.copy()
            self._is_copy = True
        self.decision.records.append(record_of(change))
        self.group.apply(change)

    def begin_epoch(
        self,
        reason: RebalanceReason,
        *,
        metadata_hash: int,
        validated_topology_epoch: int,
        assignment_configs: Mapping[str, str],
    ) -> None:
        """The tasks have to be divided anew."""
        group = self.group
        configs = [KeyValue(key=key, value=text) for key, text in sorted(assignment_configs.items())]
        value = GroupMetadataValue(
            epoch=group.epoch + 1,
            metadata_hash=metadata_hash,
            validated_topology_epoch=validated_topology_epoch,
            last_assignment_configs=configs,
        )
        self.write(EpochChange(group.group_id, value))
        self.decision.events.append(RebalanceStarted(group.group_id, reason))
        if group.soft.rebalance_began_ms is None:
            group.soft.rebalance_began_ms = self.decision.at.monotonic_ms

    # ── members ────────────────────────────────────────────────────────────────────────────────────────

    def write_metadata(self, member: StreamsMember) -> None:
        self.write(MemberChange(self.group.group_id, member.member_id, member.metadata()))

    def write_current(self, member: StreamsMember) -> None:
        self.write(CurrentChange(self.group.group_id, member.member_id, member.current()))

    def remove(self, member_id: str) -> None:
        """Forget a member and its deadlines."""
        group_id = self.group.group_id
        self.write(CurrentChange(group_id, member_id, None))
        self.write(TargetChange(group_id, member_id, None))
        self.write(MemberChange(group_id, member_id, None))
        for kind in MEMBER_TIMERS:
            self.cancel(kind, member_id)

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
        self.write(TopologyChange(group_id, None))
        self.write(EpochChange(group_id, None))

    # ── deadlines ──────────────────────────────────────────────────────────────────────────────────────

    def expect(self, kind: str, member_id: str, timeout_ms: int) -> None:
        """Give a member this long; see `Timer` for what."""
        due_ms = self.decision.at.monotonic_ms + timeout_ms
        self.group.deadlines.set(Timer(kind, self.group.group_id, member_id), due_ms)

    def is_expected(self, kind: str, member_id: str = "") -> bool:
        return self.group.deadlines.get(Timer(kind, self.group.group_id, member_id)) is not None

    def cancel(self, kind: str, member_id: str) -> None:
        self.group.deadlines.cancel(Timer(kind, self.group.group_id, member_id))
