"""WriteShareGroupState: a share-partition's leader persists what changed (KIP-932)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import ZERO_UUID, Int8, Int16, Int32, Int64, Message, Uuid, schema, versions


class StateBatch(Message):
    first_offset: Int64 = 0
    last_offset: Int64 = 0
    delivery_state: Int8 = 0
    delivery_count: Int16 = 0


class PartitionData(Message):
    partition: Int32 = 0
    state_epoch: Int32 = 0
    leader_epoch: Int32 = 0
    start_offset: Int64 = 0
    delivery_complete_count: Annotated[Int32, versions("1+")] = -1
    state_batches: list[StateBatch] = []


class WriteStateData(Message):
    topic_id: Uuid = ZERO_UUID
    partitions: list[PartitionData] = []


@schema("0-1", flexible="0+", key=85)
class WriteShareGroupStateRequest(Message):
    group_id: str = ""
    topics: list[WriteStateData] = []


class PartitionResult(Message):
    partition: Int32 = 0
    error_code: Int16 = 0
    error_message: str | None = None


class WriteStateResult(Message):
    topic_id: Uuid = ZERO_UUID
    partitions: list[PartitionResult] = []


@schema("0-1", flexible="0+", key=85)
class WriteShareGroupStateResponse(Message):
    results: list[WriteStateResult] = []
