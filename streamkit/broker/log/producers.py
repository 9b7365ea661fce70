"""What a log remembers of each producer: its epoch, its last five batches, its transaction (KIP-98, KIP-360).

Five, because a client keeps at most five requests in flight: a retry of any of them must find its original.
A batch is in one of four relations to that memory:

    the same sequences as a remembered batch  → a duplicate: success, with the original's offset
    the next sequence (2^31 - 1 wraps to 0), any sequence of an
      unknown producer, 0 of a higher epoch   → appended
    an older epoch                            → INVALID_PRODUCER_EPOCH
    anything else: a gap, an older duplicate  → OUT_OF_ORDER_SEQUENCE_NUMBER

A transaction opens with the first transactional batch and ends with the producer's next marker (a control
batch, written for the transaction coordinator). A marker may carry a higher epoch than the batches before
it: that fences whoever still writes with the old one, and the next batch begins at sequence 0 again.

Entries are immutable; a plan lays its changes over the table and they enter it once the write succeeded.

Snapshots are Kafka's version 1 (one row a producer, with its last batch), then our extension: for each
producer the older remembered batches, so that no duplicate is missed after a restart. Kafka's reader
ignores it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from struct import Struct
from struct import error as StructError

import msgspec

from streamkit.errors import StreamkitError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.records.batch import NO_SEQUENCE, BatchHeader, Buffer
from streamkit.protocol.records.control import TransactionMarker, decode_marker
from streamkit.protocol.records.crc import crc32c
from streamkit.protocol.records.record import decode_records

REMEMBERED_BATCHES = 5
MAX_SEQUENCE = 0x7FFFFFFF

SNAPSHOT_VERSION = 1
_FRONT = Struct(">hIi")
_ROW = Struct(">qhiqiqiq")
_OLDER = Struct(">iqiq")
_CRC_END = 6
_NO_BATCH = (-1, -1, 0)
NO_COORDINATOR_EPOCH = -1
NO_TRANSACTION = -1


class DamagedSnapshotError(StreamkitError):
    """A producer snapshot whose version, size or checksum is wrong."""


class RememberedBatch(msgspec.Struct, frozen=True, gc=False):
    """One appended batch; `offset_delta` is last minus first offset, and so last minus first sequence."""

    last_sequence: int
    last_offset: int
    offset_delta: int
    timestamp: int

    @property
    def base_offset(self) -> int:
        return self.last_offset - self.offset_delta


class ProducerEntry(msgspec.Struct, frozen=True, gc=False):
    """A producer in its current epoch; `batches` are its last ones in that epoch, oldest first.

    `timestamp` is that of its newest batch or marker; `transaction_start` the first offset of its open
    transaction; `coordinator_epoch` that of the last marker.
    """

    epoch: int
    batches: tuple[RememberedBatch, ...]
    timestamp: int
    coordinator_epoch: int = NO_COORDINATOR_EPOCH
    transaction_start: int = NO_TRANSACTION

    @property
    def last_sequence(self) -> int:
        return self.batches[-1].last_sequence if self.batches else NO_SEQUENCE

    def has_open_transaction(self, epoch: int) -> bool:
        return self.transaction_start != NO_TRANSACTION and self.epoch == epoch


Table = Mapping[int, ProducerEntry]


def find_duplicate(entry: ProducerEntry, header: BatchHeader) -> RememberedBatch | None:
    """The remembered batch that `header` repeats."""
    if header.producer_epoch != entry.epoch:
        return None
    last_sequence, delta = header.last_sequence, header.last_offset_delta
    for batch in entry.batches:
        if batch.last_sequence == last_sequence and batch.offset_delta == delta:
            return batch
    return None


def judge(entry: ProducerEntry, header: BatchHeader) -> ErrorCode:
    """Whether a batch that is no duplicate may follow what is remembered."""
    if header.producer_epoch < entry.epoch:
        return ErrorCode.INVALID_PRODUCER_EPOCH
    if header.producer_epoch > entry.epoch:
        return ErrorCode.NONE if header.base_sequence == 0 else ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    expected = (entry.last_sequence + 1) & MAX_SEQUENCE
    return ErrorCode.NONE if header.base_sequence == expected else ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def judge_marker(entry: ProducerEntry, epoch: int, marker: TransactionMarker) -> ErrorCode:
    """Whether a marker of that producer epoch may follow what is remembered."""
    if epoch < entry.epoch:
        return ErrorCode.INVALID_PRODUCER_EPOCH
    if marker.coordinator_epoch < entry.coordinator_epoch:
        return ErrorCode.TRANSACTION_COORDINATOR_FENCED
    return ErrorCode.NONE


def remember(
    entry: ProducerEntry | None, header: BatchHeader, last_offset: int, timestamp: int
) -> ProducerEntry:
    """The entry after this batch was appended with that last offset and newest timestamp.

    A batch of our own coordinators has a producer and no sequence; it is never looked for again.
    """
    epoch, delta = header.producer_epoch, header.last_offset_delta
    batches = entry.batches if entry is not None and entry.epoch == epoch else ()
    if header.base_sequence != NO_SEQUENCE:
        batch = RememberedBatch(header.last_sequence, last_offset, delta, timestamp)
        batches = (*batches[1 - REMEMBERED_BATCHES :], batch)
    coordinator_epoch, start = NO_COORDINATOR_EPOCH, NO_TRANSACTION
    if entry is not None:
        coordinator_epoch, start = entry.coordinator_epoch, entry.transaction_start
    if header.is_transactional and start == NO_TRANSACTION:
        start = last_offset - delta
    return ProducerEntry(epoch, batches, timestamp, coordinator_epoch, start)


def remember_marker(
    entry: ProducerEntry | None, epoch: int, marker: TransactionMarker, timestamp: int
) -> ProducerEntry:
    """The entry after a marker was appended: nothing is open any more."""
    batches = entry.batches if entry is not None and entry.epoch == epoch else ()
    return ProducerEntry(epoch, batches, timestamp, marker.coordinator_epoch)


def marker_in(batch: Buffer) -> TransactionMarker | None:
    """The marker in a control batch; None if there is none (another control record, or compacted away)."""
    for record in decode_records(batch):
        return decode_marker(record.key, record.value)
    return None


def follow(
    entry: ProducerEntry | None, header: BatchHeader, batch: Buffer, last_offset: int, timestamp: int
) -> tuple[ProducerEntry | None, TransactionMarker | None]:
    """The entry after a batch of its producer that is in the log already, and the marker if it is one."""
    if not header.is_control:
        return remember(entry, header, last_offset, timestamp), None
    marker = marker_in(batch)
    if marker is None:
        return entry, None
    return remember_marker(entry, header.producer_epoch, marker, timestamp), marker


def expired(table: Table, now_ms: int, expiration_ms: int) -> list[int]:
    """Producers that have been silent for that long, with nothing open."""
    return [
        pid
        for pid, entry in table.items()
        if now_ms - entry.timestamp >= expiration_ms and entry.transaction_start == NO_TRANSACTION
    ]


def encode_snapshot(table: Table) -> bytes:
    rows = bytearray(_FRONT.size)
    older = bytearray()
    for producer_id, entry in table.items():
        last = entry.batches[-1] if entry.batches else None
        newest = _NO_BATCH if last is None else (last.last_sequence, last.last_offset, last.offset_delta)
        rows += _ROW.pack(
            producer_id, entry.epoch, *newest, entry.timestamp, entry.coordinator_epoch,
            entry.transaction_start,
        )  # fmt: skip
        older.append(max(len(entry.batches) - 1, 0))
        for batch in entry.batches[:-1]:
            older += _OLDER.pack(batch.last_sequence, batch.last_offset, batch.offset_delta, batch.timestamp)
    data = rows + older
    _FRONT.pack_into(data, 0, SNAPSHOT_VERSION, 0, len(table))
    _FRONT.pack_into(data, 0, SNAPSHOT_VERSION, crc32c(memoryview(data)[_CRC_END:]), len(table))
    return bytes(data)


def decode_snapshot(data: bytes) -> dict[int, ProducerEntry]:
    """The table in a snapshot file, ours or Kafka's; `DamagedSnapshotError` if it is not whole."""
    try:
        version, checksum, count = _FRONT.unpack_from(data)
        if version != SNAPSHOT_VERSION:
            raise DamagedSnapshotError(f"it is of version {version}")
        if crc32c(data[_CRC_END:]) != checksum:
            raise DamagedSnapshotError("its checksum is wrong")
        return _decode_table(data, count)
    except StructError as error:
        raise DamagedSnapshotError(f"it is cut short: {error}") from None


def _decode_table(data: bytes, count: int) -> dict[int, ProducerEntry]:
    extension = _FRONT.size + count * _ROW.size
    older = _older_batches(data, extension) if extension < len(data) else None
    table = {}
    for row in range(count):
        producer_id, epoch, sequence, offset, delta, timestamp, coordinator_epoch, start = _ROW.unpack_from(
            data, _FRONT.size + row * _ROW.size
        )
        batches = next(older) if older else ()
        if sequence != NO_SEQUENCE:
            batches = (*batches, RememberedBatch(sequence, offset, delta, timestamp))
        table[producer_id] = ProducerEntry(epoch, batches, timestamp, coordinator_epoch, start)
    return table


def _older_batches(data: bytes, pos: int) -> Iterator[tuple[RememberedBatch, ...]]:
    while pos < len(data):
        count = data[pos]
        pos += 1
        yield tuple(RememberedBatch(*_OLDER.unpack_from(data, pos + i * _OLDER.size)) for i in range(count))
        pos += count * _OLDER.size
