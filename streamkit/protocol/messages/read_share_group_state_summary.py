"""ReadShareGroupStateSummary: where share-partitions begin, without their in-flight records (KIP-932)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import ZERO_UUID, Int16, Int32, Int64, Message, Uuid, schema, versions


class PartitionData(Message):
    partition: Int32 = 0
    leader_epoch: Int32 = 0


class ReadStateSummaryData(Message):
    topic_id: Uuid = ZERO_UUID
    partitions: list[PartitionData] = []


@schema("0-1", flexible="0+", key=87)
class ReadShareGroupStateSummaryRequest(Message):
    group_id: str = ""
    topics: list[ReadStateSummaryData] = []


class PartitionResult(Message):
    partition: Int32 = 0
    error_code: Int16 = 0
    error_message: str | None = None
    state_epoch: Int32 = 0
    leader_epoch: Int32 = 0
    start_offset: Int64 = 0
    delivery_complete_count: Annotated[Int32, versions("1+")] = -1


class ReadStateSummaryResult(Message):
    topic_id: Uuid = ZERO_UUID
    partitions: list[PartitionResult] = []


@schema("0-1", flexible="0+", key=87)
class ReadShareGroupStateSummaryResponse(Message):
    results: list[ReadStateSummaryResult] = []
