"""ShareGroupHeartbeat: a member of a share group stays in it, and learns its assignment (KIP-932)."""

from __future__ import annotations

from streamkit.protocol.schema import ZERO_UUID, Int16, Int32, Message, Uuid, schema


@schema("1", flexible="0+", key=76)
class ShareGroupHeartbeatRequest(Message):
    group_id: str = ""
    member_id: str = ""
    member_epoch: Int32 = 0
    rack_id: str | None = None
    subscribed_topic_names: list[str] | None = None


class TopicPartitions(Message):
    topic_id: Uuid = ZERO_UUID
    partitions: list[Int32] = []


class Assignment(Message):
    topic_partitions: list[TopicPartitions] = []


@schema("1", flexible="0+", key=76)
class ShareGroupHeartbeatResponse(Message):
    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    error_message: str | None = None
    member_id: str | None = None
    member_epoch: Int32 = 0
    heartbeat_interval_ms: Int32 = 0
    assignment: Assignment | None = None
