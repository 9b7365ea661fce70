"""The records of `__consumer_offsets`, in Kafka's own schemas: a group's generations and its offsets.

Keys of the schemas 0 and 1 name an offset, 2 a classic group; those of consumer groups are in
`consumer.records`. Values are written as Kafka 4 writes them: version 3, the highest that every broker reads,
and version 1 for an offset with a retention of its own. All versions are read. Records of schemas that we do
not serve (other group protocols) are passed over.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

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
    Int32,
    Int64,
    Message,
    Uuid,
    nullable,
    schema,
    tag,
    versions,
)

OFFSET_COMMIT_KEYS = (0, 1)
GROUP_METADATA_KEY = 2
VALUE_VERSION = 3
EXPIRING_OFFSET_VERSION = 1


@schema("0", key=1)
class OffsetCommitKey(Message):
    group: str = ""
    topic: str = ""
    partition: Int32 = 0


@schema("0-4", flexible="4+", key=1)
class OffsetCommitValue(Message):
    offset: Int64 = 0
    leader_epoch: Annotated[Int32, versions("3+")] = -1
    metadata: str = ""
    commit_timestamp: Int64 = 0
    expire_timestamp: Annotated[Int64, versions("1")] = -1
    topic_id: Annotated[Uuid, versions("4+"), tag(0)] = ZERO_UUID


@schema("0", key=2)
class GroupMetadataKey(Message):
    group: str = ""


class MemberMetadata(Message):
    member_id: str = ""
    group_instance_id: Annotated[str | None, versions("3+"), nullable("3+")] = None
    client_id: str = ""
    client_host: str = ""
    rebalance_timeout: Annotated[Int32, versions("1+")] = -1
    session_timeout: Int32 = 0
    subscription: bytes = b""
    assignment: bytes = b""


@schema("0-4", flexible="4+", key=2)
class GroupMetadataValue(Message):
    protocol_type: str = ""
    generation: Int32 = 0
    protocol: str | None = None
    leader: str | None = None
    current_state_timestamp: Annotated[Int64, versions("2+")] = -1
    members: list[MemberMetadata] = []


class OffsetChange(NamedTuple):
    """An offset was committed, or deleted (None)."""

    group: str
    topic: str
    partition: int
    value: OffsetCommitValue | None


class GroupChange(NamedTuple):
    """A generation of a group was written, or the group deleted (None)."""

    group: str
    value: GroupMetadataValue | None


def offset_record(group: str, topic: str, partition: int, value: OffsetCommitValue) -> CoordinatorRecord:
    version = VALUE_VERSION if value.expire_timestamp == -1 else EXPIRING_OFFSET_VERSION
    return CoordinatorRecord(_offset_key(group, topic, partition), framed_value(value, version))


def offset_tombstone(group: str, topic: str, partition: int) -> CoordinatorRecord:
    return CoordinatorRecord(_offset_key(group, topic, partition), None)


def group_record(group: str, value: GroupMetadataValue) -> CoordinatorRecord:
    return CoordinatorRecord(_group_key(group), framed_value(value, VALUE_VERSION))


def group_tombstone(group: str) -> CoordinatorRecord:
    return CoordinatorRecord(_group_key(group), None)


def parse(key: bytes, value: bytes | None) -> OffsetChange | GroupChange | None:
    """What a record says; None for a schema that is not of this file. Raises MalformedMessageError."""
    kind = schema_of(key)
    if kind in OFFSET_COMMIT_KEYS:
        offset = unframed_key(OffsetCommitKey, key)
        content = None if value is None else unframed_value(OffsetCommitValue, value)
        return OffsetChange(offset.group, offset.topic, offset.partition, content)
    if kind == GROUP_METADATA_KEY:
        group = unframed_key(GroupMetadataKey, key).group
        return GroupChange(group, None if value is None else unframed_value(GroupMetadataValue, value))
    return None


def _offset_key(group: str, topic: str, partition: int) -> bytes:
    return framed_key(OffsetCommitKey(group=group, topic=topic, partition=partition))


def _group_key(group: str) -> bytes:
    return framed_key(GroupMetadataKey(group=group))
