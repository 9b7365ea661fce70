"""OffsetCommit: store the positions of a group. Version 10 names topics by id (KIP-848)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import ZERO_UUID, Int16, Int32, Int64, Message, Uuid, schema, versions


class OffsetCommitRequestPartition(Message):
    partition_index: Int32 = 0
    committed_offset: Int64 = 0
    committed_leader_epoch: Annotated[Int32, versions("6+")] = -1
    committed_metadata: str | None = ""


class OffsetCommitRequestTopic(Message):
    name: Annotated[str, versions("0-9")] = ""
    topic_id: Annotated[Uuid, versions("10+")] = ZERO_UUID
    partitions: list[OffsetCommitRequestPartition] = []


@schema("2-10", flexible="8+", key=8)
class OffsetCommitRequest(Message):
    group_id: str = ""
    generation_id_or_member_epoch: Int32 = -1
    member_id: str = ""
    group_instance_id: Annotated[str | None, versions("7+")] = None
    retention_time_ms: Annotated[Int64, versions("2-4")] = -1
    topics: list[OffsetCommitRequestTopic] = []


class OffsetCommitResponsePartition(Message):
    partition_index: Int32 = 0
    error_code: Int16 = 0


class OffsetCommitResponseTopic(Message):
    name: Annotated[str, versions("0-9")] = ""
    topic_id: Annotated[Uuid, versions("10+")] = ZERO_UUID
    partitions: list[OffsetCommitResponsePartition] = []


@schema("2-10", flexible="8+", key=8)
class OffsetCommitResponse(Message):
    throttle_time_ms: Annotated[Int32, versions("3+")] = 0
    topics: list[OffsetCommitResponseTopic] = []
