"""DescribeQuorum: the voters and observers of the metadata quorum, and how far each is (KIP-595, 836)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import ZERO_UUID, Int16, Int32, Int64, Message, UInt16, Uuid, schema, versions


class DescribeQuorumRequestPartitionData(Message):
    partition_index: Int32 = 0


class DescribeQuorumRequestTopicData(Message):
    topic_name: str = ""
    partitions: list[DescribeQuorumRequestPartitionData] = []


@schema("0-2", flexible="0+", key=55)
class DescribeQuorumRequest(Message):
    topics: list[DescribeQuorumRequestTopicData] = []


class ReplicaState(Message):
    replica_id: Int32 = 0
    replica_directory_id: Annotated[Uuid, versions("2+")] = ZERO_UUID
    log_end_offset: Int64 = 0
    last_fetch_timestamp: Annotated[Int64, versions("1+")] = -1
    last_caught_up_timestamp: Annotated[Int64, versions("1+")] = -1


class DescribeQuorumResponsePartitionData(Message):
    partition_index: Int32 = 0
    error_code: Int16 = 0
    error_message: Annotated[str | None, versions("2+")] = ""
    leader_id: Int32 = 0
    leader_epoch: Int32 = 0
    high_watermark: Int64 = 0
    current_voters: list[ReplicaState] = []
    observers: list[ReplicaState] = []


class DescribeQuorumResponseTopicData(Message):
    topic_name: str = ""
    partitions: list[DescribeQuorumResponsePartitionData] = []


class Listener(Message):
    name: str = ""
    host: str = ""
    port: UInt16 = 0


class Node(Message):
    node_id: Int32 = 0
    listeners: list[Listener] = []


@schema("0-2", flexible="0+", key=55)
class DescribeQuorumResponse(Message):
    error_code: Int16 = 0
    error_message: Annotated[str | None, versions("2+")] = ""
    topics: list[DescribeQuorumResponseTopicData] = []
    nodes: Annotated[list[Node], versions("2+")] = []
