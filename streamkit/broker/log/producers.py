"""What a log remembers of each idempotent producer: its epoch and its last five batches (KIP-98, KIP-360).

Five, because a client keeps at most five requests in flight: a retry of any of them must find its original.
A batch is in one of four relations to that memory:

    the same sequences as a remembered batch  → a duplicate: success, with the original's offset
    the next sequence (2^31 - 1 wraps to 0), any sequence of an
      unknown producer, 0 of a higher epoch   → appended
    an older epoch                            → INVALID_PRODUCER_EPOCH
    anything else: a gap, an older duplicate  → OUT_OF_ORDER_SEQUENCE_NUMBER

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
from streamkit.protocol.records.batch import BatchHeader
from streamkit.protocol.records.crc import crc32c

REMEMBERED_BATCHES = 5
MAX_SEQUENCE = 0x7FFFFFFF

SNAPSHOT_VERSION = 1
_FRONT = Struct(">hIi")
_ROW = Struct(">qhiqiqiq")
_OLDER = Struct(">iqiq")
_CRC_END = 6
_NO_COORDINATOR_EPOCH = -1
_NO_TRANSACTION = -1


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
    """A producer in its current epoch; `batches` are its last ones, oldest first, never empty."""

    epoch: int
    batches: tuple[RememberedBatch, ...]

    @property
    def last(self) -> RememberedBatch:
        return self.batches[-1]


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
    expected = (entry.last.last_sequence + 1) & MAX_SEQUENCE
    return ErrorCode.NONE if header.base_sequence == expected else ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def remember(
    entry: ProducerEntry | None, header: BatchHeader, last_offset: int, timestamp: int
) -> ProducerEntry:
    """The entry after this batch was appended with that last offset and newest timestamp."""
    batch = RememberedBatch(header.last_sequence, last_offset, header.last_offset_delta, timestamp)
    if entry is None or entry.epoch != header.producer_epoch:
        return ProducerEntry(header.producer_epoch, (batch,))
    return ProducerEntry(entry.epoch, (*entry.batches[1 - REMEMBERED_BATCHES :], batch))


def expired(table: Table, now_ms: int, expiration_ms: int) -> list[int]:
    """Producers that have been silent for that long."""
    return [pid for pid, entry in table.items() if now_ms - entry.last.timestamp >= expiration_ms]


def encode_snapshot(table: Table) -> bytes:
    rows = bytearray(_FRONT.size)
    older = bytearray()
    for producer_id, entry in table.items():
        last = entry.last
        rows += _ROW.pack(
            producer_id, entry.epoch, last.last_sequence, last.last_offset, last.offset_delta,
            last.timestamp, _NO_COORDINATOR_EPOCH, _NO_TRANSACTION,
        )  # fmt: skip
        older.append(len(entry.batches) - 1)
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
        producer_id, epoch, *last, _, _ = _ROW.unpack_from(data, _FRONT.size + row * _ROW.size)
        if last[0] >= 0:  # a producer of which only a marker is known has no batch
            table[producer_id] = ProducerEntry(
                epoch, (*(next(older) if older else ()), RememberedBatch(*last))
            )
    return table


def _older_batches(data: bytes, pos: int) -> Iterator[tuple[RememberedBatch, ...]]:
    while pos < len(data):
        count = data[pos]
        pos += 1
        yield tuple(RememberedBatch(*_OLDER.unpack_from(data, pos + i * _OLDER.size)) for i in range(count))
        pos += count * _OLDER.size
