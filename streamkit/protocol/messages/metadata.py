"""Metadata: brokers, topics, leaders. A null list of topics asks for all (version 0: an empty one)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import ZERO_UUID, Int16, Int32, Message, Uuid, nullable, schema, versions


class MetadataRequestTopic(Message):
    topic_id: Annotated[Uuid, versions("10+")] = ZERO_UUID
    name: Annotated[str | None, nullable("10+")] = ""


@schema("0-13", flexible="9+", key=3)
class MetadataRequest(Message):
    topics: Annotated[list[MetadataRequestTopic] | None, nullable("1+")] = []
    allow_auto_topic_creation: Annotated[bool, versions("4+")] = True
    include_cluster_authorized_operations: Annotated[bool, versions("8-10")] = False
    include_topic_authorized_operations: Annotated[bool, versions("8+")] = False


class MetadataResponseBroker(Message):
    node_id: Int32 = 0
    host: str = ""
    port: Int32 = 0
    rack: Annotated[str | None, versions("1+")] = None


class MetadataResponsePartition(Message):
    error_code: Int16 = 0
    partition_index: Int32 = 0
    leader_id: Int32 = 0
    leader_epoch: Annotated[Int32, versions("7+")] = -1
    replica_nodes: list[Int32] = []
    isr_nodes: list[Int32] = []
    offline_replicas: Annotated[list[Int32], versions("5+")] = []


class MetadataResponseTopic(Message):
    error_code: Int16 = 0
    name: Annotated[str | None, nullable("12+")] = ""
    topic_id: Annotated[Uuid, versions("10+")] = ZERO_UUID
    is_internal: Annotated[bool, versions("1+")] = False
    partitions: list[MetadataResponsePartition] = []
    topic_authorized_operations: Annotated[Int32, versions("8+")] = -2147483648


@schema("0-13", flexible="9+", key=3)
class MetadataResponse(Message):
    throttle_time_ms: Annotated[Int32, versions("3+")] = 0
    brokers: list[MetadataResponseBroker] = []
    cluster_id: Annotated[str | None, versions("2+")] = None
    controller_id: Annotated[Int32, versions("1+")] = -1
    topics: list[MetadataResponseTopic] = []
    cluster_authorized_operations: Annotated[Int32, versions("8-10")] = -2147483648
    error_code: Annotated[Int16, versions("13+")] = 0
