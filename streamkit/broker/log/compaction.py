"""What log compaction keeps: of each key the newest record, and what replicas, readers and producers rely on.

Two passes over the same batches. The first notes the *dirty* ones, those that were never compacted, in
`NewestRecords`: which record is the newest of its key. The second goes from the log's start to where the
first ended, and `Compaction.keep` says what remains of each batch:

    a value          as long as no newer record has its key
    a tombstone      likewise, and only until its delete horizon
    no key           never
    aborted          never: nobody under read_committed has seen it, and the others were told of it
    a marker         as long as its transaction has data in the log, then until its delete horizon

A batch that goes to the log again keeps its base and last offset, its producer's fields, its codec and its
records' offsets and timestamps. The delete horizon (KIP-534) begins at the cleaning that first sees a
tombstone: `delete.retention.ms` later everybody who reads from the start has seen it. It stands in the
batch as attribute bit 6 and in the place of the base timestamp, which the records then count from.

Two kinds of batches stay as empty headers: those that a producer's retry may still repeat (their sequences
are its state), and the last one of each new segment, so that segment's file says itself how far it reaches.

The generators here do a bounded piece of work between two `yield`s.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator, Iterable
from hashlib import blake2b
from typing import TypeVar

import msgspec

from streamkit.broker.log.producers import Table
from streamkit.broker.log.transactions import AbortedTransaction
from streamkit.protocol.records.batch import (
    CODEC_MASK,
    DELETE_HORIZON_BIT,
    HEADER_SIZE,
    NO_PRODUCER_ID,
    BatchHeader,
    Buffer,
    build_batch,
)
from streamkit.protocol.records.compression import Codec, compress
from streamkit.protocol.records.record import RawRecord, raw_records, rebase_record, uncompressed_records

T = TypeVar("T")
Work = Generator[None, None, T]

RECORDS_PER_SLICE = 500
LONGEST_KEY_BYTES = 32
"""A longer key is noted by a digest, which is one byte longer than any key noted as it is."""
ENTRY_BYTES = 200
"""Of memory for one key: key, number, and their share of the table."""
SHARDS = 256
"""Tables that a key may be in: growing a small one takes no time that anybody notices."""

_SUPERSEDED, _VALUE, _TOMBSTONE = 0, 1, 2


class NewestRecords:
    """Of each key in the dirty batches its newest record, in bounded memory.

    Records are numbered in the order they were noted; `_fate` says of each number whether it is still the
    newest of its key. Batches are noted until the buffer is full: `end_offset` is behind the last that was.
    """

    def __init__(self, start_offset: int, buffer_bytes: int) -> None:
        self.start_offset = start_offset
        self.end_offset = start_offset
        self._buffer_bytes = buffer_bytes
        self._shards: list[dict[bytes, int]] = [{} for _ in range(SHARDS)]
        self._fate = bytearray()
        self._keys = 0

    def has_room(self, header: BatchHeader) -> bool:
        """Whether one more batch fits; the first always does."""
        noted = len(self._fate)
        size = (self._keys + header.count) * ENTRY_BYTES + noted + header.count
        return not noted or size <= self._buffer_bytes

    def is_dirty(self, header: BatchHeader) -> bool:
        return self.start_offset <= header.last_offset < self.end_offset

    def skip(self, header: BatchHeader) -> None:
        """A marker, or a batch whose records are nobody's newest."""
        if not header.is_control:
            self._fate += bytes(header.count)
        self.end_offset = header.next_offset

    def note(self, header: BatchHeader, batch: Buffer) -> Work[None]:
        """Count in the records of a batch; `CorruptBatchError` if they do not parse."""
        fate, shards = self._fate, self._shards
        number = len(fate)
        data = _records_in(header, batch)
        for record in raw_records(header, data):
            key = record[3]
            if key is None:
                fate.append(_SUPERSEDED)
            else:
                if len(key) > LONGEST_KEY_BYTES:
                    key = _digest(key)
                newest = shards[hash(key) % SHARDS]
                previous = newest.get(key)
                if previous is None:
                    self._keys += 1
                else:
                    fate[previous] = _SUPERSEDED
                newest[key] = number
                fate.append(_TOMBSTONE if record[4] else _VALUE)
            number += 1
            if not number % RECORDS_PER_SLICE:
                yield
        self.end_offset = header.next_offset

    def has(self, key: bytes) -> bool:
        """Whether a dirty record has this key."""
        if len(key) > LONGEST_KEY_BYTES:
            key = _digest(key)
        return key in self._shards[hash(key) % SHARDS]

    def is_newest(self, number: int) -> bool:
        return self._fate[number] != _SUPERSEDED

    def newest_among(self, first: int, count: int) -> tuple[int, int]:
        """How many of `count` records from number `first` on are the newest: (values, tombstones)."""
        end = first + count
        return self._fate.count(_VALUE, first, end), self._fate.count(_TOMBSTONE, first, end)


