"""BeginQuorumEpoch: the new leader of the metadata quorum makes itself known to a voter (KIP-595)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import ZERO_UUID, Int16, Int32, Message, UInt16, Uuid, schema, tag, versions


class BeginQuorumEpochRequestPartitionData(Message):
    partition_index: Int32 = 0
    voter_directory_id: Annotated[Uuid, versions("1+")] = ZERO_UUID
    leader_id: Int32 = 0
    leader_epoch: Int32 = 0


class BeginQuorumEpochRequestTopicData(Message):
    topic_name: str = ""
    partitions: list[BeginQuorumEpochRequestPartitionData] = []


class LeaderEndpoint(Message):
    name: str = ""
    host: str = ""
    port: UInt16 = 0


@schema("0-1", flexible="1+", key=53)
class BeginQuorumEpochRequest(Message):
    cluster_id: str | None = None
    voter_id: Annotated[Int32, versions("1+")] = -1
    topics: list[BeginQuorumEpochRequestTopicData] = []
    leader_endpoints: Annotated[list[LeaderEndpoint], versions("1+")] = []


class BeginQuorumEpochResponsePartitionData(Message):
    partition_index: Int32 = 0
    error_code: Int16 = 0
    leader_id: Int32 = 0
    leader_epoch: Int32 = 0


class BeginQuorumEpochResponseTopicData(Message):
    topic_name: str = ""
    partitions: list[BeginQuorumEpochResponsePartitionData] = []


class NodeEndpoint(Message):
    node_id: Int32 = 0
    host: str = ""
    port: UInt16 = 0


@schema("0-1", flexible="1+", key=53)
class BeginQuorumEpochResponse(Message):
    error_code: Int16 = 0
    topics: list[BeginQuorumEpochResponseTopicData] = []
    node_endpoints: Annotated[list[NodeEndpoint], versions("1+"), tag(0)] = []
