"""ListOffsets: the offset at a timestamp or special position (-1 latest, -2 earliest, -3 max timestamp)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import Int8, Int16, Int32, Int64, Message, schema, versions


class ListOffsetsPartition(Message):
    partition_index: Int32 = 0
    current_leader_epoch: Annotated[Int32, versions("4+")] = -1
    timestamp: Int64 = 0


class ListOffsetsTopic(Message):
    name: str = ""
    partitions: list[ListOffsetsPartition] = []


@schema("1-11", flexible="6+", key=2)
class ListOffsetsRequest(Message):
    replica_id: Int32 = 0
    isolation_level: Annotated[Int8, versions("2+")] = 0
    topics: list[ListOffsetsTopic] = []
    timeout_ms: Annotated[Int32, versions("10+")] = 0


class ListOffsetsPartitionResponse(Message):
    partition_index: Int32 = 0
    error_code: Int16 = 0
    timestamp: Int64 = -1
    offset: Int64 = -1
    leader_epoch: Annotated[Int32, versions("4+")] = -1


class ListOffsetsTopicResponse(Message):
    name: str = ""
    partitions: list[ListOffsetsPartitionResponse] = []


@schema("1-11", flexible="6+", key=2)
class ListOffsetsResponse(Message):
    throttle_time_ms: Annotated[Int32, versions("2+")] = 0
    topics: list[ListOffsetsTopicResponse] = []
