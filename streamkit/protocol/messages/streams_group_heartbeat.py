"""StreamsGroupHeartbeat: a Kafka Streams process tells its topology and tasks, learns its own (KIP-1071)."""

from __future__ import annotations

from streamkit.protocol.schema import Int8, Int16, Int32, Int64, Message, UInt16, schema


class KeyValue(Message):
    key: str = ""
    value: str = ""


class TopicInfo(Message):
    name: str = ""
    partitions: Int32 = 0
    replication_factor: Int16 = 0
    topic_configs: list[KeyValue] = []


class StreamsGroupHeartbeatRequestEndpoint(Message):
    host: str = ""
    port: UInt16 = 0


class TaskOffset(Message):
    subtopology_id: str = ""
    partition: Int32 = 0
    offset: Int64 = 0


class StreamsGroupHeartbeatRequestTaskIds(Message):
    subtopology_id: str = ""
    partitions: list[Int32] = []


class CopartitionGroup(Message):
    source_topics: list[Int16] = []
    source_topic_regex: list[Int16] = []
    repartition_source_topics: list[Int16] = []


class Subtopology(Message):
    subtopology_id: str = ""
    source_topics: list[str] = []
    source_topic_regex: list[str] = []
    state_changelog_topics: list[TopicInfo] = []
    repartition_sink_topics: list[str] = []
    repartition_source_topics: list[TopicInfo] = []
    copartition_groups: list[CopartitionGroup] = []


class Topology(Message):
    epoch: Int32 = 0
    subtopologies: list[Subtopology] = []


@schema("0", flexible="0+", key=88)
class StreamsGroupHeartbeatRequest(Message):
    group_id: str = ""
    member_id: str = ""
    member_epoch: Int32 = 0
    endpoint_information_epoch: Int32 = 0
    instance_id: str | None = None
    rack_id: str | None = None
    rebalance_timeout_ms: Int32 = -1
    topology: Topology | None = None
    active_tasks: list[StreamsGroupHeartbeatRequestTaskIds] | None = None
    standby_tasks: list[StreamsGroupHeartbeatRequestTaskIds] | None = None
    warmup_tasks: list[StreamsGroupHeartbeatRequestTaskIds] | None = None
    process_id: str | None = None
    user_endpoint: StreamsGroupHeartbeatRequestEndpoint | None = None
    client_tags: list[KeyValue] | None = None
    task_offsets: list[TaskOffset] | None = None
    task_end_offsets: list[TaskOffset] | None = None
    shutdown_application: bool = False


class Status(Message):
    status_code: Int8 = 0
    status_detail: str = ""


class TopicPartition(Message):
    topic: str = ""
    partitions: list[Int32] = []


class StreamsGroupHeartbeatResponseTaskIds(Message):
    subtopology_id: str = ""
    partitions: list[Int32] = []


class StreamsGroupHeartbeatResponseEndpoint(Message):
    host: str = ""
    port: UInt16 = 0


class EndpointToPartitions(Message):
    user_endpoint: StreamsGroupHeartbeatResponseEndpoint = StreamsGroupHeartbeatResponseEndpoint()
    active_partitions: list[TopicPartition] = []
    standby_partitions: list[TopicPartition] = []


@schema("0", flexible="0+", key=88)
class StreamsGroupHeartbeatResponse(Message):
    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    error_message: str | None = None
    member_id: str = ""
    member_epoch: Int32 = 0
    heartbeat_interval_ms: Int32 = 0
    acceptable_recovery_lag: Int32 = 0
    task_offset_interval_ms: Int32 = 0
    status: list[Status] | None = []
    active_tasks: list[StreamsGroupHeartbeatResponseTaskIds] | None = None
    standby_tasks: list[StreamsGroupHeartbeatResponseTaskIds] | None = None
    warmup_tasks: list[StreamsGroupHeartbeatResponseTaskIds] | None = None
    endpoint_information_epoch: Int32 = 0
    partitions_by_user_endpoint: list[EndpointToPartitions] | None = None
