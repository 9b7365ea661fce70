"""DescribeLogDirs (35): which replicas lie in this broker's data directory, and how large they are (KIP-113).

How large the volume is stays unknown (-1): the disk port does not tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamkit.broker.server.dispatch import RequestContext, Route
from streamkit.broker.server.partition_actor import PartitionActor
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
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
    directory = DescribeLogDirsResult(
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


ROUTES = (Route(ApiKey.DESCRIBE_LOG_DIRS, 1, 5, describe_log_dirs),)
