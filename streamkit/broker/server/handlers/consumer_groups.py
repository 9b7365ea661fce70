"""The protocol of KIP-848: ConsumerGroupHeartbeat (68), ConsumerGroupDescribe (69)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID

from msgspec.structs import replace

from streamkit.broker.coordination.group.vocabulary import Caller
from streamkit.broker.coordination.shard import Refusal
from streamkit.broker.server.authorized_operations import GROUP
from streamkit.broker.server.dispatch import RequestContext, Route
from streamkit.broker.server.handlers.groups import ask, check_group_id
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.consumer_group_describe import (
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
    DescribedGroup,
)
from streamkit.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker


async def heartbeat(
    broker: Broker, request: RequestContext, message: ConsumerGroupHeartbeatRequest
) -> ConsumerGroupHeartbeatResponse:
    fresh_id = str(UUID(bytes=broker.rng.bytes("member-id", 16), version=4))
    caller = Caller(request.version, request.header.client_id or "", f"/{request.client_host}", fresh_id)
    try:
        _check_enabled(broker)
        if not message.group_id.strip():
            raise Refusal(ErrorCode.INVALID_REQUEST, "GroupId can't be empty.")
        return await ask(
            broker,
            message.group_id,
            ConsumerGroupHeartbeatResponse,
            lambda shard, token, decision: shard.consumers.heartbeat(message, caller, token, decision),
        )
    except Refusal as refusal:
        return ConsumerGroupHeartbeatResponse(error_code=refusal.code, error_message=refusal.message)


async def describe(
    broker: Broker, request: RequestContext, message: ConsumerGroupDescribeRequest
) -> ConsumerGroupDescribeResponse:
    groups = await asyncio.gather(*(_describe(broker, group_id) for group_id in message.group_ids))
    if message.include_authorized_operations:
        groups = [
            group if group.error_code else replace(group, authorized_operations=GROUP) for group in groups
        ]
    return ConsumerGroupDescribeResponse(groups=list(groups))


async def _describe(broker: Broker, group_id: str) -> DescribedGroup:
    try:
        _check_enabled(broker)
        check_group_id(group_id)
        return await ask(
            broker,
            group_id,
            DescribedGroup,
            lambda shard, token, decision: shard.consumers.describe(group_id, token, decision),
        )
    except Refusal as refusal:
        return DescribedGroup(group_id=group_id, error_code=refusal.code, error_message=refusal.message)


def _check_enabled(broker: Broker) -> None:
    """A cluster founded before the protocol existed serves it once `group.version` is raised."""
    if not broker.metadata.has_consumer_groups:
        raise Refusal(ErrorCode.UNSUPPORTED_VERSION, "The cluster's group.version is 0.")


ROUTES = (
    Route(ApiKey.CONSUMER_GROUP_HEARTBEAT, 0, 1, heartbeat),
    Route(ApiKey.CONSUMER_GROUP_DESCRIBE, 0, 1, describe),
)
