"""The share groups of a shard: every request that concerns them, each for one group.

A shard holds groups of all kinds under one set of names; here a name stands for a share group, or is refused.
"""

from __future__ import annotations

from streamkit.broker.coordination.group.groups import Groups
from streamkit.broker.coordination.group.share.assignor import NAME as ASSIGNOR
from streamkit.broker.coordination.group.share.description import all_places, describe, named_places
from streamkit.broker.coordination.group.share.group import ShareGroup
from streamkit.broker.coordination.group.share.heartbeat import Call, check, heartbeat
from streamkit.broker.coordination.group.share.offsets import (
    DeleteStates,
    alter,
    delete,
    deleted,
    initialized,
)
from streamkit.broker.coordination.group.share.target import InitializeStates
from streamkit.broker.coordination.group.vocabulary import Caller
from streamkit.broker.coordination.shard import Decision, Refusal, Token
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.alter_share_group_offsets import (
    AlterShareGroupOffsetsRequest,
    AlterShareGroupOffsetsResponse,
)
from streamkit.protocol.messages.delete_share_group_offsets import (
    DeleteShareGroupOffsetsRequest,
    DeleteShareGroupOffsetsResponse,
)
from streamkit.protocol.messages.delete_share_group_state import DeleteShareGroupStateResponse
from streamkit.protocol.messages.describe_share_group_offsets import (
    DescribeShareGroupOffsetsRequestGroup,
    DescribeShareGroupOffsetsResponseGroup,
)
from streamkit.protocol.messages.initialize_share_group_state import InitializeShareGroupStateResponse
from streamkit.protocol.messages.share_group_describe import DescribedGroup
from streamkit.protocol.messages.share_group_heartbeat import (
    ShareGroupHeartbeatRequest,
    ShareGroupHeartbeatResponse,
)


class ShareRequests:
    def __init__(self, groups: Groups) -> None:
        self._groups = groups

    # ── members ────────────────────────────────────────────────────────────────────────────────────────

    def heartbeat(
        self, request: ShareGroupHeartbeatRequest, caller: Caller, token: Token, decision: Decision
    ) -> None:
        call = Call(request, caller, token)
        try:
            check(request)
            group = self._member_group(call)
            heartbeat(group, call, decision)
            self._groups.adopt(group)
        except Refusal as refusal:
            decision.withdraw()
            answer = ShareGroupHeartbeatResponse(error_code=refusal.code, error_message=refusal.message)
            decision.reply(token, answer)

    def _member_group(self, call: Call) -> ShareGroup:
        """The group that a member speaks of; joining makes it."""
        group_id = call.request.group_id
        if self._groups.get(group_id) is None and not call.joins:
            raise Refusal(ErrorCode.GROUP_ID_NOT_FOUND, f"Share group {group_id} not found.")
        return self._existing(group_id, or_new=True)

    # ── operators ──────────────────────────────────────────────────────────────────────────────────────

    def describe(self, group_id: str, token: Token, decision: Decision) -> None:
        try:
            described = describe(self._existing(group_id), ASSIGNOR)
        except Refusal as refusal:
            described = DescribedGroup(
                group_id=group_id, error_code=refusal.code, error_message=refusal.message
            )
        decision.reply(token, described)

    def places(
        self, request: DescribeShareGroupOffsetsRequestGroup, token: Token, decision: Decision
    ) -> None:
        """Which share-partitions to tell the offsets of; of a group that is not there, none."""
        group = self._remaining(request.group_id)
        if request.topics is not None:
            topics = named_places(self._groups.cluster, request.topics)
        else:
            topics = [] if group is None else all_places(group)
        decision.reply(
            token, DescribeShareGroupOffsetsResponseGroup(group_id=request.group_id, topics=topics)
        )

    def alter_offsets(self, request: AlterShareGroupOffsetsRequest, token: Token, decision: Decision) -> None:
        """A group need not exist yet to begin somewhere."""
        try:
            group = self._existing(request.group_id, or_new=True)
            alter(group, request, token, decision)
            if decision.records:
                self._groups.adopt(group)
        except Refusal as refusal:
            answer = AlterShareGroupOffsetsResponse(error_code=refusal.code, error_message=refusal.message)
            decision.reply(token, answer)

    def delete_offsets(
        self, request: DeleteShareGroupOffsetsRequest, token: Token, decision: Decision
    ) -> None:
        try:
            delete(self._existing(request.group_id), request, token, decision)
        except Refusal as refusal:
            answer = DeleteShareGroupOffsetsResponse(error_code=refusal.code, error_message=refusal.message)
            decision.reply(token, answer)

    def _existing(self, group_id: str, *, or_new: bool = False) -> ShareGroup:
        if or_new and self._groups.get(group_id) is None:
            return self._groups.new(ShareGroup, group_id)
        return self._groups.of_kind(ShareGroup, group_id)

    # ── share coordinators ───────────────────────────────────────────────────────────────────────────────

    def initialized(
        self, command: InitializeStates, response: InitializeShareGroupStateResponse, decision: Decision
    ) -> None:
        initialized(self._remaining(command.request.group_id), command, response, decision)

    def deleted(
        self, command: DeleteStates, response: DeleteShareGroupStateResponse, decision: Decision
    ) -> None:
        deleted(self._remaining(command.request.group_id), command, response, decision)

    def _remaining(self, group_id: str) -> ShareGroup | None:
        """The group, if it is there."""
        group = self._groups.get(group_id)
        return group if isinstance(group, ShareGroup) else None
