"""ElectLeaders: elect the preferred replicas, or unclean ones (KIP-460)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import Int8, Int16, Int32, Message, schema, versions


class TopicPartitions(Message):
    topic: str = ""
    partitions: list[Int32] = []


@schema("0-2", flexible="2+", key=43)
class ElectLeadersRequest(Message):
    election_type: Annotated[Int8, versions("1+")] = 0
    topic_partitions: list[TopicPartitions] | None = []
    timeout_ms: Int32 = 60000


class PartitionResult(Message):
    partition_id: Int32 = 0
    error_code: Int16 = 0
    error_message: str | None = ""


class ReplicaElectionResult(Message):
    topic: str = ""
    partition_result: list[PartitionResult] = []


@schema("0-2", flexible="2+", key=43)
class ElectLeadersResponse(Message):
    throttle_time_ms: Int32 = 0
    error_code: Annotated[Int16, versions("1+")] = 0
    replica_election_results: list[ReplicaElectionResult] = []
