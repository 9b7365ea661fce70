"""ShareGroupHeartbeat (76): a member says what it wants, and is told which partitions to look into.

A member joins with epoch 0, lives with its epoch, leaves with -1. A field that is null says that nothing
changed. An answer carries the member's assignment when that has changed, when the member sent every field,
and when it has not heard of its epoch.

While states are being begun, a member is told to come back soon: its first part then reaches it within a
fraction of a second rather than with its next heartbeat.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from streamkit.broker.coordination.group.consumer.member import by_topic
from streamkit.broker.coordination.group.share.draft import ShareDraft
from streamkit.broker.coordination.group.share.group import ShareGroup
from streamkit.broker.coordination.group.share.member import JOINING_EPOCH, LEAVING_EPOCH, ShareMember
from streamkit.broker.coordination.group.share.target import assign_target, refresh
from streamkit.broker.coordination.group.vocabulary import Caller, RebalanceReason, Timer
from streamkit.broker.coordination.shard import Decision, Refusal, Token
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.share_group_heartbeat import (
    Assignment,
    ShareGroupHeartbeatRequest,
    ShareGroupHeartbeatResponse,
    TopicPartitions,
)

SOON_MS = 250


class HeartbeatCall(NamedTuple):
    """A ShareGroupHeartbeat request, who sent it, and who waits for its answer."""

    request: ShareGroupHeartbeatRequest
    caller: Caller
    token: Token

    @property
    def joins(self) -> bool:
        return self.request.member_epoch == JOINING_EPOCH

    @property
    def leaves(self) -> bool:
        return self.request.member_epoch == LEAVING_EPOCH

    @property
    def is_full(self) -> bool:
        return self.joins or self.request.subscribed_topic_names is not None


def check(request: ShareGroupHeartbeatRequest) -> None:
    """Refuse what no group could answer."""
    for field, text in (
        ("MemberId", request.member_id),
        ("GroupId", request.group_id),
        ("RackId", request.rack_id),
    ):
        if text is not None and not text.strip():
            raise Refusal(ErrorCode.INVALID_REQUEST, f"{field} can't be empty.")
    if request.member_epoch == JOINING_EPOCH and not request.subscribed_topic_names:
        raise Refusal(ErrorCode.INVALID_REQUEST, "SubscribedTopicNames must be set in first request.")
    if request.member_epoch < LEAVING_EPOCH:
        raise Refusal(ErrorCode.INVALID_REQUEST, "MemberEpoch is invalid.")


def heartbeat(group: ShareGroup, call: HeartbeatCall, decision: Decision) -> None:
    draft = ShareDraft(group, decision)
    if call.leaves:
        _leave(draft, call)
        return
    before = _member(group, call)
    member = _advance(draft, before, _said(before, call))
    draft.expect_heartbeat(member.member_id)
    unheard = call.request.member_epoch != member.epoch
    news = call.is_full or unheard or member.assigned != before.assigned
    decision.reply(
        call.token,
        ShareGroupHeartbeatResponse(
            member_id=member.member_id,
            member_epoch=member.epoch,
            heartbeat_interval_ms=_interval_ms(draft.group),
            assignment=_assignment(member) if news else None,
        ),
    )


def _member(group: ShareGroup, call: HeartbeatCall) -> ShareMember:
    """The member that this is, as it was before this request."""
    member_id = call.request.member_id
    if not call.joins:
        member = group.member(member_id)
        _check_epoch(member, call.request.member_epoch)
        return member
    if member_id in group.members:
        return group.members[member_id]
    limit = group.config.group_share_max_size
    if len(group.members) >= limit:
        raise Refusal(
            ErrorCode.GROUP_MAX_SIZE_REACHED,
            f"The share group has reached its maximum capacity of {limit} members.",
        )
    return ShareMember(member_id=member_id)


def _check_epoch(member: ShareMember, epoch: int) -> None:
    """The member's own epoch; or the one before, if the answer that said the new one may have been lost."""
    if epoch == member.epoch or (epoch < member.epoch and epoch == member.previous_epoch):
        return
    if epoch > member.epoch:
        said = f"greater member epoch ({epoch}) than the one known by the group coordinator ({member.epoch})"
    else:
        said = (
            f"smaller member epoch ({epoch}) than the one known by the group coordinator ({member.epoch}), "
            f"and it does not match the previous member epoch ({member.previous_epoch})"
        )
    raise Refusal(
        ErrorCode.FENCED_MEMBER_EPOCH,
        f"The share group member has a {said}. The member must abandon all its partitions and rejoin.",
    )


def _said(member: ShareMember, call: HeartbeatCall) -> ShareMember:
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


def _leave(draft: ShareDraft, call: HeartbeatCall) -> None:
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
    if timer.kind == "session" and timer.member_id in group.members:
        remove(ShareDraft(group, decision), timer.member_id, RebalanceReason.SESSION_EXPIRED)


def loaded(group: ShareGroup, decision: Decision) -> None:
    """The group was read back: its members get a whole session to show that they live."""
    draft = ShareDraft(group, decision)
    for member_id in group.members:
        draft.expect_heartbeat(member_id)
