"""The records of consumer groups, in Kafka's schemas, and what each of them changes.

A group is the sum of six kinds of records: its epoch (3), what each member asks for (5), the epoch of the
target assignment (6) and each member's part of it (7), what each member has (8), and the topics that each
regular expression means (16). A *change* is one such record as a value: decisions write changes, replaying
reads them back. A change whose value is None deletes what it names.
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
from streamkit.protocol.schema import (
    ZERO_UUID,
    Int8,
    Int32,
    Int64,
    Message,
    Uuid,
    nullable,
    schema,
    tag,
)

VALUE_VERSION = 0


class GroupKey(Message):
    group_id: str = ""


class MemberKey(Message):
    group_id: str = ""
    member_id: str = ""


@schema("0", key=3)
class GroupMetadataKey(GroupKey):
    pass


@schema("0", flexible="0+", key=3)
class GroupMetadataValue(Message):
    epoch: Int32 = 0
    metadata_hash: Annotated[Int64, tag(0)] = 0


@schema("0", key=5)
class MemberMetadataKey(MemberKey):
    pass


class ClassicProtocol(Message):
    name: str = ""
    metadata: bytes = b""


class ClassicMemberMetadata(Message):
    session_timeout_ms: Int32 = 0
    supported_protocols: list[ClassicProtocol] = []


@schema("0", flexible="0+", key=5)
class MemberMetadataValue(Message):
    instance_id: str | None = None
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    subscribed_topic_names: list[str] = []
    subscribed_topic_regex: str | None = None
    rebalance_timeout_ms: Int32 = -1
    server_assignor: str | None = None
    classic_member_metadata: Annotated[ClassicMemberMetadata | None, nullable("0+"), tag(0)] = None


@schema("0", key=6)
class TargetAssignmentMetadataKey(GroupKey):
    pass


@schema("0", flexible="0+", key=6)
class TargetAssignmentMetadataValue(Message):
    assignment_epoch: Int32 = 0
    assignment_timestamp: Annotated[Int64, tag(0)] = 0


@schema("0", key=7)
class TargetAssignmentMemberKey(MemberKey):
    pass


class TargetTopicPartitions(Message):
    topic_id: Uuid = ZERO_UUID
    partitions: list[Int32] = []


@schema("0", flexible="0+", key=7)
class TargetAssignmentMemberValue(Message):
    topic_partitions: list[TargetTopicPartitions] = []


@schema("0", key=8)
class CurrentAssignmentKey(MemberKey):
    pass


class CurrentTopicPartitions(Message):
    topic_id: Uuid = ZERO_UUID
    partitions: list[Int32] = []
    assignment_epochs: Annotated[list[Int32] | None, nullable("0+"), tag(0)] = None


@schema("0", flexible="0+", key=8)
class CurrentAssignmentValue(Message):
    member_epoch: Int32 = 0
    previous_member_epoch: Int32 = 0
    state: Int8 = 0
    assigned_partitions: list[CurrentTopicPartitions] = []
    partitions_pending_revocation: list[CurrentTopicPartitions] = []


@schema("0", key=16)
class RegularExpressionKey(Message):
    group_id: str = ""
    regular_expression: str = ""


@schema("0", flexible="0+", key=16)
class RegularExpressionValue(Message):
    topics: list[str] = []
    version: Int64 = 0
    timestamp: Int64 = 0


class EpochChange(NamedTuple):
    """The group began an epoch, or was deleted."""

    group_id: str
    value: GroupMetadataValue | None


class MemberChange(NamedTuple):
    """A member said what it wants, or is gone."""

    group_id: str
    member_id: str
    value: MemberMetadataValue | None


class TargetEpochChange(NamedTuple):
    """The target assignment is that of an epoch, or deleted."""

    group_id: str
    value: TargetAssignmentMetadataValue | None


class TargetChange(NamedTuple):
    """A member's part of the target assignment."""

    group_id: str
    member_id: str
    value: TargetAssignmentMemberValue | None


class CurrentChange(NamedTuple):
    """What a member has, and in which epoch it is."""

    group_id: str
    member_id: str
    value: CurrentAssignmentValue | None


class RegexChange(NamedTuple):
    """The topics that a regular expression means, or nobody uses it any more."""

    group_id: str
    regex: str
    value: RegularExpressionValue | None


Change: TypeAlias = (
    EpochChange | MemberChange | TargetEpochChange | TargetChange | CurrentChange | RegexChange
)


def record_of(change: Change) -> CoordinatorRecord:
    """The record that says this."""
    value = None if change.value is None else framed_value(change.value, VALUE_VERSION)
    return CoordinatorRecord(framed_key(_key_of(change)), value)


def _key_of(change: Change) -> Message:
    match change:
        case EpochChange(group_id):
            return GroupMetadataKey(group_id=group_id)
        case TargetEpochChange(group_id):
            return TargetAssignmentMetadataKey(group_id=group_id)
        case RegexChange(group_id, regex):
            return RegularExpressionKey(group_id=group_id, regular_expression=regex)
        case MemberChange(group_id, member_id):
            return MemberMetadataKey(group_id=group_id, member_id=member_id)
        case TargetChange(group_id, member_id):
            return TargetAssignmentMemberKey(group_id=group_id, member_id=member_id)
        case CurrentChange(group_id, member_id):
            return CurrentAssignmentKey(group_id=group_id, member_id=member_id)


def parse(key: bytes, value: bytes | None) -> Change | None:
    """What a record says; None for a schema that is not of this file. Raises MalformedMessageError."""
    kind = schema_of(key)
    if kind == GroupMetadataKey.KEY:
        content = None if value is None else unframed_value(GroupMetadataValue, value)
        return EpochChange(unframed_key(GroupMetadataKey, key).group_id, content)
    if kind == TargetAssignmentMetadataKey.KEY:
        target = None if value is None else unframed_value(TargetAssignmentMetadataValue, value)
        return TargetEpochChange(unframed_key(TargetAssignmentMetadataKey, key).group_id, target)
    if kind == RegularExpressionKey.KEY:
        regex = unframed_key(RegularExpressionKey, key)
        topics = None if value is None else unframed_value(RegularExpressionValue, value)
        return RegexChange(regex.group_id, regex.regular_expression, topics)
    return _parse_member(kind, key, value)


def _parse_member(kind: int, key: bytes, value: bytes | None) -> Change | None:
    if kind == MemberMetadataKey.KEY:
        member = unframed_key(MemberMetadataKey, key)
        wants = None if value is None else unframed_value(MemberMetadataValue, value)
        return MemberChange(member.group_id, member.member_id, wants)
    if kind == TargetAssignmentMemberKey.KEY:
        target = unframed_key(TargetAssignmentMemberKey, key)
        part = None if value is None else unframed_value(TargetAssignmentMemberValue, value)
        return TargetChange(target.group_id, target.member_id, part)
    if kind == CurrentAssignmentKey.KEY:
        current = unframed_key(CurrentAssignmentKey, key)
        has = None if value is None else unframed_value(CurrentAssignmentValue, value)
        return CurrentChange(current.group_id, current.member_id, has)
    return None
