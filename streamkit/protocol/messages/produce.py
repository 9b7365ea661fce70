"""Produce: append record batches to partitions. Version 13 names topics by id (KIP-516)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import (
    ZERO_UUID,
    Int16,
    Int32,
    Int64,
    Message,
    Records,
    Uuid,
    schema,
    tag,
    versions,
)


class PartitionProduceData(Message):
    index: Int32 = 0
    records: Records = None


class TopicProduceData(Message):
    name: Annotated[str, versions("0-12")] = ""
    topic_id: Annotated[Uuid, versions("13+")] = ZERO_UUID
    partition_data: list[PartitionProduceData] = []


@schema("3-13", flexible="9+", key=0)
class ProduceRequest(Message):
    transactional_id: str | None = None
    acks: Int16 = 0
    timeout_ms: Int32 = 0
    topic_data: list[TopicProduceData] = []


class BatchIndexAndErrorMessage(Message):
    batch_index: Int32 = 0
    batch_index_error_message: str | None = None


class LeaderIdAndEpoch(Message):
    leader_id: Int32 = -1
    leader_epoch: Int32 = -1


class PartitionProduceResponse(Message):
    index: Int32 = 0
    error_code: Int16 = 0
    base_offset: Int64 = 0
    log_append_time_ms: Int64 = -1
    log_start_offset: Annotated[Int64, versions("5+")] = -1
    record_errors: Annotated[list[BatchIndexAndErrorMessage], versions("8+")] = []
    error_message: Annotated[str | None, versions("8+")] = None
    current_leader: Annotated[LeaderIdAndEpoch, versions("10+"), tag(0)] = LeaderIdAndEpoch()


class TopicProduceResponse(Message):
    name: Annotated[str, versions("0-12")] = ""
    topic_id: Annotated[Uuid, versions("13+")] = ZERO_UUID
    partition_responses: list[PartitionProduceResponse] = []


class NodeEndpoint(Message):
    node_id: Int32 = 0
    host: str = ""
    port: Int32 = 0
    rack: str | None = None


@schema("3-13", flexible="9+", key=0)
class ProduceResponse(Message):
    responses: list[TopicProduceResponse] = []
    throttle_time_ms: Int32 = 0
    node_endpoints: Annotated[list[NodeEndpoint], versions("10+"), tag(0)] = []
