"""The classic protocol: every request of its members, each for one group.

They may live in a classic group, where they divide the work among themselves, or in a consumer group, where
the coordinator does (`consumer.classic_members`).
"""

from __future__ import annotations

from collections.abc import Sequence

from streamkit.broker.coordination.group.classic.departure import heartbeat, leave, left
from streamkit.broker.coordination.group.classic.group import ClassicGroup, ClassicState, refused_join
from streamkit.broker.coordination.group.classic.joining import JoinCall, join
from streamkit.broker.coordination.group.classic.syncing import sync
from streamkit.broker.coordination.group.consumer import classic_members
from streamkit.broker.coordination.group.consumer.group import ConsumerGroup
from streamkit.broker.coordination.group.groups import Groups, delete_records
from streamkit.broker.coordination.group.share.group import ShareGroup
from streamkit.broker.coordination.group.streams.group import StreamsGroup
from streamkit.broker.coordination.group.vocabulary import Caller
from streamkit.broker.coordination.shard import Decision, Refusal, Token
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.describe_groups import DescribedGroup
from streamkit.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from streamkit.protocol.messages.join_group import JoinGroupRequest
from streamkit.protocol.messages.leave_group import (
    LeaveGroupRequest,
    LeaveGroupResponse,
    MemberIdentity,
    MemberResponse,
)
from streamkit.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse

BATCH_LEAVE_VERSION = 3
GROUP_NOT_FOUND_ON_DESCRIBE_VERSION = 6


class ClassicRequests:
    def __init__(self, groups: Groups) -> None:
        self._groups = groups

    def join(self, request: JoinGroupRequest, caller: Caller, token: Token, decision: Decision) -> None:
        call = JoinCall(request, caller, token)
        try:
            self._check_session_timeout(request.session_timeout_ms)
            group = self._groups.get(request.group_id)
            if group is None and request.member_id:
                raise Refusal(ErrorCode.UNKNOWN_MEMBER_ID)
            if isinstance(group, ShareGroup) or (isinstance(group, StreamsGroup) and group.members):
                raise Refusal(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
            if group is None or isinstance(group, ClassicGroup):
                join(self._groups.classic(request.group_id), call, decision)
            elif isinstance(group, ConsumerGroup) and group.members:
                classic_members.join(group, call, decision)
            elif request.member_id:
                raise Refusal(ErrorCode.UNKNOWN_MEMBER_ID)
            else:
                self._join_in_place_of(group, call, decision)
        except Refusal as refusal:
            decision.withdraw()
            self._groups.forget_if_unused(request.group_id)
            decision.reply(token, refused_join(refusal.code, request.member_id))

    def _join_in_place_of(
        self, empty: ConsumerGroup | StreamsGroup, call: JoinCall, decision: Decision
    ) -> None:
        """A classic group begins under the name of a newer one that nobody is in any more."""
        successor = self._groups.new_classic(empty.group_id)
        delete_records(empty, decision)
        join(successor, call, decision)
        self._groups.adopt(successor)

    def _check_session_timeout(self, timeout_ms: int) -> None:
        config = self._groups.config
        if not config.group_min_session_timeout_ms <= timeout_ms <= config.group_max_session_timeout_ms:
            raise Refusal(ErrorCode.INVALID_SESSION_TIMEOUT)

    def sync(self, request: SyncGroupRequest, token: Token, decision: Decision) -> None:
        try:
            group = self._generational(request.group_id)
            if isinstance(group, ConsumerGroup):
                classic_members.sync(group, request, token, decision)
            else:
                sync(group, request, token, decision)
        except Refusal as refusal:
            decision.reply(token, SyncGroupResponse(error_code=refusal.code))

    def heartbeat(self, request: HeartbeatRequest, token: Token, decision: Decision) -> None:
        code = ErrorCode.NONE
        try:
            group = self._generational(request.group_id)
            if isinstance(group, ConsumerGroup):
                classic_members.heartbeat(group, request, decision)
            else:
                heartbeat(
                    group, request.member_id, request.group_instance_id, request.generation_id, decision
                )
        except Refusal as refusal:
            code = refusal.code
        decision.reply(token, HeartbeatResponse(error_code=code))

    def _generational(self, group_id: str) -> ClassicGroup | ConsumerGroup:
        """A group that members of the classic protocol may be in."""
        group = self._groups.get(group_id)
        if isinstance(group, ClassicGroup | ConsumerGroup):
            return group
        raise Refusal(ErrorCode.UNKNOWN_MEMBER_ID)

    def leave(self, request: LeaveGroupRequest, version: int, token: Token, decision: Decision) -> None:
        """Before version 3 one member leaves, and its error is the request's."""
        is_batch = version >= BATCH_LEAVE_VERSION
        leavers = request.members if is_batch else [MemberIdentity(member_id=request.member_id)]
        answers = self._leave(request.group_id, leavers, decision)
        if is_batch:
            decision.reply(token, LeaveGroupResponse(members=answers))
        else:
            decision.reply(token, LeaveGroupResponse(error_code=answers[0].error_code))

    def _leave(
        self, group_id: str, leavers: Sequence[MemberIdentity], decision: Decision
    ) -> list[MemberResponse]:
        group = self._groups.get(group_id)
        if isinstance(group, ConsumerGroup):
            return classic_members.leave(group, leavers, decision)
        if isinstance(group, ShareGroup | StreamsGroup):
            group = None
        answers = [_leave_one(group, leaver, decision) for leaver in leavers]
        if group is not None:
            left(group, decision)
            self._groups.forget_if_unused(group_id)
        return answers

    def describe(self, group_id: str, version: int, token: Token, decision: Decision) -> None:
        """Before version 6 a group that is not there is Dead."""
        group = self._groups.get(group_id)
        if isinstance(group, ClassicGroup):
            described = group.describe()
        elif version < GROUP_NOT_FOUND_ON_DESCRIBE_VERSION:
            described = DescribedGroup(group_id=group_id, group_state=ClassicState.DEAD.value)
        else:
            is_other = group is not None
            described = DescribedGroup(
                group_id=group_id,
                group_state=ClassicState.DEAD.value,
                error_code=ErrorCode.GROUP_ID_NOT_FOUND,
                error_message=f"Group {group_id} {'is not a classic group' if is_other else 'not found'}.",
            )
        decision.reply(token, described)


def _leave_one(group: ClassicGroup | None, leaver: MemberIdentity, decision: Decision) -> MemberResponse:
    code = ErrorCode.NONE
    try:
        if group is None:
            raise Refusal(ErrorCode.UNKNOWN_MEMBER_ID)
        leave(group, leaver.member_id, leaver.group_instance_id, decision)
    except Refusal as refusal:
        code = refusal.code
    return MemberResponse(
        member_id=leaver.member_id, group_instance_id=leaver.group_instance_id, error_code=code
    )
