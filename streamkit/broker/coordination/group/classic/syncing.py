"""The work is handed out: members wait until the leader has divided it, and each gets its part."""

from __future__ import annotations

from streamkit.broker.coordination.group.classic.group import ClassicGroup, ClassicState, refuse_sync
from streamkit.broker.coordination.group.classic.rebalance import prepare_rebalance
from streamkit.broker.coordination.group.vocabulary import RebalanceCompleted, RebalanceReason
from streamkit.broker.coordination.shard import Decision, Refusal, Token
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.sync_group import SyncGroupRequest


def sync(group: ClassicGroup, request: SyncGroupRequest, token: Token, decision: Decision) -> None:
    member = group.member(request.member_id, request.group_instance_id)
    group.check_generation(request.generation_id)
    _check_same_protocol(group, request)
    if group.state is ClassicState.PREPARING_REBALANCE:
        raise Refusal(ErrorCode.REBALANCE_IN_PROGRESS)
    group.unsynced.pop(member.member_id, None)
    if not group.unsynced:
        group.deadlines.cancel(group.timer("sync"))
    if group.state is ClassicState.STABLE:
        decision.reply(token, group.assigned(member.assignment))
        return
    refuse_sync(member, ErrorCode.REBALANCE_IN_PROGRESS, decision)
    member.syncing = token
    if member.member_id == group.leader:
        given = {part.member_id: part.assignment for part in request.assignments}
        _assign(group, {member_id: given.get(member_id, b"") for member_id in group.members}, decision)


def _check_same_protocol(group: ClassicGroup, request: SyncGroupRequest) -> None:
    """KIP-559: a member that believes in another protocol must not be given this one's assignment."""
    if request.protocol_type not in (None, group.protocol_type) or request.protocol_name not in (
        None,
        group.protocol_name,
    ):
        raise Refusal(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)


def _assign(group: ClassicGroup, assignments: dict[str, bytes], decision: Decision) -> None:
    """The leader divided the work: write it down, and tell those who wait."""
    group.record(group.generation, assignments, decision)
    for member in group.members.values():
        if member.syncing is not None:
            decision.reply(member.syncing, group.assigned(assignments[member.member_id]))
            member.syncing = None
            group.expect_heartbeat(member, decision)
    began_ms = group.rebalance_began_ms
    if began_ms is not None:
        decision.events.append(RebalanceCompleted(group.group_id, decision.at.monotonic_ms - began_ms))


def sync_timeout(group: ClassicGroup, decision: Decision) -> None:
    """Whoever joined and never came for its assignment is gone, and its part must be given to others."""
    if group.state in (ClassicState.COMPLETING_REBALANCE, ClassicState.STABLE) and group.unsynced:
        for member_id in list(group.unsynced):
            group.remove(member_id, decision)
        prepare_rebalance(group, RebalanceReason.SYNC_EXPIRED, decision)
