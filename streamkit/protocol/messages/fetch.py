"""Fetch: read record batches, by consumers and followers. Sessions from version 7 (KIP-227), ids from 13."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import (
    ZERO_UUID,
    Int8,
    Int16,
    Int32,
    Int64,
    Message,
    Records,
    Uuid,
    schema,
    tag,
    versions,
)


class ReplicaState(Message):
    replica_id: Int32 = -1
    replica_epoch: Int64 = -1


class FetchPartition(Message):
    partition: Int32 = 0
    current_leader_epoch: Annotated[Int32, versions("9+")] = -1
    fetch_offset: Int64 = 0
    last_fetched_epoch: Annotated[Int32, versions("12+")] = -1
    log_start_offset: Annotated[Int64, versions("5+")] = -1
    partition_max_bytes: Int32 = 0
    replica_directory_id: Annotated[Uuid, versions("17+"), tag(0)] = ZERO_UUID
    high_watermark: Annotated[Int64, versions("18+"), tag(1)] = 0x7FFFFFFFFFFFFFFF


class FetchTopic(Message):
    topic: Annotated[str, versions("0-12")] = ""
    topic_id: Annotated[Uuid, versions("13+")] = ZERO_UUID
    partitions: list[FetchPartition] = []


class ForgottenTopic(Message):
    topic: Annotated[str, versions("7-12")] = ""
    topic_id: Annotated[Uuid, versions("13+")] = ZERO_UUID
    partitions: list[Int32] = []


@schema("4-18", flexible="12+", key=1)
class FetchRequest(Message):
    cluster_id: Annotated[str | None, versions("12+"), tag(0)] = None
    replica_id: Annotated[Int32, versions("0-14")] = -1
    replica_state: Annotated[ReplicaState, versions("15+"), tag(1)] = ReplicaState()
    max_wait_ms: Int32 = 0
    min_bytes: Int32 = 0
    max_bytes: Int32 = 0x7FFFFFFF
    isolation_level: Int8 = 0
    session_id: Annotated[Int32, versions("7+")] = 0
    session_epoch: Annotated[Int32, versions("7+")] = -1
    topics: list[FetchTopic] = []
    forgotten_topics_data: Annotated[list[ForgottenTopic], versions("7+")] = []
    rack_id: Annotated[str, versions("11+")] = ""


class EpochEndOffset(Message):
    epoch: Int32 = -1
    end_offset: Int64 = -1


class LeaderIdAndEpoch(Message):
    leader_id: Int32 = -1
    leader_epoch: Int32 = -1


class SnapshotId(Message):
    end_offset: Int64 = -1
    epoch: Int32 = -1


class AbortedTransaction(Message):
    producer_id: Int64 = 0
    first_offset: Int64 = 0


class PartitionData(Message):
    partition_index: Int32 = 0
    error_code: Int16 = 0
    high_watermark: Int64 = 0
    last_stable_offset: Int64 = -1
    log_start_offset: Annotated[Int64, versions("5+")] = -1
    diverging_epoch: Annotated[EpochEndOffset, versions("12+"), tag(0)] = EpochEndOffset()
    current_leader: Annotated[LeaderIdAndEpoch, versions("12+"), tag(1)] = LeaderIdAndEpoch()
    snapshot_id: Annotated[SnapshotId, versions("12+"), tag(2)] = SnapshotId()
    aborted_transactions: list[AbortedTransaction] | None = []
    preferred_read_replica: Annotated[Int32, versions("11+")] = -1
    records: Records = None


class FetchableTopicResponse(Message):
    topic: Annotated[str, versions("0-12")] = ""
    topic_id: Annotated[Uuid, versions("13+")] = ZERO_UUID
    partitions: list[PartitionData] = []


class NodeEndpoint(Message):
    node_id: Int32 = 0
    host: str = ""
    port: Int32 = 0
    rack: str | None = None


@schema("4-18", flexible="12+", key=1)
class FetchResponse(Message):
    throttle_time_ms: Int32 = 0
    error_code: Annotated[Int16, versions("7+")] = 0
    session_id: Annotated[Int32, versions("7+")] = 0
    responses: list[FetchableTopicResponse] = []
    node_endpoints: Annotated[list[NodeEndpoint], versions("16+"), tag(0)] = []
