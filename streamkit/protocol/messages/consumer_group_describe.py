"""ConsumerGroupDescribe: members and assignments of consumer groups (KIP-848)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import ZERO_UUID, Int8, Int16, Int32, Message, Uuid, schema, versions


@schema("0-1", flexible="0+", key=69)
class ConsumerGroupDescribeRequest(Message):
    group_ids: list[str] = []
    include_authorized_operations: bool = False


class TopicPartitions(Message):
    topic_id: Uuid = ZERO_UUID
    topic_name: str = ""
    partitions: list[Int32] = []


class Assignment(Message):
    topic_partitions: list[TopicPartitions] = []


class Member(Message):
    member_id: str = ""
    instance_id: str | None = None
    rack_id: str | None = None
    member_epoch: Int32 = 0
    client_id: str = ""
    client_host: str = ""
    subscribed_topic_names: list[str] = []
    subscribed_topic_regex: str | None = None
    assignment: Assignment = Assignment()
    target_assignment: Assignment = Assignment()
    member_type: Annotated[Int8, versions("1+")] = -1


class DescribedGroup(Message):
    error_code: Int16 = 0
    error_message: str | None = None
    group_id: str = ""
    group_state: str = ""
    group_epoch: Int32 = 0
    assignment_epoch: Int32 = 0
    assignor_name: str = ""
    members: list[Member] = []
    authorized_operations: Int32 = -2147483648


@schema("0-1", flexible="0+", key=69)
class ConsumerGroupDescribeResponse(Message):
    throttle_time_ms: Int32 = 0
    groups: list[DescribedGroup] = []
