"""Share groups (KIP-932): ShareGroupHeartbeat (76), ShareGroupDescribe (77), their offsets (90 to 92).

The group's shard knows which share-partitions there are, the share coordinators where each of them begins,
and the partitions' leaders where they end; describing offsets asks all three.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING
from uuid import UUID

from msgspec.structs import replace

from streamkit.broker.coordination.group.share.target import NO_OFFSET
from streamkit.broker.coordination.group.vocabulary import Caller
from streamkit.broker.coordination.shard import Refusal
from streamkit.broker.server.authorized_operations import GROUP
from streamkit.broker.server.dispatch import RequestContext, Route
from streamkit.broker.server.handlers.groups import ask, check_group_id
from streamkit.broker.server.replicas.partition_ends import Ends, Place, partition_ends
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.alter_share_group_offsets import (
    AlterShareGroupOffsetsRequest,
    AlterShareGroupOffsetsResponse,
)
from streamkit.protocol.messages.delete_share_group_offsets import (
    DeleteShareGroupOffsetsRequest,
    DeleteShareGroupOffsetsResponse,
)
from streamkit.protocol.messages.describe_share_group_offsets import (
    DescribeShareGroupOffsetsRequest,
    DescribeShareGroupOffsetsRequestGroup,
    DescribeShareGroupOffsetsResponse,
    DescribeShareGroupOffsetsResponseGroup,
    DescribeShareGroupOffsetsResponsePartition,
    DescribeShareGroupOffsetsResponseTopic,
)
from streamkit.protocol.messages.read_share_group_state_summary import (
    PartitionData,
    PartitionResult,
    ReadShareGroupStateSummaryRequest,
    ReadStateSummaryData,
)
from streamkit.protocol.messages.share_group_describe import (
    DescribedGroup,
    ShareGroupDescribeRequest,
    ShareGroupDescribeResponse,
)
from streamkit.protocol.messages.share_group_heartbeat import (
    ShareGroupHeartbeatRequest,
    ShareGroupHeartbeatResponse,
)
from streamkit.protocol.schema import ZERO_UUID

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker

NO_COUNT = -1


async def heartbeat(
    broker: Broker, request: RequestContext, message: ShareGroupHeartbeatRequest
) -> ShareGroupHeartbeatResponse:
    fresh_id = str(UUID(bytes=broker.rng.bytes("member-id", 16), version=4))
    caller = Caller(request.version, request.header.client_id or "", f"/{request.client_host}", fresh_id)
    try:
        _check_enabled(broker)
        if not message.group_id.strip():
            raise Refusal(ErrorCode.INVALID_REQUEST, "GroupId can't be empty.")
        return await ask(
            broker,
            message.group_id,
            ShareGroupHeartbeatResponse,
            lambda shard, token, decision: shard.shares.heartbeat(message, caller, token, decision),
        )
    except Refusal as refusal:
        return ShareGroupHeartbeatResponse(
            error_code=refusal.code, error_message=refusal.message or refusal.code.name
        )


async def describe(
    broker: Broker, request: RequestContext, message: ShareGroupDescribeRequest
) -> ShareGroupDescribeResponse:
    groups = await asyncio.gather(*(_describe(broker, group_id) for group_id in message.group_ids))
    if message.include_authorized_operations:
        groups = [
            group if group.error_code else replace(group, authorized_operations=GROUP) for group in groups
        ]
    return ShareGroupDescribeResponse(groups=list(groups))


async def _describe(broker: Broker, group_id: str) -> DescribedGroup:
    try:
        _check_enabled(broker)
        check_group_id(group_id)
        return await ask(
            broker,
            group_id,
            DescribedGroup,
            lambda shard, token, decision: shard.shares.describe(group_id, token, decision),
        )
    except Refusal as refusal:
        return DescribedGroup(
            group_id=group_id, error_code=refusal.code, error_message=refusal.message or refusal.code.name
        )


def _check_enabled(broker: Broker) -> None:
    """A cluster founded before the protocol existed serves it once `share.version` is raised."""
    if not broker.metadata.has_share_groups:
        raise Refusal(ErrorCode.UNSUPPORTED_VERSION, "The cluster's share.version is 0.")


# ── offsets ─────────────────────────────────────────────────────────────────────────────────────────────


async def alter_offsets(
    broker: Broker, request: RequestContext, message: AlterShareGroupOffsetsRequest
) -> AlterShareGroupOffsetsResponse:
    try:
        _check_enabled(broker)
        check_group_id(message.group_id)
        return await ask(
            broker,
            message.group_id,
            AlterShareGroupOffsetsResponse,
            lambda shard, token, decision: shard.shares.alter_offsets(message, token, decision),
        )
    except Refusal as refusal:
        return AlterShareGroupOffsetsResponse(error_code=refusal.code, error_message=str(refusal))


async def delete_offsets(
    broker: Broker, request: RequestContext, message: DeleteShareGroupOffsetsRequest
) -> DeleteShareGroupOffsetsResponse:
    try:
        _check_enabled(broker)
        check_group_id(message.group_id)
        return await ask(
            broker,
            message.group_id,
            DeleteShareGroupOffsetsResponse,
            lambda shard, token, decision: shard.shares.delete_offsets(message, token, decision),
        )
    except Refusal as refusal:
        return DeleteShareGroupOffsetsResponse(error_code=refusal.code, error_message=str(refusal))


async def describe_offsets(
    broker: Broker, request: RequestContext, message: DescribeShareGroupOffsetsRequest
) -> DescribeShareGroupOffsetsResponse:
    groups = await asyncio.gather(*(_group_offsets(broker, group) for group in message.groups))
    return DescribeShareGroupOffsetsResponse(groups=list(groups))


async def _group_offsets(
    broker: Broker, wanted: DescribeShareGroupOffsetsRequestGroup
) -> DescribeShareGroupOffsetsResponseGroup:
    try:
        _check_enabled(broker)
        check_group_id(wanted.group_id)
        group = await ask(
            broker,
            wanted.group_id,
            DescribeShareGroupOffsetsResponseGroup,
            lambda shard, token, decision: shard.shares.places(wanted, token, decision),
        )
    except Refusal as refusal:
        return DescribeShareGroupOffsetsResponseGroup(
            group_id=wanted.group_id,
            error_code=refusal.code,
            error_message=refusal.message or refusal.code.name,
        )
    begins = await _begins(broker, group)
    ends = await partition_ends(broker, [place for place, one in begins.items() if _is_counted(one)])
    return replace(group, topics=[_filled(topic, begins, ends) for topic in group.topics])


async def _begins(
    broker: Broker, group: DescribeShareGroupOffsetsResponseGroup
) -> dict[Place, PartitionResult]:
    """What the share coordinators know of these share-partitions."""
    names = {topic.topic_id: topic.topic_name for topic in group.topics if topic.topic_id != ZERO_UUID}
    if not names:
        return {}
    response = await broker.share_persister.read_summary(
        ReadShareGroupStateSummaryRequest(
            group_id=group.group_id,
            topics=[
                ReadStateSummaryData(
                    topic_id=topic.topic_id,
                    partitions=[PartitionData(partition=one.partition_index) for one in topic.partitions],
                )
                for topic in group.topics
                if topic.topic_id in names
            ],
        )
    )
    return {
        (names[topic.topic_id], one.partition): one for topic in response.results for one in topic.partitions
    }


def _is_counted(begin: PartitionResult) -> bool:
    """Whether it is known where the share-partition begins and how much beyond that is done with."""
    is_begun = begin.error_code == ErrorCode.NONE and begin.start_offset != NO_OFFSET
    return is_begun and begin.delivery_complete_count != NO_COUNT


def _filled(
    topic: DescribeShareGroupOffsetsResponseTopic, begins: Mapping[Place, PartitionResult], ends: Ends
) -> DescribeShareGroupOffsetsResponseTopic:
    partitions = []
    for one in topic.partitions:
        place = (topic.topic_name, one.partition_index)
        partitions.append(_partition(one, begins.get(place), ends.get(place)))
    return replace(topic, partitions=partitions)


def _partition(
    blank: DescribeShareGroupOffsetsResponsePartition,
    begin: PartitionResult | None,
    end: int | ErrorCode | None,
) -> DescribeShareGroupOffsetsResponsePartition:
    """Nothing is known of a share-partition that was never begun; that is no error. The lag is what has not
    been delivered for good.
    """
    if begin is None or begin.error_code:
        return blank
    if isinstance(end, ErrorCode):
        return replace(blank, start_offset=0, error_code=end, error_message=end.name)
    begun = replace(blank, start_offset=begin.start_offset, leader_epoch=begin.leader_epoch)
    if end is None:
        return begun
    return replace(begun, lag=end - begin.start_offset - begin.delivery_complete_count)


ROUTES = (
    Route(ApiKey.SHARE_GROUP_HEARTBEAT, 1, 1, heartbeat),
    Route(ApiKey.SHARE_GROUP_DESCRIBE, 1, 1, describe),
    Route(ApiKey.DESCRIBE_SHARE_GROUP_OFFSETS, 0, 1, describe_offsets),
    Route(ApiKey.ALTER_SHARE_GROUP_OFFSETS, 0, 0, alter_offsets),
    Route(ApiKey.DELETE_SHARE_GROUP_OFFSETS, 0, 0, delete_offsets),
)
