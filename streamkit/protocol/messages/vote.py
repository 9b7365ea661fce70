"""Vote: a voter of the metadata quorum asks for a vote (KIP-595), at first only in pretence (KIP-996)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import (
    ZERO_UUID,
    Int16,
    Int32,
    Int64,
    Message,
    UInt16,
    Uuid,
    schema,
    tag,
    versions,
)


class VoteRequestPartitionData(Message):
    partition_index: Int32 = 0
    replica_epoch: Int32 = 0
    replica_id: Int32 = 0
    replica_directory_id: Annotated[Uuid, versions("1+")] = ZERO_UUID
    voter_directory_id: Annotated[Uuid, versions("1+")] = ZERO_UUID
    last_offset_epoch: Int32 = 0
    last_offset: Int64 = 0
    pre_vote: Annotated[bool, versions("2+")] = False


class VoteRequestTopicData(Message):
    topic_name: str = ""
    partitions: list[VoteRequestPartitionData] = []


@schema("0-2", flexible="0+", key=52)
class VoteRequest(Message):
    cluster_id: str | None = None
    voter_id: Annotated[Int32, versions("1+")] = -1
    topics: list[VoteRequestTopicData] = []


class VoteResponsePartitionData(Message):
    partition_index: Int32 = 0
    error_code: Int16 = 0
    leader_id: Int32 = 0
    leader_epoch: Int32 = 0
    vote_granted: bool = False


class VoteResponseTopicData(Message):
    topic_name: str = ""
    partitions: list[VoteResponsePartitionData] = []


class NodeEndpoint(Message):
    node_id: Int32 = 0
    host: str = ""
    port: UInt16 = 0


@schema("0-2", flexible="0+", key=52)
class VoteResponse(Message):
    error_code: Int16 = 0
    topics: list[VoteResponseTopicData] = []
    node_endpoints: Annotated[list[NodeEndpoint], versions("1+"), tag(0)] = []
