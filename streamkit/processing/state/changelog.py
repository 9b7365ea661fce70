"""Changes of a store as records of its changelog topic, and back.

A changelog record is the store's key and value; a null value (a tombstone) deletes, so a delete survives a
restore. Records at or past the committed position belong to work that was never committed: they are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable

from streamkit.processing.fuse import SinkRecord
from streamkit.processing.record import RawRecord
from streamkit.processing.state.store import Change, Store


def to_records(changes: Iterable[Change], partition: int, now_ms: int) -> list[SinkRecord]:
    """Records for the store's partition of the changelog."""
    return [(value, key, now_ms, None, partition) for key, value in changes]


def apply(store: Store, records: Iterable[RawRecord], end: int) -> int:
    """Replay records below offset `end` that the store lacks; returns how many were applied."""
    changes: list[Change] = []
    position = store.position
    for record in records:
        offset, key = record.offset(), record.key()
        if position <= offset < end and key is not None:
            changes.append((key, record.value()))
            position = offset + 1
    if changes:
        store.write(changes, position)
    return len(changes)
