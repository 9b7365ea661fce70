"""EndQuorumEpoch: the leader of the metadata quorum resigns and names its successors in order (KIP-595)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import ZERO_UUID, Int16, Int32, Message, UInt16, Uuid, schema, tag, versions


class ReplicaInfo(Message):
    candidate_id: Int32 = 0
    candidate_directory_id: Uuid = ZERO_UUID


class EndQuorumEpochRequestPartitionData(Message):
    partition_index: Int32 = 0
    leader_id: Int32 = 0
    leader_epoch: Int32 = 0
    preferred_successors: Annotated[list[Int32], versions("0")] = []
    preferred_candidates: Annotated[list[ReplicaInfo], versions("1+")] = []


class EndQuorumEpochRequestTopicData(Message):
    topic_name: str = ""
    partitions: list[EndQuorumEpochRequestPartitionData] = []


class LeaderEndpoint(Message):
    name: str = ""
    host: str = ""
    port: UInt16 = 0


@schema("0-1", flexible="1+", key=54)
class EndQuorumEpochRequest(Message):
    cluster_id: str | None = None
    topics: list[EndQuorumEpochRequestTopicData] = []
    leader_endpoints: Annotated[list[LeaderEndpoint], versions("1+")] = []


class EndQuorumEpochResponsePartitionData(Message):
    partition_index: Int32 = 0
    error_code: Int16 = 0
    leader_id: Int32 = 0
    leader_epoch: Int32 = 0


class EndQuorumEpochResponseTopicData(Message):
    topic_name: str = ""
    partitions: list[EndQuorumEpochResponsePartitionData] = []


class NodeEndpoint(Message):
    node_id: Int32 = 0
    host: str = ""
    port: UInt16 = 0


@schema("0-1", flexible="1+", key=54)
class EndQuorumEpochResponse(Message):
    error_code: Int16 = 0
    topics: list[EndQuorumEpochResponseTopicData] = []
    node_endpoints: Annotated[list[NodeEndpoint], versions("1+"), tag(0)] = []
