"""WriteTxnMarkers: the coordinator ends transactions in the partitions that they wrote to (KIP-98)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import Int8, Int16, Int32, Int64, Message, schema, versions


class WritableTxnMarkerTopic(Message):
    name: str = ""
    partition_indexes: list[Int32] = []


class WritableTxnMarker(Message):
    producer_id: Int64 = 0
    producer_epoch: Int16 = 0
    transaction_result: bool = False
    topics: list[WritableTxnMarkerTopic] = []
    coordinator_epoch: Int32 = 0
    transaction_version: Annotated[Int8, versions("2+")] = 0


@schema("1-2", flexible="1+", key=27)
class WriteTxnMarkersRequest(Message):
    markers: list[WritableTxnMarker] = []


class WritableTxnMarkerPartitionResult(Message):
    partition_index: Int32 = 0
    error_code: Int16 = 0


class WritableTxnMarkerTopicResult(Message):
    name: str = ""
    partitions: list[WritableTxnMarkerPartitionResult] = []


class WritableTxnMarkerResult(Message):
    producer_id: Int64 = 0
    topics: list[WritableTxnMarkerTopicResult] = []


@schema("1-2", flexible="1+", key=27)
class WriteTxnMarkersResponse(Message):
    markers: list[WritableTxnMarkerResult] = []
