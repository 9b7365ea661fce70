"""OffsetFetch: the committed positions of a group; of several groups from version 8 (KIP-709)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import (
    ZERO_UUID,
    Int16,
    Int32,
    Int64,
    Message,
    Uuid,
    nullable,
    schema,
    versions,
)


class OffsetFetchRequestTopic(Message):
    name: str = ""
    partition_indexes: list[Int32] = []


class OffsetFetchRequestTopics(Message):
    name: Annotated[str, versions("8-9")] = ""
    topic_id: Annotated[Uuid, versions("10+")] = ZERO_UUID
    partition_indexes: list[Int32] = []


class OffsetFetchRequestGroup(Message):
    group_id: str = ""
    member_id: Annotated[str | None, versions("9+")] = None
    member_epoch: Annotated[Int32, versions("9+")] = -1
    topics: list[OffsetFetchRequestTopics] | None = []


@schema("1-10", flexible="6+", key=9)
class OffsetFetchRequest(Message):
    group_id: Annotated[str, versions("0-7")] = ""
    topics: Annotated[list[OffsetFetchRequestTopic] | None, versions("0-7"), nullable("2-7")] = []
    groups: Annotated[list[OffsetFetchRequestGroup], versions("8+")] = []
    require_stable: Annotated[bool, versions("7+")] = False


class OffsetFetchResponsePartition(Message):
    partition_index: Int32 = 0
    committed_offset: Int64 = 0
    committed_leader_epoch: Annotated[Int32, versions("5-7")] = -1
    metadata: str | None = ""
    error_code: Int16 = 0


class OffsetFetchResponseTopic(Message):
    name: str = ""
    partitions: list[OffsetFetchResponsePartition] = []


class OffsetFetchResponsePartitions(Message):
    partition_index: Int32 = 0
    committed_offset: Int64 = 0
    committed_leader_epoch: Int32 = -1
    metadata: str | None = ""
    error_code: Int16 = 0


class OffsetFetchResponseTopics(Message):
    name: Annotated[str, versions("8-9")] = ""
    topic_id: Annotated[Uuid, versions("10+")] = ZERO_UUID
    partitions: list[OffsetFetchResponsePartitions] = []


class OffsetFetchResponseGroup(Message):
    group_id: str = ""
    topics: list[OffsetFetchResponseTopics] = []
    error_code: Int16 = 0


@schema("1-10", flexible="6+", key=9)
class OffsetFetchResponse(Message):
    throttle_time_ms: Annotated[Int32, versions("3+")] = 0
    topics: Annotated[list[OffsetFetchResponseTopic], versions("0-7")] = []
    error_code: Annotated[Int16, versions("2-7")] = 0
    groups: Annotated[list[OffsetFetchResponseGroup], versions("8+")] = []
