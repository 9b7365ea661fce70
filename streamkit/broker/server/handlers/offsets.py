"""ListOffsets (2) and OffsetForLeaderEpoch (23): where partitions begin and end, in time and in epochs."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final

import msgspec

from streamkit.broker.server.dispatch import RequestContext, Route
from streamkit.broker.server.replicas.partition_actor import PartitionActor
from streamkit.broker.storage.errors import LogOfflineError
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)
from streamkit.protocol.messages.offset_for_leader_epoch import (
    EpochEndOffset,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
)

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker

LATEST = -1
EARLIEST = -2
MAX_TIMESTAMP = -3
EARLIEST_LOCAL = -4
LATEST_TIERED = -5
EARLIEST_PENDING_UPLOAD = -6
FIRST_VERSIONS: Final = {
    LATEST: 1,
    EARLIEST: 1,
    MAX_TIMESTAMP: 7,
    EARLIEST_LOCAL: 8,
    LATEST_TIERED: 9,
    EARLIEST_PENDING_UPLOAD: 11,
}
READ_COMMITTED = 1
PARTITIONS_PER_TURN = 100
CONSUMER = -1
BEGINNINGS = (EARLIEST, EARLIEST_LOCAL)
FIRST_VERSION_WITH_OFFSET_NOT_AVAILABLE = 5


class Position(msgspec.Struct, frozen=True, gc=False):
    """An offset with the timestamp and epoch of its record; all -1 where there is none."""

    offset: int = -1
    timestamp: int = -1
    epoch: int = -1


async def list_offsets(
    broker: Broker, request: RequestContext, message: ListOffsetsRequest
) -> ListOffsetsResponse:
    topics = []
    for topic in message.topics:
        partitions = []
        times = Counter(one.partition_index for one in topic.partitions)
        for place, (index, one) in enumerate(
            {one.partition_index: one for one in topic.partitions}.items(), 1
        ):
            if times[index] > 1:
                partitions.append(_asked_twice(broker, index))
                continue
            partitions.append(await list_offset(broker, request, message, topic.name, one))
            if not place % PARTITIONS_PER_TURN:
                await asyncio.sleep(0)
        topics.append(ListOffsetsTopicResponse(name=topic.name, partitions=partitions))
    return ListOffsetsResponse(topics=topics)


def _asked_twice(broker: Broker, partition: int) -> ListOffsetsPartitionResponse:
    """Which of the questions was meant?"""
    broker.count_failure(ApiKey.LIST_OFFSETS, ErrorCode.INVALID_REQUEST)
    return ListOffsetsPartitionResponse(partition_index=partition, error_code=ErrorCode.INVALID_REQUEST)


async def list_offset(
    broker: Broker,
    request: RequestContext,
    message: ListOffsetsRequest,
    topic: str,
    wanted: ListOffsetsPartition,
) -> ListOffsetsPartitionResponse:
    actor, error = readable(broker, topic, wanted.partition_index, wanted.current_leader_epoch)
    first_version = FIRST_VERSIONS.get(wanted.timestamp, 1 if wanted.timestamp >= 0 else None)
    if actor is not None and (first_version is None or request.version < first_version):
        actor, error = None, ErrorCode.UNSUPPORTED_VERSION
    if actor is None:
        broker.count_failure(ApiKey.LIST_OFFSETS, error)
        return ListOffsetsPartitionResponse(partition_index=wanted.partition_index, error_code=error)
    end = actor.last_stable_offset if message.isolation_level == READ_COMMITTED else actor.high_watermark
    if message.replica_id != CONSUMER:
        end = actor.log.log_end_offset
    elif not actor.is_established and wanted.timestamp not in BEGINNINGS:
        # what its predecessors committed may be more than a new leader knows of yet
        late = request.version >= FIRST_VERSION_WITH_OFFSET_NOT_AVAILABLE
        error = ErrorCode.OFFSET_NOT_AVAILABLE if late else ErrorCode.LEADER_NOT_AVAILABLE
        broker.count_failure(ApiKey.LIST_OFFSETS, error)
        return ListOffsetsPartitionResponse(partition_index=wanted.partition_index, error_code=error)
    epoch = actor.leader_epoch
    try:
        found = await find(actor, wanted.timestamp, end)
        error = actor.refusal(epoch) if actor.leader is not None else ErrorCode.NOT_LEADER_OR_FOLLOWER
    except LogOfflineError:
        error = ErrorCode.KAFKA_STORAGE_ERROR
    if error is not ErrorCode.NONE:
        broker.count_failure(ApiKey.LIST_OFFSETS, error)
        return ListOffsetsPartitionResponse(partition_index=wanted.partition_index, error_code=error)
    return ListOffsetsPartitionResponse(
        partition_index=wanted.partition_index,
        timestamp=found.timestamp,
        offset=found.offset,
        leader_epoch=found.epoch,
    )


async def find(actor: PartitionActor, timestamp: int, end_offset: int) -> Position:
    """Where `timestamp` (or what a negative one stands for) is, below `end_offset`."""
    log = actor.log
    if timestamp == LATEST:
        return Position(end_offset, epoch=log.epochs.latest)
    if timestamp in (EARLIEST, EARLIEST_LOCAL):
        return Position(log.log_start_offset, epoch=log.epochs.epoch_at(log.log_start_offset))
    if timestamp in (LATEST_TIERED, EARLIEST_PENDING_UPLOAD):
        return NOWHERE
    found = await (log.max_timestamp() if timestamp == MAX_TIMESTAMP else log.find_by_timestamp(timestamp))
    if found is None or found.offset >= end_offset:
        return NOWHERE
    return Position(found.offset, found.timestamp, log.epochs.epoch_at(found.offset))


NOWHERE = Position()


def offset_for_leader_epoch(
    broker: Broker, request: RequestContext, message: OffsetForLeaderEpochRequest
) -> OffsetForLeaderEpochResponse:
    return OffsetForLeaderEpochResponse(
        topics=[
            OffsetForLeaderTopicResult(
                topic=topic.topic,
                partitions=[end_of_epoch(broker, topic.topic, one) for one in topic.partitions],
            )
            for topic in message.topics
        ]
    )


def end_of_epoch(broker: Broker, topic: str, wanted: OffsetForLeaderPartition) -> EpochEndOffset:
    actor, error = readable(broker, topic, wanted.partition, wanted.current_leader_epoch)
    if actor is None:
        broker.count_failure(ApiKey.OFFSET_FOR_LEADER_EPOCH, error)
        return EpochEndOffset(partition=wanted.partition, error_code=error)
    epoch, end_offset = actor.log.epochs.end_offset_for(wanted.leader_epoch, actor.log.log_end_offset)
    return EpochEndOffset(partition=wanted.partition, leader_epoch=epoch, end_offset=end_offset)


def readable(
    broker: Broker, topic: str, partition: int, current_leader_epoch: int
) -> tuple[PartitionActor | None, ErrorCode]:
    """The actor that answers for a partition, after everything sent before; or why there is none."""
    actor = broker.partitions.get(topic, partition)
    if actor is None:
        return None, broker.why_missing(topic, partition)
    error = actor.refusal(current_leader_epoch)
    if error is ErrorCode.NONE and actor.leader is None:
        error = ErrorCode.NOT_LEADER_OR_FOLLOWER
    if error is not ErrorCode.NONE:
        return None, error
    actor.drain()
    return actor, ErrorCode.NONE


ROUTES = (
    Route(ApiKey.LIST_OFFSETS, 1, 11, list_offsets),
    Route(ApiKey.OFFSET_FOR_LEADER_EPOCH, 2, 4, offset_for_leader_epoch),
)
