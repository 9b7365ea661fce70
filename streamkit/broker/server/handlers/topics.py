"""Topics and their records: CreateTopics (19), DeleteTopics (20), DeleteRecords (21), CreatePartitions (37),
DescribeTopicPartitions (75).

Creating, deleting and growing are the controller's to decide, and are answered once the broker that was asked
has opened or removed what was decided. Their timeouts are not heeded: the controller's answer is waited for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from streamkit.broker.controller.image import TopicImage
from streamkit.broker.controller.topic_names import INTERNAL_TOPICS, invalid_reason
from streamkit.broker.server.authorized_operations import TOPIC
from streamkit.broker.server.cluster.cluster_view import ClusterView
from streamkit.broker.server.dispatch import RequestContext, Route
from streamkit.broker.storage.errors import OffsetOutOfRangeError
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsResponse
from streamkit.protocol.messages.create_topics import CreateTopicsRequest, CreateTopicsResponse
from streamkit.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsPartitionResult,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)
from streamkit.protocol.messages.delete_topics import (
    DeletableTopicResult,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DeleteTopicState,
)
from streamkit.protocol.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponseTopic,
)

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker

FIRST_VERSION_WITH_DELETION_DISABLED: Final = 3
HIGH_WATERMARK: Final = -1  # as the offset to delete up to
NO_WATERMARK: Final = -1


async def create_topics(
    broker: Broker, request: RequestContext, message: CreateTopicsRequest
) -> CreateTopicsResponse:
    response = await broker.controller.submit(lambda controller: controller.create_topics(message))
    broker.count_failures(ApiKey.CREATE_TOPICS, (topic.error_code for topic in response.topics))
    return response


async def create_partitions(
    broker: Broker, request: RequestContext, message: CreatePartitionsRequest
) -> CreatePartitionsResponse:
    response = await broker.controller.submit(lambda controller: controller.create_partitions(message))
    broker.count_failures(ApiKey.CREATE_PARTITIONS, (topic.error_code for topic in response.results))
    return response


async def delete_topics(
    broker: Broker, request: RequestContext, message: DeleteTopicsRequest
) -> DeleteTopicsResponse:
    if broker.config.delete_topic_enable:
        response = await broker.controller.submit(lambda controller: controller.delete_topics(message))
    else:
        response = _deletion_disabled(message, request.version)
    broker.count_failures(ApiKey.DELETE_TOPICS, (topic.error_code for topic in response.responses))
    return response


def _deletion_disabled(message: DeleteTopicsRequest, version: int) -> DeleteTopicsResponse:
    told = version >= FIRST_VERSION_WITH_DELETION_DISABLED
    code = ErrorCode.TOPIC_DELETION_DISABLED if told else ErrorCode.INVALID_REQUEST
    targets = [*message.topics, *(DeleteTopicState(name=name) for name in message.topic_names)]
    return DeleteTopicsResponse(
        responses=[
            DeletableTopicResult(
                name=target.name,
                topic_id=target.topic_id,
                error_code=code,
                error_message="Topic deletion is disabled: delete.topic.enable is false.",
            )
            for target in targets
        ]
    )


def delete_records(
    broker: Broker, request: RequestContext, message: DeleteRecordsRequest
) -> DeleteRecordsResponse:
    return DeleteRecordsResponse(
        topics=[
            DeleteRecordsTopicResult(
                name=topic.name,
                partitions=[_records_deleted(broker, topic.name, wanted) for wanted in topic.partitions],
            )
            for topic in message.topics
        ]
    )


def _records_deleted(
    broker: Broker, topic: str, wanted: DeleteRecordsPartition
) -> DeleteRecordsPartitionResult:
    code, low_watermark = _delete_up_to(broker, topic, wanted.partition_index, wanted.offset)
    broker.count_failures(ApiKey.DELETE_RECORDS, (code,))
    return DeleteRecordsPartitionResult(
        partition_index=wanted.partition_index, low_watermark=low_watermark, error_code=code
    )


def _delete_up_to(broker: Broker, topic: str, partition: int, offset: int) -> tuple[ErrorCode, int]:
    actor = broker.partitions.led(topic, partition)
    if actor is None:
        return broker.why_missing(topic, partition), NO_WATERMARK
    if topic in INTERNAL_TOPICS:
        return ErrorCode.INVALID_TOPIC_EXCEPTION, NO_WATERMARK
    if "delete" not in actor.log.config.cleanup_policy:
        return ErrorCode.POLICY_VIOLATION, NO_WATERMARK
    try:
        return ErrorCode.NONE, actor.log.delete_records(
            actor.high_watermark if offset == HIGH_WATERMARK else offset
        )
    except OffsetOutOfRangeError:
        return ErrorCode.OFFSET_OUT_OF_RANGE, NO_WATERMARK


def describe_topic_partitions(
    broker: Broker, request: RequestContext, message: DescribeTopicPartitionsRequest
) -> DescribeTopicPartitionsResponse:
    cursor = message.cursor
    names = sorted({topic.name for topic in message.topics} or broker.metadata.topics)
    if cursor is not None and (
        cursor.partition_index < 0 or (message.topics and cursor.topic_name not in names)
    ):
        return DescribeTopicPartitionsResponse(
            topics=[
                DescribeTopicPartitionsResponseTopic(error_code=ErrorCode.INVALID_REQUEST, name=topic.name)
                for topic in message.topics
            ]
        )
    limit = min(message.response_partition_limit, broker.config.max_request_partition_size_limit)
    page = _Page(ClusterView(broker.metadata, request.listener), max(limit, 1))
    for name in names:
        if cursor is not None and name < cursor.topic_name:
            continue
        first = cursor.partition_index if cursor is not None and name == cursor.topic_name else 0
        if page.next_cursor is None:
            page.add(name, broker.metadata.topics.get(name), first)
    broker.count_failures(ApiKey.DESCRIBE_TOPIC_PARTITIONS, (topic.error_code for topic in page.topics))
    return DescribeTopicPartitionsResponse(topics=page.topics, next_cursor=page.next_cursor)


class _Page:
    """At most `room` partitions of the topics added in order; then a cursor to where the next page begins."""

    def __init__(self, view: ClusterView, room: int) -> None:
        self.topics: list[DescribeTopicPartitionsResponseTopic] = []
        self.next_cursor: Cursor | None = None
        self._view = view
        self._room = room

    def add(self, name: str, topic: TopicImage | None, first: int) -> None:
        if not self._room:
            self.next_cursor = Cursor(topic_name=name, partition_index=first)
        elif topic is None:
            self.topics.append(replace(_unknown(name), topic_authorized_operations=TOPIC))
        else:
            self._add_partitions(topic, first)

    def _add_partitions(self, topic: TopicImage, first: int) -> None:
        end = min(first + self._room, len(topic.partitions))
        self.topics.append(
            DescribeTopicPartitionsResponseTopic(
                name=topic.name,
                topic_id=topic.topic_id,
                is_internal=topic.name in INTERNAL_TOPICS,
                partitions=[
                    self._view.described_partition(index, topic.partitions[index])
                    for index in range(first, end)
                ],
                topic_authorized_operations=TOPIC,
            )
        )
        self._room -= max(end - first, 0)
        if end < len(topic.partitions):
            self.next_cursor = Cursor(topic_name=topic.name, partition_index=end)


def _unknown(name: str) -> DescribeTopicPartitionsResponseTopic:
    invalid = invalid_reason(name) is not None
    code = ErrorCode.INVALID_TOPIC_EXCEPTION if invalid else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    return DescribeTopicPartitionsResponseTopic(error_code=code, name=name, topic_authorized_operations=TOPIC)


ROUTES = (
    Route(ApiKey.CREATE_TOPICS, 2, 7, create_topics, by_controller=True),
    Route(ApiKey.DELETE_TOPICS, 1, 6, delete_topics, by_controller=True),
    Route(ApiKey.CREATE_PARTITIONS, 0, 3, create_partitions, by_controller=True),
    Route(ApiKey.DELETE_RECORDS, 0, 2, delete_records),
    Route(ApiKey.DESCRIBE_TOPIC_PARTITIONS, 0, 0, describe_topic_partitions),
)
