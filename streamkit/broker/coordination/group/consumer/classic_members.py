"""Members of the classic protocol in a consumer group: they join and sync, the coordinator divides the work.

A generation is a member's epoch. A join says what the member wants and owns and is answered at once; the sync
behind it fetches the assignment; a heartbeat answers REBALANCE_IN_PROGRESS when the member has to join again,
because a new epoch began, because it has something to give up, or because what it waits for is free. None of
them is the leader, so none of them divides anything.

A member that is told to join and does not, or joins and does not sync, within its rebalance timeout, is
removed.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from streamkit.broker.coordination.group.classic.group import refused_join
from streamkit.broker.coordination.group.classic.joining import (
    REQUIRES_MEMBER_ID_VERSION,
    JoinCall,
    rebalance_timeout_ms,
)
from streamkit.broker.coordination.group.consumer.departure import remove
from streamkit.broker.coordination.group.consumer.group import ConsumerDraft, ConsumerGroup
from streamkit.broker.coordination.group.consumer.member import ConsumerMember
from streamkit.broker.coordination.group.consumer.migration import (
    become_classic,
    encoded_assignment,
    should_become_classic,
)
from streamkit.broker.coordination.group.consumer.progress import advance
from streamkit.broker.coordination.group.consumer.records import ClassicMemberMetadata, ClassicProtocol
from streamkit.broker.coordination.group.consumer.replacement import take_over
from streamkit.broker.coordination.group.embedded_protocol import (
    CONSUMER_PROTOCOL,
    Subscription,
    decode_subscription,
)
from streamkit.broker.coordination.group.modern.member import MemberState
from streamkit.broker.coordination.group.modern.partitions import Partition
from streamkit.broker.coordination.group.vocabulary import RebalanceReason
from streamkit.broker.coordination.shard import Decision, Refusal, Token
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.errors import MalformedMessageError
from streamkit.protocol.messages.heartbeat import HeartbeatRequest
from streamkit.protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse
from streamkit.protocol.messages.leave_group import MemberIdentity, MemberResponse
from streamkit.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse

# ── join ─────────────────────────────────────────────────────────────────────────────────────────────────


def join(group: ConsumerGroup, call: JoinCall, decision: Decision) -> None:
    request, caller, token = call
    _check_room(group, request.member_id)
    _check_protocols(group, request)
    subscription = _subscription(request)
    is_nameless = not request.member_id
    member_id = request.member_id or f"{request.group_instance_id or caller.client_id}-{caller.fresh_id}"
    if is_nameless and request.group_instance_id is None and caller.version >= REQUIRES_MEMBER_ID_VERSION:
        decision.reply(token, refused_join(ErrorCode.MEMBER_ID_REQUIRED, member_id))
        return
    draft = ConsumerDraft(group, decision)
    before = _member(draft, request, member_id)
    after = replace(
        before,
        instance_id=request.group_instance_id or before.instance_id,
        rack_id=subscription.rack_id or before.rack_id,
        client_id=caller.client_id,
        client_host=caller.client_host,
        topics=tuple(sorted(set(subscription.topics))),
        regex="",
        rebalance_timeout_ms=rebalance_timeout_ms(request),
        assignor=None,
        classic=ClassicMemberMetadata(
            session_timeout_ms=request.session_timeout_ms,
            supported_protocols=[
                ClassicProtocol(name=protocol.name, metadata=protocol.metadata)
                for protocol in request.protocols
            ],
        ),
    )
    member = advance(draft, before, after, _owned(group, subscription))
    if should_become_classic(draft.group):
        become_classic(draft)
    else:
        draft.cancel("join", member_id)
        draft.expect("session", member_id, request.session_timeout_ms)
        draft.expect("sync", member_id, member.rebalance_timeout_ms)
    decision.reply(
        token,
        JoinGroupResponse(
            generation_id=member.epoch,
            protocol_type=CONSUMER_PROTOCOL,
            protocol_name=request.protocols[0].name,
            member_id=member_id,
        ),
    )


def _check_room(group: ConsumerGroup, member_id: str) -> None:
    if len(group.members) >= group.config.group_consumer_max_size and member_id not in group.members:
        raise Refusal(ErrorCode.GROUP_MAX_SIZE_REACHED)


def _check_protocols(group: ConsumerGroup, request: JoinGroupRequest) -> None:
    """Consumers only, with a protocol that all other classic members know, should they be left alone."""
    names = {protocol.name for protocol in request.protocols}
    for member in group.members.values():
        if member.classic is not None and member.member_id != request.member_id:
            names &= {protocol.name for protocol in member.classic.supported_protocols}
    if request.protocol_type != CONSUMER_PROTOCOL or not names:
        raise Refusal(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)


def _subscription(request: JoinGroupRequest) -> Subscription:
    try:
        return decode_subscription(request.protocols[0].metadata)
    except MalformedMessageError:
        raise Refusal(ErrorCode.INCONSISTENT_GROUP_PROTOCOL) from None


def _member(draft: ConsumerDraft, request: JoinGroupRequest, member_id: str) -> ConsumerMember:
    """The member that this is, as it was before; one with a known instance id takes its place."""
    group, instance_id = draft.group, request.group_instance_id
    if instance_id is None:
        return group.members.get(member_id) or ConsumerMember(member_id=member_id)
    if request.member_id:
        return group.static_member(instance_id, member_id)
    owner = group.static.get(instance_id)
    if owner is None:
        return ConsumerMember(member_id=member_id)
    return take_over(draft, group.members[owner], member_id)


def _owned(group: ConsumerGroup, subscription: Subscription) -> frozenset[Partition]:
    """Eager members name nothing: they let go of everything before they join."""
    found = ((group.cluster.topic(one.topic), one.partitions) for one in subscription.owned_partitions)
    return frozenset(
        Partition(topic.topic_id, index) for topic, indexes in found if topic is not None for index in indexes
    )


# ── sync, heartbeat ──────────────────────────────────────────────────────────────────────────────────────


def sync(group: ConsumerGroup, request: SyncGroupRequest, token: Token, decision: Decision) -> None:
    member, classic = _classic_member(group, request.member_id, request.group_instance_id)
    _check_generation(member, request.generation_id)
    _check_same_protocol(classic, request)
    draft = ConsumerDraft(group, decision)
    if group.epoch > member.epoch and member.state is not MemberState.UNREVOKED:
        draft.expect_once("join", member.member_id, member.rebalance_timeout_ms)
        raise Refusal(ErrorCode.REBALANCE_IN_PROGRESS)
    draft.cancel("sync", member.member_id)
    draft.expect("session", member.member_id, classic.session_timeout_ms)
    subscription = classic.supported_protocols[0].metadata
    decision.reply(
        token,
        SyncGroupResponse(
            protocol_type=request.protocol_type,
            protocol_name=request.protocol_name,
            assignment=encoded_assignment(group, frozenset(member.assigned), subscription),
        ),
    )


def heartbeat(group: ConsumerGroup, request: HeartbeatRequest, decision: Decision) -> None:
    member, classic = _classic_member(group, request.member_id, request.group_instance_id)
    _check_generation(member, request.generation_id)
    draft = ConsumerDraft(group, decision)
    draft.expect("session", member.member_id, classic.session_timeout_ms)
    is_late = member.epoch < group.epoch
    must_revoke = member.state is MemberState.UNREVOKED
    can_have_more = member.state is MemberState.UNRELEASED and not group.waits_for_others(member)
    if is_late or must_revoke or can_have_more:
        draft.expect_once("join", member.member_id, member.rebalance_timeout_ms)
        raise Refusal(ErrorCode.REBALANCE_IN_PROGRESS)


def _classic_member(
    group: ConsumerGroup, member_id: str, instance_id: str | None
) -> tuple[ConsumerMember, ClassicMemberMetadata]:
    member = group.member(member_id) if instance_id is None else group.static_member(instance_id, member_id)
    if member.classic is None:
        raise Refusal(ErrorCode.UNKNOWN_MEMBER_ID)
    return member, member.classic


def _check_generation(member: ConsumerMember, generation: int) -> None:
    if member.epoch != generation:
        raise Refusal(ErrorCode.ILLEGAL_GENERATION)


def _check_same_protocol(classic: ClassicMemberMetadata, request: SyncGroupRequest) -> None:
    given_name = classic.supported_protocols[0].name
    if request.protocol_type not in (None, CONSUMER_PROTOCOL) or request.protocol_name not in (
        None,
        given_name,
    ):
        raise Refusal(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)


# ── leave ────────────────────────────────────────────────────────────────────────────────────────────────


def leave(
    group: ConsumerGroup, identities: Sequence[MemberIdentity], decision: Decision
) -> list[MemberResponse]:
    """An operator names a static member by its instance alone."""
    responses = []
    gone: dict[str, None] = {}
    for identity in identities:
        member_id, instance_id = identity.member_id, identity.group_instance_id
        code = ErrorCode.NONE
        try:
            if not member_id and instance_id is not None:
                member_id = group.static.get(instance_id, "")
            member, _ = _classic_member(group, member_id, instance_id)
            gone[member.member_id] = None
        except Refusal as refusal:
            code = refusal.code
        responses.append(MemberResponse(member_id=member_id, group_instance_id=instance_id, error_code=code))
    if gone:
        remove(ConsumerDraft(group, decision), list(gone), RebalanceReason.MEMBER_LEFT)
    return responses
