"""The protocol of KIP-848: every request that concerns consumer groups, each for one group."""

from __future__ import annotations

from streamkit.broker.coordination.group.classic.group import ClassicGroup
from streamkit.broker.coordination.group.consumer.description import describe
from streamkit.broker.coordination.group.consumer.group import ConsumerGroup
from streamkit.broker.coordination.group.consumer.heartbeat import Call, check, heartbeat
from streamkit.broker.coordination.group.consumer.migration import become_consumer
from streamkit.broker.coordination.group.groups import Groups, not_of_kind
from streamkit.broker.coordination.group.vocabulary import Caller
from streamkit.broker.coordination.shard import Decision, Refusal, Token
from streamkit.protocol.messages.consumer_group_describe import DescribedGroup
from streamkit.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)


class ConsumerRequests:
    def __init__(self, groups: Groups) -> None:
        self._groups = groups

    def heartbeat(
        self, request: ConsumerGroupHeartbeatRequest, caller: Caller, token: Token, decision: Decision
    ) -> None:
        call = Call(request, caller, token)
        try:
            check(call, self._groups.config.group_consumer_assignors)
            heartbeat(self._member_group(call, decision), call, decision)
        except Refusal as refusal:
            decision.withdraw()
            answer = ConsumerGroupHeartbeatResponse(error_code=refusal.code, error_message=refusal.message)
            decision.reply(token, answer)

    def _member_group(self, call: Call, decision: Decision) -> ConsumerGroup:
        """The group that a member speaks of; joining makes it, or turns a classic one."""
        group_id = call.request.group_id
        group = self._groups.get(group_id)
        if isinstance(group, ConsumerGroup):
            return group
        if call.joins and group is None:
            return self._groups.new(ConsumerGroup, group_id)
        if call.joins and isinstance(group, ClassicGroup):
            return become_consumer(group, self._groups.cluster, decision).group
        raise not_of_kind(ConsumerGroup, group_id, exists=group is not None)

    def describe(self, group_id: str, token: Token, decision: Decision) -> None:
        try:
            described = describe(self._groups.of_kind(ConsumerGroup, group_id))
        except Refusal as refusal:
            described = DescribedGroup(
                group_id=group_id, error_code=refusal.code, error_message=refusal.message
            )
        decision.reply(token, described)
