"""One member of a consumer group on its way to its target; the steps are `modern.reconciliation`'s."""

from __future__ import annotations

from collections.abc import Set

from msgspec.structs import replace

from streamkit.broker.coordination.group.consumer.group import ConsumerGroup
from streamkit.broker.coordination.group.consumer.member import NOTHING, ConsumerMember
from streamkit.broker.coordination.group.modern import reconciliation
from streamkit.broker.coordination.group.modern.member import MemberState
from streamkit.broker.coordination.group.modern.partitions import Partition


def reconciled(group: ConsumerGroup, member: ConsumerMember, owned: Set[Partition] | None) -> ConsumerMember:
    """The member one step further; itself if nothing can move. `owned` is what it says it has, if it does."""
    return reconciliation.reconciled(
        group,
        member,
        has_let_go=_has_let_go(member.revoking.keys(), owned),
        has_nothing=owned is not None and not owned,
        towards_target=lambda epoch: _next(group, member, epoch, owned),
    )


def _next(
    group: ConsumerGroup, member: ConsumerMember, epoch: int, owned: Set[Partition] | None
) -> ConsumerMember:
    target = group.target.get(member.member_id, frozenset())
    kept = {partition: since for partition, since in member.assigned.items() if partition in target}
    revoking = {partition: since for partition, since in member.assigned.items() if partition not in target}
    if not _has_let_go(revoking.keys(), owned):
        return replace(member.at_epoch(epoch), state=MemberState.UNREVOKED, assigned=kept, revoking=revoking)
    wanted = sorted(target - kept.keys())
    free = [partition for partition in wanted if group.is_free(partition, member.member_id)]
    return replace(
        member.at_epoch(group.target_epoch),
        state=MemberState.STABLE if len(free) == len(wanted) else MemberState.UNRELEASED,
        assigned={**kept, **dict.fromkeys(free, group.target_epoch)},
        revoking=NOTHING,
    )


def _has_let_go(partitions: Set[Partition], owned: Set[Partition] | None) -> bool:
    """Nothing to let go of, or the member says what it has and these are not among it."""
    return not partitions or (owned is not None and partitions.isdisjoint(owned))
