"""The records of `__share_group_state`, in Kafka's own schemas: snapshots of a share-partition, and updates.

A snapshot is all that is known of a share-partition; an update is laid over the last snapshot and the updates
since. A snapshot without a value says that the share-partition is forgotten.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple, TypeAlias

import msgspec

from streamkit.broker.coordination.framing import (
    framed_key,
    framed_value,
    schema_of,
    unframed_key,
    unframed_value,
)
from streamkit.broker.coordination.shard import CoordinatorRecord
from streamkit.broker.coordination.share.states import (
    NO_EPOCH,
    NO_OFFSET,
    UNKNOWN_COUNT,
    SharePartitionKey,
    StateBatch,
)
from streamkit.protocol.schema import (
    ZERO_UUID,
    Int8,
    Int16,
    Int32,
    Int64,
    Message,
    Uuid,
    schema,
    tag,
)

VALUE_VERSION = 0


class ShareState(msgspec.Struct, frozen=True, kw_only=True):
    """What is persisted of one share-partition.

    Invariants: `batches` are ascending and disjoint, none is below `start_offset`. A start offset of -1 is
    still to be found by whoever leads the partition.
    """

    snapshot_epoch: int = 0
    state_epoch: int = 0
    """Of the share-partition's beginning: raised when the group's offsets are altered."""
    leader_epoch: int = NO_EPOCH
    """Of the partition's leader that read or wrote this last."""
    start_offset: int = NO_OFFSET
    complete_count: int = UNKNOWN_COUNT
    """Offsets from the start offset on whose delivery is over (KIP-1226)."""
    created_ms: int = 0
    written_ms: int = 0
    batches: tuple[StateBatch, ...] = ()


class ShareUpdate(NamedTuple):
    """What changed since the record before; a start offset of -1 did not."""

    leader_epoch: int
    start_offset: int
    complete_count: int
    batches: tuple[StateBatch, ...]


@schema("0", key=0)
class ShareSnapshotKey(Message):
    group_id: str = ""
    topic_id: Uuid = ZERO_UUID
    partition: Int32 = 0


class StateBatchSchema(Message):
    first_offset: Int64 = 0
    last_offset: Int64 = 0
    delivery_state: Int8 = 0
    delivery_count: Int16 = 0


@schema("0", flexible="0+", key=0)
class ShareSnapshotValue(Message):
    snapshot_epoch: Int32 = 0
    state_epoch: Int32 = 0
    leader_epoch: Int32 = 0
    start_offset: Int64 = 0
    delivery_complete_count: Annotated[Int32, tag(0)] = UNKNOWN_COUNT
    create_timestamp: Int64 = 0
    write_timestamp: Int64 = 0
    state_batches: list[StateBatchSchema] = []


@schema("0", key=1)
class ShareUpdateKey(Message):
    group_id: str = ""
    topic_id: Uuid = ZERO_UUID
    partition: Int32 = 0


@schema("0", flexible="0+", key=1)
class ShareUpdateValue(Message):
    snapshot_epoch: Int32 = 0
    leader_epoch: Int32 = 0
    start_offset: Int64 = 0
    delivery_complete_count: Annotated[Int32, tag(0)] = UNKNOWN_COUNT
    state_batches: list[StateBatchSchema] = []


class Snapshot(NamedTuple):
    key: SharePartitionKey
    state: ShareState


class Update(NamedTuple):
    key: SharePartitionKey
    update: ShareUpdate


class Forgotten(NamedTuple):
    key: SharePartitionKey


ShareRecord: TypeAlias = Snapshot | Update | Forgotten


def snapshot_record(key: SharePartitionKey, state: ShareState) -> CoordinatorRecord:
    value = ShareSnapshotValue(
        snapshot_epoch=state.snapshot_epoch,
        state_epoch=state.state_epoch,
        leader_epoch=state.leader_epoch,
        start_offset=state.start_offset,
        delivery_complete_count=state.complete_count,
        create_timestamp=state.created_ms,
        write_timestamp=state.written_ms,
        state_batches=_encoded(state.batches),
    )
    return CoordinatorRecord(_snapshot_key(key), framed_value(value, VALUE_VERSION))


def update_record(key: SharePartitionKey, update: ShareUpdate, *, snapshot_epoch: int) -> CoordinatorRecord:
    value = ShareUpdateValue(
        snapshot_epoch=snapshot_epoch,
        leader_epoch=update.leader_epoch,
        start_offset=update.start_offset,
        delivery_complete_count=update.complete_count,
        state_batches=_encoded(update.batches),
    )
    named = ShareUpdateKey(group_id=key.group_id, topic_id=key.topic_id, partition=key.partition)
    return CoordinatorRecord(framed_key(named), framed_value(value, VALUE_VERSION))


def tombstone(key: SharePartitionKey) -> CoordinatorRecord:
    return CoordinatorRecord(_snapshot_key(key), None)


def parse(key: bytes, value: bytes | None) -> ShareRecord | None:
    """What a record says; None for a schema that we do not know. Raises MalformedMessageError."""
    kind = schema_of(key)
    if kind == ShareSnapshotKey.KEY:
        named = _key_of(unframed_key(ShareSnapshotKey, key))
        return Forgotten(named) if value is None else Snapshot(named, _state(value))
    if kind == ShareUpdateKey.KEY and value is not None:
        return Update(_key_of(unframed_key(ShareUpdateKey, key)), _update(value))
    return None


def snapshot_key(key: bytes) -> SharePartitionKey | None:
    """Whose snapshot a record of this key is, or tells to be forgotten; None for any other record."""
    return _key_of(unframed_key(ShareSnapshotKey, key)) if schema_of(key) == ShareSnapshotKey.KEY else None


def _state(value: bytes) -> ShareState:
    content = unframed_value(ShareSnapshotValue, value)
    return ShareState(
        snapshot_epoch=content.snapshot_epoch,
        state_epoch=content.state_epoch,
        leader_epoch=content.leader_epoch,
        start_offset=content.start_offset,
        complete_count=content.delivery_complete_count,
        created_ms=content.create_timestamp,
        written_ms=content.write_timestamp,
        batches=_decoded(content.state_batches),
    )


def _update(value: bytes) -> ShareUpdate:
    content = unframed_value(ShareUpdateValue, value)
    return ShareUpdate(
        content.leader_epoch,
        content.start_offset,
        content.delivery_complete_count,
        _decoded(content.state_batches),
    )


def _snapshot_key(key: SharePartitionKey) -> bytes:
    named = ShareSnapshotKey(group_id=key.group_id, topic_id=key.topic_id, partition=key.partition)
    return framed_key(named)


def _key_of(key: ShareSnapshotKey | ShareUpdateKey) -> SharePartitionKey:
    return SharePartitionKey(key.group_id, key.topic_id, key.partition)


def _encoded(batches: tuple[StateBatch, ...]) -> list[StateBatchSchema]:
    return [
        StateBatchSchema(
            first_offset=one.first,
            last_offset=one.last,
            delivery_state=one.state,
            delivery_count=one.delivery_count,
        )
        for one in batches
    ]


def _decoded(batches: list[StateBatchSchema]) -> tuple[StateBatch, ...]:
    return tuple(
        StateBatch(one.first_offset, one.last_offset, one.delivery_state, one.delivery_count)
        for one in batches
    )
