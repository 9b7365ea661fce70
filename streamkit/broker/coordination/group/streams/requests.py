"""The streams groups of a shard: every request that concerns them, each for one group.

A shard holds groups of all kinds under one set of names; here a name stands for a streams group, or is
refused. A classic group that nobody is in gives way: an application that stopped may go on with the new
protocol, over the offsets that it committed.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from streamkit.broker.config import BrokerConfig
from streamkit.broker.coordination.deadlines import Deadlines
from streamkit.broker.coordination.group.classic.group import ClassicGroup
from streamkit.broker.coordination.group.cluster import Cluster
from streamkit.broker.coordination.group.records import group_tombstone
from streamkit.broker.coordination.group.streams.description import describe
from streamkit.broker.coordination.group.streams.group import StreamsGroup
from streamkit.broker.coordination.group.streams.heartbeat import HeartbeatCall, check, heartbeat
from streamkit.broker.coordination.group.vocabulary import Caller, Timer
from streamkit.broker.coordination.shard import Decision, Refusal, Token
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.streams_group_describe import DescribedGroup
from streamkit.protocol.messages.streams_group_heartbeat import (
    StreamsGroupHeartbeatRequest,
    StreamsGroupHeartbeatResponse,
)


class StreamsRequests:
    """`groups` are the shard's, of every kind."""

    def __init__(
        self,
        config: BrokerConfig,
        cluster: Cluster,
        deadlines: Deadlines[Timer],
        groups: MutableMapping[str, Any],
    ) -> None:
        self._config = config
        self._cluster = cluster
        self._deadlines = deadlines
        self._groups = groups

    def new_group(self, group_id: str) -> StreamsGroup:
        return StreamsGroup(group_id, self._config, self._deadlines, self._cluster)

    def heartbeat(
        self, request: StreamsGroupHeartbeatRequest, caller: Caller, token: Token, decision: Decision
    ) -> None:
        """A group that begins is there at once, for what is soft of it must outlast the decision."""
        call = HeartbeatCall(request, caller, token)
        before = self._groups.get(request.group_id)
        try:
            check(request)
            group = self._groups[request.group_id] = self._member_group(call, before, decision)
            heartbeat(group, call, decision)
        except Refusal as refusal:
            decision.withdraw()
            self._restore(request.group_id, before)
            answer = StreamsGroupHeartbeatResponse(error_code=refusal.code, error_message=refusal.message)
            decision.reply(token, answer)

    def _member_group(self, call: HeartbeatCall, found: object | None, decision: Decision) -> StreamsGroup:
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
            raise _no_streams_group(group_id)
        return self.new_group(group_id)

    def _restore(self, group_id: str, before: object | None) -> None:
        if before is None:
            self._groups.pop(group_id, None)
        else:
            self._groups[group_id] = before

    def describe(self, group_id: str, token: Token, decision: Decision) -> None:
        group = self._groups.get(group_id)
        if isinstance(group, StreamsGroup):
            decision.reply(token, describe(group))
            return
        missing = Refusal(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} not found.")
        if group is not None:
            missing = _no_streams_group(group_id)
        decision.reply(
            token, DescribedGroup(group_id=group_id, error_code=missing.code, error_message=missing.message)
        )


def _no_streams_group(group_id: str) -> Refusal:
    return Refusal(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} is not a streams group.")
