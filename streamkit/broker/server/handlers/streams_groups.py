"""The protocol of KIP-1071: StreamsGroupHeartbeat (88), StreamsGroupDescribe (89)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec.structs import replace

from streamkit.broker.controller.topic_names import INTERNAL_TOPICS, invalid_reason
from streamkit.broker.coordination.group.streams.internal_topics import StatusCode
from streamkit.broker.coordination.group.vocabulary import Caller
from streamkit.broker.coordination.shard import Refusal
from streamkit.broker.server.authorized_operations import GROUP
from streamkit.broker.server.dispatch import RequestContext, Route
from streamkit.broker.server.handlers.groups import ask, check_group_id
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.streams_group_describe import (
    DescribedGroup,
    StreamsGroupDescribeRequest,
    StreamsGroupDescribeResponse,
)
from streamkit.protocol.messages.streams_group_heartbeat import (
    Status,
    StreamsGroupHeartbeatRequest,
    StreamsGroupHeartbeatResponse,
    Topology,
)

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker


async def heartbeat(
    broker: Broker, request: RequestContext, message: StreamsGroupHeartbeatRequest
) -> StreamsGroupHeartbeatResponse:
    caller = Caller(request.version, request.header.client_id or "", f"/{request.client_host}", "")
    try:
        _check_enabled(broker)
        if not message.group_id.strip():
            raise Refusal(ErrorCode.INVALID_REQUEST, "GroupId can't be empty.")
        if message.topology is not None:
            _check_topics(message.topology)
        answer = await ask(
            broker,
            message.group_id,
            StreamsGroupHeartbeatResponse,
            lambda shard, token, decision: shard.streams.heartbeat(message, caller, token, decision),
        )
    except Refusal as refusal:
        return StreamsGroupHeartbeatResponse(error_code=refusal.code, error_message=refusal.message)
    failure = broker.groups.streams_topics.failure(message.group_id)
    return answer if failure is None else _with_failure(answer, failure)


def _check_topics(topology: Topology) -> None:
    names = sorted(set(_names(topology)))
    own = [name for name in names if name in INTERNAL_TOPICS]
    if own:
        raise Refusal(
            ErrorCode.STREAMS_INVALID_TOPOLOGY,
            f"Use of Kafka internal topics {','.join(own)} in a Kafka Streams topology is prohibited.",
        )
    invalid = [name for name in names if invalid_reason(name) is not None]
    if invalid:
        raise Refusal(
            ErrorCode.STREAMS_INVALID_TOPOLOGY, f"Topic names {','.join(invalid)} are not valid topic names."
        )


def _names(topology: Topology) -> Iterator[str]:
    for one in topology.subtopologies:
        yield from one.source_topics
        yield from one.repartition_sink_topics
        yield from (topic.name for topic in one.repartition_source_topics)
        yield from (topic.name for topic in one.state_changelog_topics)


def _with_failure(answer: StreamsGroupHeartbeatResponse, failure: str) -> StreamsGroupHeartbeatResponse:
    """Why internal topics are still missing is known here, and not to the group."""
    return replace(answer, status=[_explained(status, failure) for status in answer.status or ()])


def _explained(status: Status, failure: str) -> Status:
    if status.status_code != StatusCode.MISSING_INTERNAL_TOPICS:
        return status
    return replace(status, status_detail=f"{status.status_detail}; Creation failed: {failure}.")


async def describe(
    broker: Broker, request: RequestContext, message: StreamsGroupDescribeRequest
) -> StreamsGroupDescribeResponse:
    groups = await asyncio.gather(*(_describe(broker, group_id) for group_id in message.group_ids))
    if message.include_authorized_operations:
        groups = [
            group if group.error_code else replace(group, authorized_operations=GROUP) for group in groups
        ]
    return StreamsGroupDescribeResponse(groups=list(groups))


async def _describe(broker: Broker, group_id: str) -> DescribedGroup:
    try:
        _check_enabled(broker)
        check_group_id(group_id)
        return await ask(
            broker,
            group_id,
            DescribedGroup,
            lambda shard, token, decision: shard.streams.describe(group_id, token, decision),
        )
    except Refusal as refusal:
        return DescribedGroup(group_id=group_id, error_code=refusal.code, error_message=refusal.message)


def _check_enabled(broker: Broker) -> None:
    """A cluster founded before the protocol existed serves it once `streams.version` is raised."""
    if not broker.metadata.has_streams_groups:
        raise Refusal(ErrorCode.UNSUPPORTED_VERSION, "The cluster's streams.version is 0.")


ROUTES = (
    Route(ApiKey.STREAMS_GROUP_HEARTBEAT, 0, 0, heartbeat),
    Route(ApiKey.STREAMS_GROUP_DESCRIBE, 0, 0, describe),
)
