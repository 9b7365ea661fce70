"""ConsumerGroupHeartbeat (68): a member says what it wants and has, and is told its share.

One request does everything: a member joins with epoch 0, lives with its epoch, leaves with -1, or, if it is
static and means to come back, with -2. A field that is null says that nothing changed. An answer carries the
member's assignment when that has changed, and whenever the member sent every field, as it does when it cannot
know what became of its last request.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec.structs import replace

from streamkit.broker.coordination.group.consumer.departure import remove
from streamkit.broker.coordination.group.consumer.group import ConsumerDraft, ConsumerGroup
from streamkit.broker.coordination.group.consumer.member import NOTHING, ConsumerMember
from streamkit.broker.coordination.group.consumer.progress import advance
from streamkit.broker.coordination.group.consumer.replacement import take_over
from streamkit.broker.coordination.group.modern.heartbeat import (
    HeartbeatCall,
    check_given,
    check_room,
    fenced,
)
from streamkit.broker.coordination.group.modern.member import LEAVING_STATIC_EPOCH, MemberState
from streamkit.broker.coordination.group.modern.partitions import Partition, by_topic
from streamkit.broker.coordination.group.vocabulary import RebalanceReason
from streamkit.broker.coordination.shard import Decision, Refusal
from streamkit.broker.regular_expression import InvalidPatternError, Pattern
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.consumer_group_heartbeat import (
    Assignment,
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    ConsumerGroupHeartbeatResponseTopicPartitions,
)

MEMBER_ID_OF_ITS_OWN_VERSION = 1


Call: TypeAlias = HeartbeatCall[ConsumerGroupHeartbeatRequest]


def check(call: Call, group_assignors: tuple[str, ...]) -> None:
    """Refuse what no group could answer."""
    request = call.request
    check_given(GroupId=request.group_id, InstanceId=request.instance_id, RackId=request.rack_id)
    named_by_itself = call.caller.version >= MEMBER_ID_OF_ITS_OWN_VERSION or not call.joins
    if named_by_itself and not request.member_id.strip():
        raise Refusal(ErrorCode.INVALID_REQUEST, "MemberId can't be empty.")
    if request.member_epoch < LEAVING_STATIC_EPOCH:
        raise Refusal(ErrorCode.INVALID_REQUEST, f"MemberEpoch is invalid: {request.member_epoch}.")
    if request.member_epoch == LEAVING_STATIC_EPOCH and request.instance_id is None:
        raise Refusal(ErrorCode.INVALID_REQUEST, "InstanceId can't be null.")
    if call.joins:
        _check_join(request)
    if request.server_assignor is not None and request.server_assignor not in group_assignors:
        raise Refusal(
            ErrorCode.UNSUPPORTED_ASSIGNOR,
            f"ServerAssignor {request.server_assignor} is not supported. "
            f"Supported assignors: {', '.join(group_assignors)}.",
        )
    if request.subscribed_topic_regex:
        _check_pattern(request.subscribed_topic_regex)


def _check_pattern(regex: str) -> None:
    try:
        Pattern(regex)
    except InvalidPatternError as error:
        reason = f"SubscribedTopicRegex is invalid: {error}."
        raise Refusal(ErrorCode.INVALID_REGULAR_EXPRESSION, reason) from None


def _check_join(request: ConsumerGroupHeartbeatRequest) -> None:
    if request.rebalance_timeout_ms == -1:
        raise Refusal(ErrorCode.INVALID_REQUEST, "RebalanceTimeoutMs must be provided in first request.")
    if request.topic_partitions is None or request.topic_partitions:
        raise Refusal(ErrorCode.INVALID_REQUEST, "TopicPartitions must be empty when (re-)joining.")
    if request.subscribed_topic_names is None and request.subscribed_topic_regex is None:
        raise Refusal(
            ErrorCode.INVALID_REQUEST,
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
        )


def heartbeat(group: ConsumerGroup, call: Call, decision: Decision) -> None:
    draft = ConsumerDraft(group, decision)
    if call.leaves or call.request.member_epoch == LEAVING_STATIC_EPOCH:
        _leave(draft, call)
        return
    check_room(group, call.request.member_id, group.config.group_consumer_max_size)
    before = _member(draft, call)
    after = _said(before, call)
    member = advance(draft, before, after, _owned(call))
    settings = group.cluster.group_config(group.group_id)
    draft.expect("session", member.member_id, settings.consumer_session_timeout_ms)
    news = _is_full(call) or member.assigned.keys() != before.assigned.keys()
    decision.reply(
        call.token,
        ConsumerGroupHeartbeatResponse(
            member_id=member.member_id,
            member_epoch=member.epoch,
            heartbeat_interval_ms=settings.consumer_heartbeat_interval_ms,
            assignment=_assignment(member) if news else None,
        ),
    )


def _is_full(call: Call) -> bool:
    """Whether the member said everything, as it does when it cannot know what became of its last request."""
    request = call.request
    return call.joins or (
        request.rebalance_timeout_ms != -1
        and (request.subscribed_topic_names is not None or request.subscribed_topic_regex is not None)
        and request.topic_partitions is not None
    )


def _owned(call: Call) -> frozenset[Partition] | None:
    """What the member says that it has."""
    topics = call.request.topic_partitions
    if topics is None:
        return None
    return frozenset(Partition(topic.topic_id, index) for topic in topics for index in topic.partitions)


def _member(draft: ConsumerDraft, call: Call) -> ConsumerMember:
    """The member that this is, as it was before this request."""
    request, group = call.request, draft.group
    member_id = request.member_id or call.caller.fresh_id
    instance_id = request.instance_id
    if instance_id is not None and call.joins:
        return _joining_static(draft, instance_id, member_id)
    if call.joins and member_id not in group.members:
        return ConsumerMember(member_id=member_id)
    if instance_id is None:
        member = group.member(member_id)
    else:
        member = group.static_member(instance_id, member_id)
    _check_epoch(group, member, call)
    return member


def _joining_static(draft: ConsumerDraft, instance_id: str, member_id: str) -> ConsumerMember:
    """A new static member, or one that takes the place of the member that has its instance id."""
    group = draft.group
    owner = group.static.get(instance_id)
    if owner is None:
        return ConsumerMember(member_id=member_id)
    existing = group.members[owner]
    if not existing.uses_classic_protocol and existing.epoch != LEAVING_STATIC_EPOCH:
        raise Refusal(
            ErrorCode.UNRELEASED_INSTANCE_ID,
            f"Static member {member_id} with instance id {instance_id} cannot join the group because the "
            f"instance id is owned by member {owner}.",
        )
    return take_over(draft, existing, member_id)


def _check_epoch(group: ConsumerGroup, member: ConsumerMember, call: Call) -> None:
    """The member's own epoch; or the one before, if the answer that said the new one may have been lost.

    One that joins anew has dropped everything, and is told again what it has.
    """
    epoch = call.request.member_epoch
    if call.joins or epoch == member.epoch:
        return
    owned = _owned(call)
    lost_an_answer = epoch == member.previous_epoch and owned is not None and owned <= member.assigned.keys()
    if epoch > member.epoch or not lost_an_answer:
        raise fenced(group, member, epoch)


def _said(member: ConsumerMember, call: Call) -> ConsumerMember:
    """The member with what this request says of it."""
    request, caller = call.request, call.caller
    names, regex = request.subscribed_topic_names, request.subscribed_topic_regex
    timeout_ms = request.rebalance_timeout_ms
    return replace(
        member,
        instance_id=request.instance_id if request.instance_id is not None else member.instance_id,
        rack_id=request.rack_id if request.rack_id is not None else member.rack_id,
        client_id=caller.client_id,
        client_host=caller.client_host,
        topics=member.topics if names is None else tuple(sorted(set(names))),
        regex=member.regex if regex is None else regex,
        rebalance_timeout_ms=member.rebalance_timeout_ms if timeout_ms == -1 else timeout_ms,
        assignor=request.server_assignor if request.server_assignor is not None else member.assignor,
        classic=None,
    )


def _leave(draft: ConsumerDraft, call: Call) -> None:
    request, group = call.request, draft.group
    if request.instance_id is None:
        member = group.member(request.member_id)
    else:
        member = group.static_member(request.instance_id, request.member_id)
    if request.member_epoch == LEAVING_STATIC_EPOCH:
        away = replace(member, epoch=LEAVING_STATIC_EPOCH, state=MemberState.STABLE, revoking=NOTHING)
        draft.write_current(away)
        draft.cancel("revoke", member.member_id)
    else:
        remove(draft, [member.member_id], RebalanceReason.MEMBER_LEFT)
    draft.decision.reply(
        call.token,
        ConsumerGroupHeartbeatResponse(member_id=member.member_id, member_epoch=request.member_epoch),
    )


def _assignment(member: ConsumerMember) -> Assignment:
    return Assignment(
        topic_partitions=[
            ConsumerGroupHeartbeatResponseTopicPartitions(topic_id=topic_id, partitions=indexes)
            for topic_id, indexes in by_topic(member.assigned).items()
        ]
    )
