"""The records of share groups, in Kafka's schemas, and what each of them changes.

A group is the sum of six kinds of records: what each member asks for (10), the group's epoch (11), the epoch
of the target assignment (12) and each member's part of it (13), what each member has (14), and how far the
states of the share-partitions have come (15). A *change* is one such record as a value: decisions write
changes, replaying reads them back. A change whose value is None deletes what it names.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple, TypeAlias

from streamkit.broker.coordination.framing import (
    framed_key,
    framed_value,
    schema_of,
    unframed_key,
    unframed_value,
)
from streamkit.broker.coordination.shard import CoordinatorRecord
from streamkit.protocol.schema import ZERO_UUID, Int8, Int32, Int64, Message, Uuid, schema, tag

VALUE_VERSION = 0


class GroupKey(Message):
    group_id: str = ""


class MemberKey(Message):
    group_id: str = ""
    member_id: str = ""


@schema("0", key=10)
class ShareMemberMetadataKey(MemberKey):
    pass


@schema("0", flexible="0+", key=10)
class ShareMemberMetadataValue(Message):
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    subscribed_topic_names: list[str] = []


@schema("0", key=11)
class ShareGroupMetadataKey(GroupKey):
    pass


@schema("0", flexible="0+", key=11)
class ShareGroupMetadataValue(Message):
    epoch: Int32 = 0
    metadata_hash: Int64 = 0


@schema("0", key=12)
class ShareTargetMetadataKey(GroupKey):
    pass


@schema("0", flexible="0+", key=12)
class ShareTargetMetadataValue(Message):
    assignment_epoch: Int32 = 0
    assignment_timestamp: Annotated[Int64, tag(0)] = 0


class TopicPartitions(Message):
    topic_id: Uuid = ZERO_UUID
    partitions: list[Int32] = []


@schema("0", key=13)
class ShareTargetMemberKey(MemberKey):
    pass


@schema("0", flexible="0+", key=13)
class ShareTargetMemberValue(Message):
    topic_partitions: list[TopicPartitions] = []


@schema("0", key=14)
class ShareCurrentAssignmentKey(MemberKey):
    pass


@schema("0", flexible="0+", key=14)
class ShareCurrentAssignmentValue(Message):
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


@schema("0", key=15)
class ShareStatePartitionsKey(GroupKey):
    pass


@schema("0", flexible="0+", key=15)
class ShareStatePartitionsValue(Message):
    initializing_topics: list[TopicPartitionsInfo] = []
    initialized_topics: list[TopicPartitionsInfo] = []
    deleting_topics: list[TopicInfo] = []


class ShareMemberChange(NamedTuple):
    """A member said what it wants, or is gone."""

    group_id: str
    member_id: str
    value: ShareMemberMetadataValue | None


class ShareEpochChange(NamedTuple):
    """The group began an epoch, or was deleted."""

    group_id: str
    value: ShareGroupMetadataValue | None


class ShareTargetEpochChange(NamedTuple):
    """The target assignment is that of an epoch, or deleted."""

    group_id: str
    value: ShareTargetMetadataValue | None


class ShareTargetChange(NamedTuple):
    """A member's part of the target assignment."""

    group_id: str
    member_id: str
    value: ShareTargetMemberValue | None


class ShareCurrentChange(NamedTuple):
    """What a member has, and in which epoch it is."""

    group_id: str
    member_id: str
    value: ShareCurrentAssignmentValue | None


class ShareStatesChange(NamedTuple):
    """How far the states of the group's share-partitions have come."""

    group_id: str
    value: ShareStatePartitionsValue | None


ShareChange: TypeAlias = (
    ShareMemberChange
    | ShareEpochChange
    | ShareTargetEpochChange
    | ShareTargetChange
    | ShareCurrentChange
    | ShareStatesChange
)


def record_of(change: ShareChange) -> CoordinatorRecord:
    """The record that says this."""
    value = None if change.value is None else framed_value(change.value, VALUE_VERSION)
    return CoordinatorRecord(framed_key(_key_of(change)), value)


def _key_of(change: ShareChange) -> Message:
    match change:
        case ShareMemberChange(group_id, member_id):
            return ShareMemberMetadataKey(group_id=group_id, member_id=member_id)
        case ShareEpochChange(group_id):
            return ShareGroupMetadataKey(group_id=group_id)
        case ShareTargetEpochChange(group_id):
            return ShareTargetMetadataKey(group_id=group_id)
        case ShareTargetChange(group_id, member_id):
            return ShareTargetMemberKey(group_id=group_id, member_id=member_id)
        case ShareCurrentChange(group_id, member_id):
            return ShareCurrentAssignmentKey(group_id=group_id, member_id=member_id)
        case ShareStatesChange(group_id):
            return ShareStatePartitionsKey(group_id=group_id)


def parse(key: bytes, value: bytes | None) -> ShareChange | None:
    """What a record says; None for a schema that is not of this file. Raises MalformedMessageError."""
    kind = schema_of(key)
    if kind == ShareGroupMetadataKey.KEY:
        epoch = None if value is None else unframed_value(ShareGroupMetadataValue, value)
        return ShareEpochChange(unframed_key(ShareGroupMetadataKey, key).group_id, epoch)
    if kind == ShareTargetMetadataKey.KEY:
        target = None if value is None else unframed_value(ShareTargetMetadataValue, value)
        return ShareTargetEpochChange(unframed_key(ShareTargetMetadataKey, key).group_id, target)
    if kind == ShareStatePartitionsKey.KEY:
        states = None if value is None else unframed_value(ShareStatePartitionsValue, value)
        return ShareStatesChange(unframed_key(ShareStatePartitionsKey, key).group_id, states)
    return _parse_member(kind, key, value)


def _parse_member(kind: int, key: bytes, value: bytes | None) -> ShareChange | None:
    if kind == ShareMemberMetadataKey.KEY:
        member = unframed_key(ShareMemberMetadataKey, key)
        wants = None if value is None else unframed_value(ShareMemberMetadataValue, value)
        return ShareMemberChange(member.group_id, member.member_id, wants)
    if kind == ShareTargetMemberKey.KEY:
        target = unframed_key(ShareTargetMemberKey, key)
        part = None if value is None else unframed_value(ShareTargetMemberValue, value)
        return ShareTargetChange(target.group_id, target.member_id, part)
    if kind == ShareCurrentAssignmentKey.KEY:
        current = unframed_key(ShareCurrentAssignmentKey, key)
        has = None if value is None else unframed_value(ShareCurrentAssignmentValue, value)
        return ShareCurrentChange(current.group_id, current.member_id, has)
    return None
