"""WriteTxnMarkers (27), of transaction coordinators; DescribeProducers (61), to find what hangs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from streamkit.broker.controller.topic_names import invalid_reason
from streamkit.broker.server.dispatch import RequestContext, Route
from streamkit.broker.server.handlers.offsets import readable
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.describe_producers import (
    DescribeProducersRequest,
    DescribeProducersResponse,
    PartitionResponse,
    ProducerState,
    TopicResponse,
)
from streamkit.protocol.messages.write_txn_markers import WriteTxnMarkersRequest, WriteTxnMarkersResponse
from streamkit.protocol.records.batch import NO_LEADER_EPOCH

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker


async def write_txn_markers(
    broker: Broker, request: RequestContext, message: WriteTxnMarkersRequest
) -> WriteTxnMarkersResponse:
    written = await asyncio.gather(*(broker.markers.write(marker) for marker in message.markers))
    return WriteTxnMarkersResponse(markers=[one for one in written if one.topics])


def describe_producers(
    broker: Broker, request: RequestContext, message: DescribeProducersRequest
) -> DescribeProducersResponse:
    return DescribeProducersResponse(
        topics=[
            TopicResponse(
                name=topic.name,
                partitions=[_describe(broker, topic.name, index) for index in topic.partition_indexes],
            )
            for topic in message.topics
        ]
    )


def _describe(broker: Broker, topic: str, partition: int) -> PartitionResponse:
    actor, error = readable(broker, topic, partition, NO_LEADER_EPOCH)
    if invalid_reason(topic) is not None:
        actor, error = None, ErrorCode.INVALID_TOPIC_EXCEPTION
    if actor is None:
        broker.count_failure(ApiKey.DESCRIBE_PRODUCERS, error)
        return PartitionResponse(
            partition_index=partition, error_code=error, error_message=f"{topic}-{partition}: {error.name}"
        )
    return PartitionResponse(
        partition_index=partition,
        active_producers=[
            ProducerState(
                producer_id=producer_id,
                producer_epoch=entry.epoch,
                last_sequence=entry.last_sequence,
                last_timestamp=entry.timestamp,
                coordinator_epoch=entry.coordinator_epoch,
                current_txn_start_offset=entry.transaction_start,
            )
            for producer_id, entry in actor.log.producers.items()
        ],
    )


ROUTES = (
    Route(ApiKey.WRITE_TXN_MARKERS, 1, 2, write_txn_markers),
    Route(ApiKey.DESCRIBE_PRODUCERS, 0, 0, describe_producers),
)
