"""ShareGroupHeartbeat (76): a member says what it wants, and is told which partitions to look into.

A member joins with epoch 0, lives with its epoch, leaves with -1. A field that is null says that nothing
changed. An answer carries the member's assignment when that has changed, when the member sent every field,
and when it has not heard of its epoch.

While states are being begun, a member is told to come back soon: its first part then reaches it within a
fraction of a second rather than with its next heartbeat.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec.structs import replace

from streamkit.broker.coordination.group.modern.departure import overdue
from streamkit.broker.coordination.group.modern.heartbeat import (
    HeartbeatCall,
    check_given,
    check_room,
    fenced,
)
from streamkit.broker.coordination.group.modern.member import JOINING_EPOCH, LEAVING_EPOCH
from streamkit.broker.coordination.group.modern.partitions import by_topic
from streamkit.broker.coordination.group.share.group import ShareDraft, ShareGroup
from streamkit.broker.coordination.group.share.member import ShareMember
from streamkit.broker.coordination.group.share.target import assign_target, refresh
from streamkit.broker.coordination.group.vocabulary import RebalanceReason, Timer
from streamkit.broker.coordination.shard import Decision, Refusal
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.share_group_heartbeat import (
    Assignment,
    ShareGroupHeartbeatRequest,
    ShareGroupHeartbeatResponse,
    TopicPartitions,
)

SOON_MS = 250


Call: TypeAlias = HeartbeatCall[ShareGroupHeartbeatRequest]


def check(request: ShareGroupHeartbeatRequest) -> None:
    """Refuse what no group could answer."""
    check_given(MemberId=request.member_id, GroupId=request.group_id, RackId=request.rack_id)
    if request.member_epoch == JOINING_EPOCH and not request.subscribed_topic_names:
        raise Refusal(ErrorCode.INVALID_REQUEST, "SubscribedTopicNames must be set in first request.")
    if request.member_epoch < LEAVING_EPOCH:
        raise Refusal(ErrorCode.INVALID_REQUEST, "MemberEpoch is invalid.")


def heartbeat(group: ShareGroup, call: Call, decision: Decision) -> None:
    draft = ShareDraft(group, decision)
    if call.leaves:
        _leave(draft, call)
        return
    before = _member(group, call)
    member = _advance(draft, before, _said(before, call))
    _expect_heartbeat(draft, member.member_id)
    unheard = call.request.member_epoch != member.epoch
    is_full = call.joins or call.request.subscribed_topic_names is not None
    news = is_full or unheard or member.assigned != before.assigned
    decision.reply(
        call.token,
        ShareGroupHeartbeatResponse(
            member_id=member.member_id,
            member_epoch=member.epoch,
            heartbeat_interval_ms=_interval_ms(draft.group),
            assignment=_assignment(member) if news else None,
        ),
    )


def _member(group: ShareGroup, call: Call) -> ShareMember:
    """The member that this is, as it was before this request."""
    member_id = call.request.member_id
    if not call.joins:
        member = group.member(member_id)
        _check_epoch(group, member, call.request.member_epoch)
        return member
    if member_id in group.members:
        return group.members[member_id]
    check_room(group, member_id, group.config.group_share_max_size)
    return ShareMember(member_id=member_id)


def _check_epoch(group: ShareGroup, member: ShareMember, epoch: int) -> None:
    """The member's own epoch; or the one before, if the answer that said the new one may have been lost."""
    if epoch == member.epoch or (epoch < member.epoch and epoch == member.previous_epoch):
        return
    why = f", and it does not match the previous member epoch ({member.previous_epoch})"
    raise fenced(group, member, epoch, why if epoch < member.epoch else "")


def _said(member: ShareMember, call: Call) -> ShareMember:
    """The member with what this request says of it."""
    request, caller = call.request, call.caller
    names = request.subscribed_topic_names
    return replace(
        member,
        rack_id=request.rack_id if request.rack_id is not None else member.rack_id,
        client_id=caller.client_id,
        client_host=caller.client_host,
        topics=member.topics if names is None else tuple(sorted(set(names))),
    )


def _advance(draft: ShareDraft, before: ShareMember, after: ShareMember) -> ShareMember:
    """Write what the member said, divide anew if need be, and bring the member to its part."""
    is_new = after.member_id not in draft.group.members
    if is_new or after != before:
        draft.write_metadata(after)
    reason = None
    if is_new:
        reason = RebalanceReason.MEMBER_JOINED
    elif after.topics != before.topics:
        reason = RebalanceReason.MEMBER_CHANGED
    refresh(draft, reason)
    assign_target(draft)
    member, group = draft.group.members[after.member_id], draft.group
    if member.epoch != group.target_epoch:
        member = member.given(group.target.get(member.member_id, frozenset()), group.target_epoch)
        draft.write_current(member)
    return member


def _interval_ms(group: ShareGroup) -> int:
    interval_ms = group.cluster.group_config(group.group_id).share_heartbeat_interval_ms
    return min(interval_ms, SOON_MS) if group.waits_for_states else interval_ms


def _assignment(member: ShareMember) -> Assignment:
    return Assignment(
        topic_partitions=[
            TopicPartitions(topic_id=topic_id, partitions=numbers)
            for topic_id, numbers in by_topic(member.assigned).items()
        ]
    )


# ── leaving ─────────────────────────────────────────────────────────────────────────────────────────────


def _leave(draft: ShareDraft, call: Call) -> None:
    member = draft.group.member(call.request.member_id)
    remove(draft, member.member_id, RebalanceReason.MEMBER_LEFT)
    draft.decision.reply(
        call.token,
        ShareGroupHeartbeatResponse(member_id=member.member_id, member_epoch=LEAVING_EPOCH),
    )


def remove(draft: ShareDraft, member_id: str, reason: RebalanceReason) -> None:
    """Go on without a member; the next heartbeat of another one divides what it had."""
    draft.remove(member_id)
    refresh(draft, reason)
    if draft.group.is_empty:
        assign_target(draft)


def timeout(group: ShareGroup, timer: Timer, decision: Decision) -> None:
    """A member was not heard from for a whole session."""
    reason = overdue(group, timer)
    if reason is not None:
        remove(ShareDraft(group, decision), timer.member_id, reason)


def loaded(group: ShareGroup, decision: Decision) -> None:
    """The group was read back: its members get a whole session to show that they live."""
    draft = ShareDraft(group, decision)
    for member_id in group.members:
        _expect_heartbeat(draft, member_id)


def _expect_heartbeat(draft: ShareDraft, member_id: str) -> None:
    """Give a member a whole session to be heard from again."""
    settings = draft.group.cluster.group_config(draft.group.group_id)
    draft.expect("session", member_id, settings.share_session_timeout_ms)
