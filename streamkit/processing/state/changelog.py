"""Changes of a store as records of its changelog topic, and back.

A changelog record is the store's key and value; a null value (a tombstone) deletes, so a delete survives a
restore. Records at or past the committed position belong to work that was never committed: they are not
applied. But the next commit's position lies beyond them, so it must first put the committed value of each of
their keys behind them (a *repair*): otherwise the restore after that would take them for committed.

Rows that a former owner of the task appends later still, behind newer ones, are *outdone* in the same way by
the commit that finds them (`worker.changelog_ends`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from streamkit.processing.record import RawRecord
from streamkit.processing.state.store import Change, Store
from streamkit.processing.tasks.fuse import SinkRecord


def to_records(changes: Iterable[Change], partition: int, now_ms: int) -> list[SinkRecord]:
    """Records for the store's partition of the changelog."""
    return [(value, key, now_ms, None, partition) for key, value in changes]


def apply(store: Store, records: Sequence[RawRecord], end: int) -> int:
    """Replay records below offset `end` that the store lacks; returns how many were applied."""
    position = store.position
    if records and (records[0].offset() < position or records[-1].offset() >= end):
        records = [record for record in records if position <= record.offset() < end]
    if not records:
        return 0
    changes = [(key, record.value()) for record in records if (key := record.key()) is not None]
    store.write(changes, records[-1].offset() + 1)
    return len(changes)


def orphans(records: Sequence[RawRecord], end: int) -> set[bytes]:
    """The keys of records at or past the committed position `end`."""
    if not records or records[-1].offset() < end:
        return set()
    return {key for record in records if record.offset() >= end and (key := record.key()) is not None}


def repairs(store: Store, keys: Collection[bytes], changes: Iterable[Change]) -> list[Change]:
    """The committed value of each key that `changes` does not write anyway."""
    if not keys:
        return []
    written = {key for key, _ in changes}
    return [(key, store.get(key)) for key in keys if key not in written]


def outdoing(newest: Mapping[bytes, bytes | None], store: Store, changes: Iterable[Change]) -> list[Change]:
    """What is committed, with `changes`, of each key whose newest row is something else."""
    changed = dict(changes)
    committed = {key: changed[key] if key in changed else store.get(key) for key in newest}
    return [(key, value) for key, value in committed.items() if value != newest[key]]
