"""ReadShareGroupState: a share-partition's leader loads the state that was persisted (KIP-932)."""

from __future__ import annotations

from streamkit.protocol.schema import ZERO_UUID, Int8, Int16, Int32, Int64, Message, Uuid, schema


class PartitionData(Message):
    partition: Int32 = 0
    leader_epoch: Int32 = 0


class ReadStateData(Message):
    topic_id: Uuid = ZERO_UUID
    partitions: list[PartitionData] = []


@schema("0", flexible="0+", key=84)
class ReadShareGroupStateRequest(Message):
    group_id: str = ""
    topics: list[ReadStateData] = []


class StateBatch(Message):
    first_offset: Int64 = 0
    last_offset: Int64 = 0
    delivery_state: Int8 = 0
    delivery_count: Int16 = 0


class PartitionResult(Message):
    partition: Int32 = 0
    error_code: Int16 = 0
    error_message: str | None = None
    state_epoch: Int32 = 0
    start_offset: Int64 = 0
    state_batches: list[StateBatch] = []


class ReadStateResult(Message):
    topic_id: Uuid = ZERO_UUID
    partitions: list[PartitionResult] = []


@schema("0", flexible="0+", key=84)
class ReadShareGroupStateResponse(Message):
    results: list[ReadStateResult] = []
