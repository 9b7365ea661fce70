"""Who lives and who goes: heartbeats, leaving, sessions that end."""

from __future__ import annotations

from streamkit.broker.coordination.group.classic.group import ClassicGroup, ClassicState
from streamkit.broker.coordination.group.classic.rebalance import (
    complete_join,
    complete_join_if_gathered,
    prepare_rebalance,
)
from streamkit.broker.coordination.group.vocabulary import RebalanceReason
from streamkit.broker.coordination.shard import Decision, Refusal
from streamkit.protocol.error_codes import ErrorCode


def heartbeat(
    group: ClassicGroup, member_id: str, instance_id: str | None, generation: int, decision: Decision
) -> None:
    member = group.member(member_id, instance_id)
    group.check_generation(generation)
    group.expect_heartbeat(member, decision)
    if group.state is ClassicState.PREPARING_REBALANCE:
        raise Refusal(ErrorCode.REBALANCE_IN_PROGRESS)


def leave(group: ClassicGroup, member_id: str, instance_id: str | None, decision: Decision) -> None:
    """One member goes; `left` follows once all have. An operator names a static one by its instance."""
    if not member_id and instance_id is not None and instance_id in group.static:
        member_id = group.static[instance_id]
    elif member_id not in group.promised:
        group.member(member_id, instance_id)
    group.remove(member_id, decision)


def left(group: ClassicGroup, decision: Decision) -> None:
    _after_departure(group, RebalanceReason.MEMBER_LEFT, decision)


def session_timeout(group: ClassicGroup, member_id: str, decision: Decision) -> None:
    """A member that waits for the others is alive; a new one that waits this long is not."""
    member = group.members.get(member_id)
    if member is None:
        group.promised.pop(member_id, None)
        complete_join_if_gathered(group, decision)
    elif member.is_new or (member.joining is None and member.syncing is None):
        group.remove(member_id, decision)
        _after_departure(group, RebalanceReason.SESSION_EXPIRED, decision)


def _after_departure(group: ClassicGroup, reason: RebalanceReason, decision: Decision) -> None:
    if group.state in (ClassicState.STABLE, ClassicState.COMPLETING_REBALANCE):
        prepare_rebalance(group, reason, decision)
    elif group.state is ClassicState.PREPARING_REBALANCE and group.is_initial and not group.members:
        complete_join(group, decision)
    else:
        complete_join_if_gathered(group, decision)
