"""InitializeShareGroupState: a share-partition's state begins at an offset (KIP-932)."""

from __future__ import annotations

from streamkit.protocol.schema import ZERO_UUID, Int16, Int32, Int64, Message, Uuid, schema


class PartitionData(Message):
    partition: Int32 = 0
    state_epoch: Int32 = 0
    start_offset: Int64 = 0


class InitializeStateData(Message):
    topic_id: Uuid = ZERO_UUID
    partitions: list[PartitionData] = []


@schema("0", flexible="0+", key=83)
class InitializeShareGroupStateRequest(Message):
    group_id: str = ""
    topics: list[InitializeStateData] = []


class PartitionResult(Message):
    partition: Int32 = 0
    error_code: Int16 = 0
    error_message: str | None = None


class InitializeStateResult(Message):
    topic_id: Uuid = ZERO_UUID
    partitions: list[PartitionResult] = []


@schema("0", flexible="0+", key=83)
class InitializeShareGroupStateResponse(Message):
    results: list[InitializeStateResult] = []
