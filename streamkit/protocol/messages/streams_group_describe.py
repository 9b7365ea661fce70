"""StreamsGroupDescribe: topology, members and tasks of streams groups (KIP-1071)."""

from __future__ import annotations

from streamkit.protocol.schema import Int16, Int32, Int64, Message, UInt16, schema


@schema("0", flexible="0+", key=89)
class StreamsGroupDescribeRequest(Message):
    group_ids: list[str] = []
    include_authorized_operations: bool = False


class Endpoint(Message):
    host: str = ""
    port: UInt16 = 0


class TaskOffset(Message):
    subtopology_id: str = ""
    partition: Int32 = 0
    offset: Int64 = 0


class Assignment(Message):
    active_tasks: list[TaskIds] = []
    standby_tasks: list[TaskIds] = []
    warmup_tasks: list[TaskIds] = []


class TaskIds(Message):
    subtopology_id: str = ""
    partitions: list[Int32] = []


class KeyValue(Message):
    key: str = ""
    value: str = ""


class TopicInfo(Message):
    name: str = ""
    partitions: Int32 = 0
    replication_factor: Int16 = 0
    topic_configs: list[KeyValue] = []


class Subtopology(Message):
    subtopology_id: str = ""
    source_topics: list[str] = []
    repartition_sink_topics: list[str] = []
    state_changelog_topics: list[TopicInfo] = []
    repartition_source_topics: list[TopicInfo] = []


class Topology(Message):
    epoch: Int32 = 0
    subtopologies: list[Subtopology] | None = None


class Member(Message):
    member_id: str = ""
    member_epoch: Int32 = 0
    instance_id: str | None = None
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    topology_epoch: Int32 = 0
    process_id: str = ""
    user_endpoint: Endpoint | None = None
    client_tags: list[KeyValue] = []
    task_offsets: list[TaskOffset] = []
    task_end_offsets: list[TaskOffset] = []
    assignment: Assignment = Assignment()
    target_assignment: Assignment = Assignment()
    is_classic: bool = False


class DescribedGroup(Message):
    error_code: Int16 = 0
    error_message: str | None = None
    group_id: str = ""
    group_state: str = ""
    group_epoch: Int32 = 0
    assignment_epoch: Int32 = 0
    topology: Topology | None = None
    members: list[Member] = []
    authorized_operations: Int32 = -2147483648


@schema("0", flexible="0+", key=89)
class StreamsGroupDescribeResponse(Message):
    throttle_time_ms: Int32 = 0
    groups: list[DescribedGroup] = []
