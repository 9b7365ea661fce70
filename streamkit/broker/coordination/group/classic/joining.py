"""Who comes in: the join of members new and known, dynamic and static (KIP-394, KIP-345, KIP-814)."""

from __future__ import annotations

from typing import NamedTuple

from streamkit.broker.coordination.group.classic.group import (
    ClassicGroup,
    ClassicState,
    refuse_join,
    refuse_sync,
    refused_join,
)
from streamkit.broker.coordination.group.classic.member import Member
from streamkit.broker.coordination.group.classic.rebalance import complete_join_if_gathered, request_rebalance
from streamkit.broker.coordination.group.embedded_protocol import CONSUMER_PROTOCOL, subscribed_topics
from streamkit.broker.coordination.group.vocabulary import Caller, RebalanceReason
from streamkit.broker.coordination.shard import Decision, Refusal, Token
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse

NEW_MEMBER_JOIN_TIMEOUT_MS = 5 * 60_000
"""How long the parked join of a member that does not know its id yet is kept; as Kafka's."""

REQUIRES_MEMBER_ID_VERSION = 4
SKIPS_ASSIGNMENT_VERSION = 9


class JoinCall(NamedTuple):
    """A JoinGroup request, who sent it, and who waits for its answer."""

    request: JoinGroupRequest
    caller: Caller
    token: Token


def join(group: ClassicGroup, call: JoinCall, decision: Decision) -> None:
    request = call.request
    member_id = request.member_id
    if not _has_room_for(group, member_id):
        group.remove(member_id, decision)
        complete_join_if_gathered(group, decision)
        decision.reply(call.token, refused_join(ErrorCode.GROUP_MAX_SIZE_REACHED))
        return
    _check_protocols(group, request)
    if not member_id:
        _join_nameless(group, call, decision)
    elif member_id in group.promised and request.group_instance_id is None:
        _add_member(group, member_id, call, decision)
    else:
        _rejoin(group, group.member(member_id, request.group_instance_id), call, decision)


def _has_room_for(group: ClassicGroup, member_id: str) -> bool:
    """New members up to the limit; while members gather, whoever is here first (limits shrink)."""
    limit = group.config.group_max_size
    member = group.members.get(member_id)
    if group.state is ClassicState.EMPTY:
        return True
    if group.state is ClassicState.PREPARING_REBALANCE:
        waiting = sum(m.joining is not None for m in group.members.values())
        return waiting < limit or (member is not None and member.joining is not None)
    return member is not None or len(group.members) < limit


def _check_protocols(group: ClassicGroup, request: JoinGroupRequest) -> None:
    names = {protocol.name for protocol in request.protocols}
    if group.members:
        same_type = request.protocol_type == group.protocol_type
        fits = same_type and not names.isdisjoint(group.common_protocols())
    else:
        fits = bool(request.protocol_type and names)
    if not fits:
        raise Refusal(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)


def _join_nameless(group: ClassicGroup, call: JoinCall, decision: Decision) -> None:
    request, caller, token = call
    instance_id = request.group_instance_id
    member_id = f"{caller.client_id if instance_id is None else instance_id}-{caller.fresh_id}"
    if instance_id is not None and instance_id in group.static:
        _replace_static(group, group.static[instance_id], member_id, call, decision)
    elif instance_id is not None or caller.version < REQUIRES_MEMBER_ID_VERSION:
        _add_member(group, member_id, call, decision)
    else:
        group.promised[member_id] = None
        lapses_ms = decision.at.monotonic_ms + request.session_timeout_ms
        group.deadlines.set(group.session_timer(member_id), lapses_ms)
        decision.reply(token, refused_join(ErrorCode.MEMBER_ID_REQUIRED, member_id))


def _add_member(group: ClassicGroup, member_id: str, call: JoinCall, decision: Decision) -> None:
    request, caller, token = call
    group.promised.pop(member_id, None)
    if not group.members:
        group.protocol_type = request.protocol_type
        group.leader = member_id
    group.members[member_id] = Member(
        member_id=member_id,
        instance_id=request.group_instance_id,
        client_id=caller.client_id,
        client_host=caller.client_host,
        rebalance_timeout_ms=rebalance_timeout_ms(request),
        session_timeout_ms=request.session_timeout_ms,
        protocols=request.protocols,
        is_new=True,
        joining=token,
    )
    if request.group_instance_id is not None:
        group.static[request.group_instance_id] = member_id
    given_up_ms = decision.at.monotonic_ms + NEW_MEMBER_JOIN_TIMEOUT_MS
    group.deadlines.set(group.session_timer(member_id), given_up_ms)
    group.came_meanwhile = group.is_initial
    request_rebalance(group, RebalanceReason.MEMBER_JOINED, decision)


