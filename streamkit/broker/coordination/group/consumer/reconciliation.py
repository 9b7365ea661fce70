"""One member on its way to its target: it gives up what it shall not have, then gets what is free.

    Stable ── something to give up ──▶ Unrevoked ── it let go ──▶ Stable, or Unreleased
      └────── nothing to give up ──────────────────────────────▶ Stable, or Unreleased
    Unreleased ── others let go ──▶ Stable

A member that has something to give up stays in its epoch; offsets of what it is giving up are committed in
that one. It enters the target's epoch with the first thing that it is given there, or when nothing is left to
do.
"""

from __future__ import annotations

from collections.abc import Set

from msgspec.structs import replace

from streamkit.broker.coordination.group.consumer.group import ConsumerGroup
from streamkit.broker.coordination.group.consumer.member import (
    NOTHING,
    ConsumerMember,
    MemberState,
    Partition,
)
from streamkit.broker.coordination.shard import Refusal
from streamkit.protocol.error_codes import ErrorCode


def reconciled(group: ConsumerGroup, member: ConsumerMember, owned: Set[Partition] | None) -> ConsumerMember:
    """The member one step further; itself if nothing can move. `owned` is what it says it has, if it does."""
    if member.is_reconciled_to(group.target_epoch):
        return member
    match member.state:
        case MemberState.STABLE | MemberState.UNRELEASED_PARTITIONS:
            return _next(group, member, member.epoch, owned)
        case MemberState.UNREVOKED_PARTITIONS if _has_let_go(member.revoking.keys(), owned):
            return _next(group, member, member.epoch + 1, owned)
        case MemberState.UNREVOKED_PARTITIONS:
            return member
        case MemberState.UNKNOWN if owned is not None and not owned:
            return _next(group, member, group.target_epoch, owned)
    raise Refusal(
        ErrorCode.FENCED_MEMBER_EPOCH,
        "The member is in an unknown state. It must abandon all its partitions and rejoin.",
    )


def _next(
    group: ConsumerGroup, member: ConsumerMember, epoch: int, owned: Set[Partition] | None
) -> ConsumerMember:
    target = group.target.get(member.member_id, frozenset())
    kept = {partition: since for partition, since in member.assigned.items() if partition in target}
    revoking = {partition: since for partition, since in member.assigned.items() if partition not in target}
    if not _has_let_go(revoking.keys(), owned):
        return replace(
            member.at_epoch(epoch),
            state=MemberState.UNREVOKED_PARTITIONS,
            assigned=kept,
            revoking=revoking,
        )
    wanted = sorted(target - kept.keys())
    free = [partition for partition in wanted if group.is_free(partition, member.member_id)]
    return replace(
        member.at_epoch(group.target_epoch),
        state=MemberState.STABLE if len(free) == len(wanted) else MemberState.UNRELEASED_PARTITIONS,
        assigned={**kept, **dict.fromkeys(free, group.target_epoch)},
        revoking=NOTHING,
    )


def _has_let_go(partitions: Set[Partition], owned: Set[Partition] | None) -> bool:
    """Nothing to let go of, or the member says what it has and these are not among it."""
    return not partitions or (owned is not None and partitions.isdisjoint(owned))
