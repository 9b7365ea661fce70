"""ShareGroupDescribe: members and assignments of share groups (KIP-932)."""

from __future__ import annotations

from streamkit.protocol.schema import ZERO_UUID, Int16, Int32, Message, Uuid, schema


@schema("1", flexible="0+", key=77)
class ShareGroupDescribeRequest(Message):
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
    rack_id: str | None = None
    member_epoch: Int32 = 0
    client_id: str = ""
    client_host: str = ""
    subscribed_topic_names: list[str] = []
    assignment: Assignment = Assignment()


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


@schema("1", flexible="0+", key=77)
class ShareGroupDescribeResponse(Message):
    throttle_time_ms: Int32 = 0
    groups: list[DescribedGroup] = []