def _rejoin(group: ClassicGroup, member: Member, call: JoinCall, decision: Decision) -> None:
    changed = not member.joined_with(call.request.protocols)
    leads = member.member_id == group.leader
    is_stable = group.state is ClassicState.STABLE
    if changed or (leads and is_stable) or group.state is ClassicState.PREPARING_REBALANCE:
        _update(group, member, call, decision)
        changes_nothing = leads and not changed
        request_rebalance(
            group,
            RebalanceReason.LEADER_REJOINED if changes_nothing else RebalanceReason.MEMBER_CHANGED,
            decision,
        )
    else:
        decision.reply(call.token, group.joined(member, with_members=leads))


def _update(group: ClassicGroup, member: Member, call: JoinCall, decision: Decision) -> None:
    """Park the join of a known member; an earlier one of its own is given up."""
    refuse_join(member, ErrorCode.REBALANCE_IN_PROGRESS, decision)
    member.protocols = call.request.protocols
    member.rebalance_timeout_ms = rebalance_timeout_ms(call.request)
    member.session_timeout_ms = call.request.session_timeout_ms
    member.joining = call.token


def _replace_static(
    group: ClassicGroup, old_id: str, member_id: str, call: JoinCall, decision: Decision
) -> None:
    """A static member came back: the new id takes the old one's place in everything."""
    leader_before = group.leader
    member = _rename(group, old_id, member_id, decision)
    topics_before = subscribed_topics(member.metadata(group.protocol_name))
    _update(group, member, call, decision)
    member.client_id, member.client_host = call.caller.client_id, call.caller.client_host
    group.expect_heartbeat(member, decision)
    if group.state is ClassicState.STABLE and _asks_for_the_same(group, member, topics_before):
        member.joining = None
        assignments = {other.member_id: other.assignment for other in group.members.values()}
        group.record(group.generation, assignments, decision)
        decision.reply(call.token, _rejoined(group, member, leader_before, call.caller.version))
    else:
        request_rebalance(group, RebalanceReason.MEMBER_CHANGED, decision)


def _rename(group: ClassicGroup, old_id: str, member_id: str, decision: Decision) -> Member:
    member = group.members[old_id]
    refuse_join(member, ErrorCode.FENCED_INSTANCE_ID, decision)
    refuse_sync(member, ErrorCode.FENCED_INSTANCE_ID, decision)
    group.deadlines.cancel(group.session_timer(old_id))
    member.member_id = member_id
    group.members = {m.member_id: m for m in group.members.values()}
    assert member.instance_id is not None
    group.static[member.instance_id] = member_id
    if group.leader == old_id:
        group.leader = member_id
    if old_id in group.unsynced:
        del group.unsynced[old_id]
        group.unsynced[member_id] = None
    return member


def _asks_for_the_same(group: ClassicGroup, member: Member, topics_before: frozenset[str] | None) -> bool:
    """Whether a new generation would divide the same work by the same protocol."""
    if group.select_protocol() != group.protocol_name:
        return False
    if group.protocol_type != CONSUMER_PROTOCOL:
        return True
    return subscribed_topics(member.metadata(group.protocol_name)) == topics_before


def _rejoined(
    group: ClassicGroup, member: Member, leader_before: str | None, version: int
) -> JoinGroupResponse:
    """A static member's welcome back. An old client that thinks it leads would assign anew."""
    if version < SKIPS_ASSIGNMENT_VERSION:
        return group.joined(member, with_members=False, leader=leader_before)
    leads = member.member_id == group.leader
    return group.joined(member, with_members=leads, skip_assignment=leads)


def rebalance_timeout_ms(request: JoinGroupRequest) -> int:
    """Version 0 has no rebalance timeout; the session timeout stands in for it."""
    timeout_ms = request.rebalance_timeout_ms
    return request.session_timeout_ms if timeout_ms == -1 else timeout_ms
