"""DescribeShareGroupOffsets: where the share-partitions of groups begin (KIP-932)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import ZERO_UUID, Int16, Int32, Int64, Message, Uuid, schema, versions


class DescribeShareGroupOffsetsRequestTopic(Message):
    topic_name: str = ""
    partitions: list[Int32] = []


class DescribeShareGroupOffsetsRequestGroup(Message):
    group_id: str = ""
    topics: list[DescribeShareGroupOffsetsRequestTopic] | None = []


@schema("0-1", flexible="0+", key=90)
class DescribeShareGroupOffsetsRequest(Message):
    groups: list[DescribeShareGroupOffsetsRequestGroup] = []


class DescribeShareGroupOffsetsResponsePartition(Message):
    partition_index: Int32 = 0
    start_offset: Int64 = 0
    leader_epoch: Int32 = 0
    lag: Annotated[Int64, versions("1+")] = -1
    error_code: Int16 = 0
    error_message: str | None = None


class DescribeShareGroupOffsetsResponseTopic(Message):
    topic_name: str = ""
    topic_id: Uuid = ZERO_UUID
    partitions: list[DescribeShareGroupOffsetsResponsePartition] = []


class DescribeShareGroupOffsetsResponseGroup(Message):
    group_id: str = ""
    topics: list[DescribeShareGroupOffsetsResponseTopic] = []
    error_code: Int16 = 0
    error_message: str | None = None


@schema("0-1", flexible="0+", key=90)
class DescribeShareGroupOffsetsResponse(Message):
    throttle_time_ms: Int32 = 0
    groups: list[DescribeShareGroupOffsetsResponseGroup] = []
