"""The streams groups of a shard: every request that concerns them, each for one group.

A shard holds groups of all kinds under one set of names; here a name stands for a streams group, or is
refused. A classic group that nobody is in gives way: an application that stopped may go on with the new
protocol, over the offsets that it committed.
"""

from __future__ import annotations

from streamkit.broker.coordination.group.classic.group import ClassicGroup
from streamkit.broker.coordination.group.groups import Group, Groups, not_of_kind
from streamkit.broker.coordination.group.records import group_tombstone
from streamkit.broker.coordination.group.streams.description import describe
from streamkit.broker.coordination.group.streams.group import StreamsGroup
from streamkit.broker.coordination.group.streams.heartbeat import Call, check, heartbeat
from streamkit.broker.coordination.group.vocabulary import Caller
from streamkit.broker.coordination.shard import Decision, Refusal, Token
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.streams_group_describe import DescribedGroup
from streamkit.protocol.messages.streams_group_heartbeat import (
    StreamsGroupHeartbeatRequest,
    StreamsGroupHeartbeatResponse,
)


class StreamsRequests:
    def __init__(self, groups: Groups) -> None:
        self._groups = groups

    def heartbeat(
        self, request: StreamsGroupHeartbeatRequest, caller: Caller, token: Token, decision: Decision
    ) -> None:
        """A group that begins is there at once, for what is soft of it must outlast the decision."""
        call = Call(request, caller, token)
        before = self._groups.get(request.group_id)
        try:
            check(request)
            group = self._member_group(call, before, decision)
            self._groups.adopt(group)
            heartbeat(group, call, decision)
        except Refusal as refusal:
            decision.withdraw()
            self._restore(request.group_id, before)
            answer = StreamsGroupHeartbeatResponse(error_code=refusal.code, error_message=refusal.message)
            decision.reply(token, answer)

    def _member_group(self, call: Call, found: Group | None, decision: Decision) -> StreamsGroup:
        """The group that a member speaks of; joining makes it, or takes an empty classic one's place."""
        group_id = call.request.group_id
        if isinstance(found, StreamsGroup):
            return found
        if found is None and not call.joins:
            raise Refusal(ErrorCode.GROUP_ID_NOT_FOUND, f"Streams group {group_id} not found.")
        if isinstance(found, ClassicGroup) and found.is_empty and call.joins:
            if found.is_recorded:
                decision.records.append(group_tombstone(group_id))
        elif found is not None:
            raise not_of_kind(StreamsGroup, group_id, exists=True)
        return self._groups.new(StreamsGroup, group_id)

    def _restore(self, group_id: str, before: Group | None) -> None:
        if before is None:
            self._groups.by_id.pop(group_id, None)
        else:
            self._groups.adopt(before)

    def describe(self, group_id: str, token: Token, decision: Decision) -> None:
        try:
            described = describe(self._groups.of_kind(StreamsGroup, group_id))
        except Refusal as refusal:
            described = DescribedGroup(
                group_id=group_id, error_code=refusal.code, error_message=refusal.message
            )
        decision.reply(token, described)
