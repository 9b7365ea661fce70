"""CreateTopics: by partition count or by explicit assignment; -1 takes the broker's default (KIP-464)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import ZERO_UUID, Int8, Int16, Int32, Message, Uuid, schema, tag, versions


class CreatableReplicaAssignment(Message):
    partition_index: Int32 = 0
    broker_ids: list[Int32] = []


class CreatableTopicConfig(Message):
    name: str = ""
    value: str | None = ""


class CreatableTopic(Message):
    name: str = ""
    num_partitions: Int32 = 0
    replication_factor: Int16 = 0
    assignments: list[CreatableReplicaAssignment] = []
    configs: list[CreatableTopicConfig] = []


@schema("2-7", flexible="5+", key=19)
class CreateTopicsRequest(Message):
    topics: list[CreatableTopic] = []
    timeout_ms: Int32 = 60000
    validate_only: bool = False


class CreatableTopicConfigs(Message):
    name: str = ""
    value: str | None = ""
    read_only: bool = False
    config_source: Int8 = -1
    is_sensitive: bool = False


class CreatableTopicResult(Message):
    name: str = ""
    topic_id: Annotated[Uuid, versions("7+")] = ZERO_UUID
    error_code: Int16 = 0
    error_message: str | None = ""
    topic_config_error_code: Annotated[Int16, versions("5+"), tag(0)] = 0
    num_partitions: Annotated[Int32, versions("5+")] = -1
    replication_factor: Annotated[Int16, versions("5+")] = -1
    configs: Annotated[list[CreatableTopicConfigs] | None, versions("5+")] = []


@schema("2-7", flexible="5+", key=19)
class CreateTopicsResponse(Message):
    throttle_time_ms: Int32 = 0
    topics: list[CreatableTopicResult] = []
