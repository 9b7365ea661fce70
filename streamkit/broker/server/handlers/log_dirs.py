"""AlterReplicaLogDirs (34), DescribeLogDirs (35): which replicas lie in this broker's directory (KIP-113).

A broker has one data directory: a replica can be asked to move to where it is, and nowhere else. How large
the volume is stays unknown (-1): the disk port does not tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamkit.broker.server.dispatch import RequestContext, Route
from streamkit.broker.server.replicas.partition_actor import PartitionActor
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDirPartitionResult,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
    AlterReplicaLogDirTopicResult,
)
from streamkit.protocol.messages.describe_log_dirs import (
    DescribeLogDirsPartition,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
    DescribeLogDirsTopic,
)

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker


def describe_log_dirs(
    broker: Broker, request: RequestContext, message: DescribeLogDirsRequest
) -> DescribeLogDirsResponse:
    wanted = None
    if message.topics is not None:
        wanted = {(topic.topic, partition) for topic in message.topics for partition in topic.partitions}
    topics: dict[str, list[DescribeLogDirsPartition]] = {}
    for actor in broker.partitions:
        log = actor.log
        if wanted is None or (log.topic, log.partition) in wanted:
            topics.setdefault(log.topic, []).append(_described(actor))
    error = ErrorCode.KAFKA_STORAGE_ERROR if broker.directory.failure else ErrorCode.NONE
    volume = broker.directory.volume
    directory = DescribeLogDirsResult(
        total_bytes=volume.total,
        usable_bytes=volume.usable,
        error_code=error,
        log_dir=broker.directory.path,
        topics=[DescribeLogDirsTopic(name=name, partitions=some) for name, some in topics.items()],
    )
    return DescribeLogDirsResponse(results=[directory])


def _described(actor: PartitionActor) -> DescribeLogDirsPartition:
    log = actor.log
    return DescribeLogDirsPartition(
        partition_index=log.partition,
        partition_size=log.size_bytes,
        offset_lag=max(0, log.high_watermark - log.log_end_offset),
    )


def alter_replica_log_dirs(
    broker: Broker, request: RequestContext, message: AlterReplicaLogDirsRequest
) -> AlterReplicaLogDirsResponse:
    """A replica that is named for several directories is asked to move to the last of them."""
    wanted = {
        (topic.name, partition): directory.path
        for directory in message.dirs
        for topic in directory.topics
        for partition in topic.partitions
    }
    topics: dict[str, list[AlterReplicaLogDirPartitionResult]] = {}
    for (name, partition), path in wanted.items():
        code = _moved(broker, name, partition, path)
        if code is not ErrorCode.NONE:
            broker.count_failure(ApiKey.ALTER_REPLICA_LOG_DIRS, code)
        result = AlterReplicaLogDirPartitionResult(partition_index=partition, error_code=code)
        topics.setdefault(name, []).append(result)
    return AlterReplicaLogDirsResponse(
        results=[
            AlterReplicaLogDirTopicResult(topic_name=name, partitions=some) for name, some in topics.items()
        ]
    )


def _moved(broker: Broker, topic: str, partition: int, path: str) -> ErrorCode:
    if path != broker.directory.path:
        return ErrorCode.LOG_DIR_NOT_FOUND
    if broker.directory.failure:
        return ErrorCode.KAFKA_STORAGE_ERROR
    if broker.partitions.get(topic, partition) is not None:
        return ErrorCode.NONE
    if broker.metadata.partition(topic, partition) is not None:
        return ErrorCode.REPLICA_NOT_AVAILABLE
    return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


ROUTES = (
    Route(ApiKey.ALTER_REPLICA_LOG_DIRS, 1, 2, alter_replica_log_dirs),
    Route(ApiKey.DESCRIBE_LOG_DIRS, 1, 5, describe_log_dirs),
)
