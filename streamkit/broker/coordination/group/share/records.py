"""The records of share groups, in Kafka's schemas; `modern.records` has the changes that all kinds share.

A group is the sum of six kinds of records: what each member asks for (10), the group's epoch (11), the epoch
of the target assignment (12) and each member's part of it (13), what each member has (14), and how far the
states of the share-partitions have come (15).
"""

from __future__ import annotations

from typing import NamedTuple

from streamkit.broker.coordination.group.modern.partitions import TargetPartitionsValue, TopicPartitions
from streamkit.broker.coordination.group.modern.records import (
    CurrentChange,
    EpochChange,
    GroupKey,
    MemberChange,
    MemberKey,
    Schema,
    Schemas,
    TargetChange,
    TargetEpochChange,
    TargetEpochValue,
)
from streamkit.protocol.schema import ZERO_UUID, Int8, Int32, Int64, Message, Uuid, schema


@schema("0", flexible="0+")
class MemberMetadataValue(Message):
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    subscribed_topic_names: list[str] = []


@schema("0", flexible="0+")
class GroupMetadataValue(Message):
    epoch: Int32 = 0
    metadata_hash: Int64 = 0


@schema("0", flexible="0+")
class CurrentAssignmentValue(Message):
    member_epoch: Int32 = 0
    previous_member_epoch: Int32 = 0
    state: Int8 = 0
    assigned_partitions: list[TopicPartitions] = []


class TopicPartitionsInfo(Message):
    topic_id: Uuid = ZERO_UUID
    topic_name: str = ""
    partitions: list[Int32] = []


class TopicInfo(Message):
    topic_id: Uuid = ZERO_UUID
    topic_name: str = ""


@schema("0", flexible="0+")
class StatePartitionsValue(Message):
    initializing_topics: list[TopicPartitionsInfo] = []
    initialized_topics: list[TopicPartitionsInfo] = []
    deleting_topics: list[TopicInfo] = []


class StatesChange(NamedTuple):
    """How far the states of the group's share-partitions have come."""

    group_id: str
    value: StatePartitionsValue | None


SCHEMAS = Schemas(
    Schema(10, MemberChange, MemberKey, MemberMetadataValue),
    Schema(11, EpochChange, GroupKey, GroupMetadataValue),
    Schema(12, TargetEpochChange, GroupKey, TargetEpochValue),
    Schema(13, TargetChange, MemberKey, TargetPartitionsValue),
    Schema(14, CurrentChange, MemberKey, CurrentAssignmentValue),
    Schema(15, StatesChange, GroupKey, StatePartitionsValue),
)
