"""ListPartitionReassignments: the partitions that are being moved (KIP-455)."""

from __future__ import annotations

from streamkit.protocol.schema import Int16, Int32, Message, schema


class ListPartitionReassignmentsTopics(Message):
    name: str = ""
    partition_indexes: list[Int32] = []


@schema("0", flexible="0+", key=46)
class ListPartitionReassignmentsRequest(Message):
    timeout_ms: Int32 = 60000
    topics: list[ListPartitionReassignmentsTopics] | None = None


class OngoingPartitionReassignment(Message):
    partition_index: Int32 = 0
    replicas: list[Int32] = []
    adding_replicas: list[Int32] = []
    removing_replicas: list[Int32] = []


class OngoingTopicReassignment(Message):
    name: str = ""
    partitions: list[OngoingPartitionReassignment] = []


@schema("0", flexible="0+", key=46)
class ListPartitionReassignmentsResponse(Message):
    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    error_message: str | None = ""
    topics: list[OngoingTopicReassignment] = []