class AbortedRanges:
    """Which batches belong to transactions that were aborted, by the rows of the log's index of them."""

    def __init__(self, rows: Iterable[AbortedTransaction]) -> None:
        self._by_marker = {row.last_offset: row for row in rows}
        self._by_producer: dict[int, list[AbortedTransaction]] = {}
        for row in sorted(self._by_marker.values(), key=_marker_offset):
            self._by_producer.setdefault(row.producer_id, []).append(row)

    def holds(self, header: BatchHeader) -> bool:
        """Whether this batch of data was aborted."""
        if not header.is_transactional or header.is_control:
            return False
        rows = self._by_producer.get(header.producer_id, [])
        number = bisect_right(rows, header.last_offset, key=_marker_offset)
        return number < len(rows) and rows[number].first_offset <= header.base_offset

    def row_of(self, header: BatchHeader) -> AbortedTransaction | None:
        """The row of the transaction that this marker aborted."""
        return self._by_marker.get(header.last_offset)


class CompactionRules(msgspec.Struct, frozen=True, kw_only=True):
    now_ms: int
    delete_retention_ms: int

    @property
    def new_horizon_ms(self) -> int:
        return self.now_ms + self.delete_retention_ms


class Compaction:
    """The second pass: shown every batch from the log's start on, in order, it says what remains of each.

    `aborted_rows` are those of the transactions whose markers remain and whose data this pass has still
    seen: a reader that took that data from an old segment is yet to be told.
    """

    def __init__(
        self, newest: NewestRecords, aborted: AbortedRanges, producers: Table, rules: CompactionRules
    ) -> None:
        self._newest = newest
        self._aborted = aborted
        self._rules = rules
        self._producers = producers
        self._with_data: set[int] = set()
        self._number = 0
        self.aborted_rows: list[AbortedTransaction] = []

    def keep(self, header: BatchHeader, batch: Buffer, *, is_last: bool) -> Work[Buffer | None]:
        """The batch that goes to the new segment, of which it may be the last; None if nothing of it does."""
        if header.base_offset >= self._newest.end_offset:
            self._keep_row(header)
            return batch
        if header.is_control:
            kept = self._marker(header, batch)
        else:
            kept = yield from self._data(header, batch)
        if kept is None and (is_last or self._is_remembered(header)):
            return empty_batch(header)
        return kept

    def _is_remembered(self, header: BatchHeader) -> bool:
        """Whether it is among the last batches of its producer."""
        entry = self._producers.get(header.producer_id)
        last_offset = header.last_offset
        return entry is not None and any(batch.last_offset == last_offset for batch in entry.batches)

    def _is_all_there_is(self, header: BatchHeader) -> bool:
        """Whether nothing is known of this marker's producer but its epoch, which the marker says."""
        entry = self._producers.get(header.producer_id)
        return entry is not None and not entry.batches and entry.epoch == header.producer_epoch

    # -- markers

    def _marker(self, header: BatchHeader, batch: Buffer) -> Buffer | None:
        if header.producer_id == NO_PRODUCER_ID or not header.count:
            return batch if header.count else None
        if header.producer_id in self._with_data:
            self._with_data.discard(header.producer_id)
            self._keep_row(header)
            return batch
        if self._is_all_there_is(header):
            return batch
        if not header.has_delete_horizon:
            data = _records_in(header, batch)
            return self._rebuilt(header, data, list(raw_records(header, data)), starts_horizon=True)
        return None if self._is_past_horizon(header) else batch

    def _keep_row(self, header: BatchHeader) -> None:
        row = self._aborted.row_of(header) if header.is_control else None
        if row is not None:
            self.aborted_rows.append(row)

    # -- data

    def _data(self, header: BatchHeader, batch: Buffer) -> Work[Buffer | None]:
        if header.is_transactional:
            self._with_data.add(header.producer_id)
        is_dirty = self._newest.is_dirty(header)
        first = self._number
        if is_dirty:
            self._number += header.count
        if self._aborted.holds(header) or not header.count:
            return None
        if is_dirty:
            values, tombstones = self._newest.newest_among(first, header.count)
            if not values + tombstones:
                return None
            if values == header.count:
                return batch
        data = _records_in(header, batch)
        kept: list[RawRecord] = []
        has_tombstone = False
        drops_tombstones = header.has_delete_horizon and self._is_past_horizon(header)
        for number, record in enumerate(raw_records(header, data), start=first):
            if not (number + 1) % RECORDS_PER_SLICE:
                yield
            if not (self._newest.is_newest(number) if is_dirty else self._survives_dirty(record)):
                continue
            if record[4]:
                if drops_tombstones:
                    continue
                has_tombstone = True
            kept.append(record)
        starts_horizon = has_tombstone and not header.has_delete_horizon
        if not kept:
            return None
        if len(kept) == header.count and not starts_horizon:
            return batch
        yield
        return self._rebuilt(header, data, kept, starts_horizon=starts_horizon)

    def _survives_dirty(self, record: RawRecord) -> bool:
        return record[3] is not None and not self._newest.has(record[3])

    def _is_past_horizon(self, header: BatchHeader) -> bool:
        """Where there is one it stands in the place of the base timestamp."""
        return self._rules.now_ms >= header.base_timestamp

    def _rebuilt(
        self, header: BatchHeader, data: bytes, kept: list[RawRecord], *, starts_horizon: bool
    ) -> bytearray:
        attributes, base_timestamp = header.attributes, header.base_timestamp
        if starts_horizon:
            attributes |= DELETE_HORIZON_BIT
            base_timestamp = self._rules.new_horizon_ms
            shift = header.base_timestamp - base_timestamp
            records = b"".join(rebase_record(data, record, shift) for record in kept)
        else:
            records = b"".join(data[record[0] : record[5]] for record in kept)
        newest = header.base_timestamp + max(record[1] for record in kept)
        changed = msgspec.structs.replace(
            header, attributes=attributes, base_timestamp=base_timestamp, count=len(kept),
            max_timestamp=header.max_timestamp if header.is_log_append_time else newest,
        )  # fmt: skip
        return build_batch(changed, compress(Codec(header.codec), records) if header.codec else records)


def empty_batch(header: BatchHeader) -> bytearray:
    """The batch without records: offsets, timestamps and the producer's fields remain."""
    emptied = msgspec.structs.replace(header, count=0, attributes=header.attributes & ~CODEC_MASK)
    return build_batch(emptied, b"")


def _records_in(header: BatchHeader, batch: Buffer) -> bytes:
    return uncompressed_records(header, memoryview(batch)[HEADER_SIZE : header.size])


def _digest(key: bytes) -> bytes:
    return blake2b(key, digest_size=LONGEST_KEY_BYTES + 1).digest()


def _marker_offset(row: AbortedTransaction) -> int:
    return row.last_offset
