"""AlterReplicaLogDirs: move replicas to another log directory of their broker (KIP-113)."""

from __future__ import annotations

from streamkit.protocol.schema import Int16, Int32, Message, schema


class AlterReplicaLogDirTopic(Message):
    name: str = ""
    partitions: list[Int32] = []


class AlterReplicaLogDir(Message):
    path: str = ""
    topics: list[AlterReplicaLogDirTopic] = []


@schema("1-2", flexible="2+", key=34)
class AlterReplicaLogDirsRequest(Message):
    dirs: list[AlterReplicaLogDir] = []


class AlterReplicaLogDirPartitionResult(Message):
    partition_index: Int32 = 0
    error_code: Int16 = 0


class AlterReplicaLogDirTopicResult(Message):
    topic_name: str = ""
    partitions: list[AlterReplicaLogDirPartitionResult] = []


@schema("1-2", flexible="2+", key=34)
class AlterReplicaLogDirsResponse(Message):
    throttle_time_ms: Int32 = 0
    results: list[AlterReplicaLogDirTopicResult] = []
