"""DeleteShareGroupState: forget the state of share-partitions (KIP-932)."""

from __future__ import annotations

from streamkit.protocol.schema import ZERO_UUID, Int16, Int32, Message, Uuid, schema


class PartitionData(Message):
    partition: Int32 = 0


class DeleteStateData(Message):
    topic_id: Uuid = ZERO_UUID
    partitions: list[PartitionData] = []


@schema("0", flexible="0+", key=86)
class DeleteShareGroupStateRequest(Message):
    group_id: str = ""
    topics: list[DeleteStateData] = []


class PartitionResult(Message):
    partition: Int32 = 0
    error_code: Int16 = 0
    error_message: str | None = None


class DeleteStateResult(Message):
    topic_id: Uuid = ZERO_UUID
    partitions: list[PartitionResult] = []


@schema("0", flexible="0+", key=86)
class DeleteShareGroupStateResponse(Message):
    results: list[DeleteStateResult] = []
