"""AssignReplicasToDirs: a broker says which of its log directories hold which replicas (KIP-858)."""

from __future__ import annotations

from streamkit.protocol.schema import ZERO_UUID, Int16, Int32, Int64, Message, Uuid, schema


class AssignReplicasToDirsRequestPartitionData(Message):
    partition_index: Int32 = 0


class AssignReplicasToDirsRequestTopicData(Message):
    topic_id: Uuid = ZERO_UUID
    partitions: list[AssignReplicasToDirsRequestPartitionData] = []


class AssignReplicasToDirsRequestDirectoryData(Message):
    id: Uuid = ZERO_UUID
    topics: list[AssignReplicasToDirsRequestTopicData] = []


@schema("0", flexible="0+", key=73)
class AssignReplicasToDirsRequest(Message):
    broker_id: Int32 = 0
    broker_epoch: Int64 = -1
    directories: list[AssignReplicasToDirsRequestDirectoryData] = []


class AssignReplicasToDirsResponsePartitionData(Message):
    partition_index: Int32 = 0
    error_code: Int16 = 0


class AssignReplicasToDirsResponseTopicData(Message):
    topic_id: Uuid = ZERO_UUID
    partitions: list[AssignReplicasToDirsResponsePartitionData] = []


class AssignReplicasToDirsResponseDirectoryData(Message):
    id: Uuid = ZERO_UUID
    topics: list[AssignReplicasToDirsResponseTopicData] = []


@schema("0", flexible="0+", key=73)
class AssignReplicasToDirsResponse(Message):
    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    directories: list[AssignReplicasToDirsResponseDirectoryData] = []
