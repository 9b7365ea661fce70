"""FetchSnapshot: bytes of a snapshot of the cluster's metadata (KIP-630)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import (
    ZERO_UUID,
    Int16,
    Int32,
    Int64,
    Message,
    Records,
    UInt16,
    Uuid,
    schema,
    tag,
    versions,
)


class FetchSnapshotRequestSnapshotId(Message):
    end_offset: Int64 = 0
    epoch: Int32 = 0


class FetchSnapshotRequestPartitionSnapshot(Message):
    partition: Int32 = 0
    current_leader_epoch: Int32 = 0
    snapshot_id: FetchSnapshotRequestSnapshotId = FetchSnapshotRequestSnapshotId()
    position: Int64 = 0
    replica_directory_id: Annotated[Uuid, versions("1+"), tag(0)] = ZERO_UUID


class FetchSnapshotRequestTopicSnapshot(Message):
    name: str = ""
    partitions: list[FetchSnapshotRequestPartitionSnapshot] = []


@schema("0-1", flexible="0+", key=59)
class FetchSnapshotRequest(Message):
    cluster_id: Annotated[str | None, tag(0)] = None
    replica_id: Int32 = -1
    max_bytes: Int32 = 0x7FFFFFFF
    topics: list[FetchSnapshotRequestTopicSnapshot] = []


class FetchSnapshotResponseSnapshotId(Message):
    end_offset: Int64 = 0
    epoch: Int32 = 0


class LeaderIdAndEpoch(Message):
    leader_id: Int32 = 0
    leader_epoch: Int32 = 0


class FetchSnapshotResponsePartitionSnapshot(Message):
    index: Int32 = 0
    error_code: Int16 = 0
    snapshot_id: FetchSnapshotResponseSnapshotId = FetchSnapshotResponseSnapshotId()
    current_leader: Annotated[LeaderIdAndEpoch, tag(0)] = LeaderIdAndEpoch()
    size: Int64 = 0
    position: Int64 = 0
    unaligned_records: Records = None


class FetchSnapshotResponseTopicSnapshot(Message):
    name: str = ""
    partitions: list[FetchSnapshotResponsePartitionSnapshot] = []


class NodeEndpoint(Message):
    node_id: Int32 = 0
    host: str = ""
    port: UInt16 = 0


@schema("0-1", flexible="0+", key=59)
class FetchSnapshotResponse(Message):
    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    topics: list[FetchSnapshotResponseTopicSnapshot] = []
    node_endpoints: Annotated[list[NodeEndpoint], versions("1+"), tag(0)] = []
