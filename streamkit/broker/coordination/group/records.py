"""The records of `__consumer_offsets`, in Kafka's own schemas: a group's generations and its offsets.

A key begins with an int16 that names its schema (0 and 1 an offset, 2 a group); a value begins with an int16,
its version. Values are written as Kafka 4 writes them: version 3, the highest that every broker reads, and
version 1 for an offset with a retention of its own. All versions are read. Records of schemas that we do not
serve (other group protocols) are passed over.
"""

from __future__ import annotations

from struct import Struct
from typing import Annotated, NamedTuple, TypeVar

from streamkit.broker.coordination.shard import CoordinatorRecord
from streamkit.protocol import codec
from streamkit.protocol.errors import MalformedMessageError
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
KEY_VERSION = 0
VALUE_VERSION = 3
EXPIRING_OFFSET_VERSION = 1

_INT16 = Struct(">h")


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


ValueType = TypeVar("ValueType", OffsetCommitValue, GroupMetadataValue)


def offset_record(group: str, topic: str, partition: int, value: OffsetCommitValue) -> CoordinatorRecord:
    version = VALUE_VERSION if value.expire_timestamp == -1 else EXPIRING_OFFSET_VERSION
    return CoordinatorRecord(_offset_key(group, topic, partition), _versioned(value, version))


def offset_tombstone(group: str, topic: str, partition: int) -> CoordinatorRecord:
    return CoordinatorRecord(_offset_key(group, topic, partition), None)


def group_record(group: str, value: GroupMetadataValue) -> CoordinatorRecord:
    return CoordinatorRecord(_group_key(group), _versioned(value, VALUE_VERSION))


def group_tombstone(group: str) -> CoordinatorRecord:
    return CoordinatorRecord(_group_key(group), None)


def parse(key: bytes, value: bytes | None) -> OffsetChange | GroupChange | None:
    """What a record says; None for a schema that we do not serve. Raises MalformedMessageError."""
    kind = _leading_int16(key)
    if kind in OFFSET_COMMIT_KEYS:
        offset = codec.decode(OffsetCommitKey, key[2:], KEY_VERSION)
        content = None if value is None else _unversioned(OffsetCommitValue, value)
        return OffsetChange(offset.group, offset.topic, offset.partition, content)
    if kind == GROUP_METADATA_KEY:
        group = codec.decode(GroupMetadataKey, key[2:], KEY_VERSION).group
        return GroupChange(group, None if value is None else _unversioned(GroupMetadataValue, value))
    return None


def _offset_key(group: str, topic: str, partition: int) -> bytes:
    key = OffsetCommitKey(group=group, topic=topic, partition=partition)
    return _INT16.pack(OffsetCommitKey.KEY) + codec.encode(key, KEY_VERSION)


def _group_key(group: str) -> bytes:
    key = GroupMetadataKey(group=group)
    return _INT16.pack(GroupMetadataKey.KEY) + codec.encode(key, KEY_VERSION)


def _versioned(value: Message, version: int) -> bytes:
    return _INT16.pack(version) + codec.encode(value, version)


def _unversioned(cls: type[ValueType], data: bytes) -> ValueType:
    version = _leading_int16(data)
    if version not in cls.VERSIONS:
        raise MalformedMessageError(f"{cls.__name__} of version {version}")
    return codec.decode(cls, data[2:], version)


def _leading_int16(data: bytes) -> int:
    if len(data) < 2:
        raise MalformedMessageError("a coordinator record without a version")
    return int(_INT16.unpack_from(data)[0])
