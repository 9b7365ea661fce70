"""DescribeLogDirs: what lies in a broker's log directories, and how large it is (KIP-113)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import Int16, Int32, Int64, Message, schema, versions


class DescribableLogDirTopic(Message):
    topic: str = ""
    partitions: list[Int32] = []


@schema("1-5", flexible="2+", key=35)
class DescribeLogDirsRequest(Message):
    topics: list[DescribableLogDirTopic] | None = []


class DescribeLogDirsPartition(Message):
    partition_index: Int32 = 0
    partition_size: Int64 = 0
    offset_lag: Int64 = 0
    is_future_key: bool = False


class DescribeLogDirsTopic(Message):
    name: str = ""
    partitions: list[DescribeLogDirsPartition] = []


class DescribeLogDirsResult(Message):
    error_code: Int16 = 0
    log_dir: str = ""
    topics: list[DescribeLogDirsTopic] = []
    total_bytes: Annotated[Int64, versions("4+")] = -1
    usable_bytes: Annotated[Int64, versions("4+")] = -1
    is_cordoned: Annotated[bool, versions("5+")] = False


@schema("1-5", flexible="2+", key=35)
class DescribeLogDirsResponse(Message):
    throttle_time_ms: Int32 = 0
    error_code: Annotated[Int16, versions("3+")] = 0
    results: list[DescribeLogDirsResult] = []
