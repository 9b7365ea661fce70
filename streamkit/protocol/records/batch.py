"""The record batch, version 2: a fixed header of 61 bytes, then records that a broker need not open.

    0  base offset       i64  | patched by the leader
    8  batch length      i32  | bytes after this field
    12 leader epoch      i32  | patched by the leader
    16 magic             i8     2
    17 CRC-32C           u32    of everything from the attributes to the end
    21 attributes        i16    bits 0-2 codec, 3 timestamp type, 4 transactional, 5 control, 6 delete horizon
    23 last offset delta i32
    27 base timestamp    i64
    35 max timestamp     i64
    43 producer id       i64
    51 producer epoch    i16
    53 base sequence     i32
    57 record count      i32
    61 records

Offset and leader epoch stand outside the checksum, so a leader assigns them in place and never recomputes it.
Source: the protocol guide, "Record Batch"; KIP-98.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

import msgspec

from streamkit.errors import StreamkitError
from streamkit.protocol.records.crc import crc32c

Buffer = bytes | bytearray | memoryview

HEADER_SIZE = 61
LENGTH_END = 12
"""Bytes up to and including the length field: what the length does not count."""
MAGIC = 2
NO_TIMESTAMP = -1
NO_PRODUCER_ID = -1
NO_PRODUCER_EPOCH = -1
NO_SEQUENCE = -1
NO_LEADER_EPOCH = -1

CODEC_MASK = 0x07
LOG_APPEND_TIME_BIT = 0x08
TRANSACTIONAL_BIT = 0x10
CONTROL_BIT = 0x20
DELETE_HORIZON_BIT = 0x40

HEADER = Struct(">qiibIhiqqqhii")
assert HEADER.size == HEADER_SIZE

_OFFSET = Struct(">q")
_OFFSET_AND_LENGTH = Struct(">qi")
_EPOCH = Struct(">i")
_CRC = Struct(">I")
_ATTRIBUTES = Struct(">h")
_MAX_TIMESTAMP = Struct(">q")
_CRC_AT, _EPOCH_AT, _MAX_TIMESTAMP_AT = 17, 12, 35
ATTRIBUTES_AT = 21
"""The checksum is of what begins there."""


class CorruptBatchError(StreamkitError):
    """Bytes that claim to be a record batch and are not a valid one."""


class BatchHeader(msgspec.Struct, frozen=True, gc=False):
    """The header's fields in wire order (positional: it is built straight from `struct.unpack`)."""

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    count: int

    @property
    def size(self) -> int:
        """Bytes of the whole batch, header included."""
        return self.length + LENGTH_END

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1

    @property
    def codec(self) -> int:
        return self.attributes & CODEC_MASK

    @property
    def is_log_append_time(self) -> bool:
        return bool(self.attributes & LOG_APPEND_TIME_BIT)

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & TRANSACTIONAL_BIT)

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & CONTROL_BIT)

    @property
    def has_delete_horizon(self) -> bool:
        """Whether `base_timestamp` is when the batch's tombstones, or the marker, may go (KIP-534)."""
        return bool(self.attributes & DELETE_HORIZON_BIT)

    @property
    def newest_timestamp(self) -> int:
        """Of the records in it: one that compaction emptied has none."""
        return self.max_timestamp if self.count else NO_TIMESTAMP

    @property
    def last_sequence(self) -> int:
        """Sequence of the last record; sequences wrap from 2^31 - 1 to 0."""
        if self.base_sequence == NO_SEQUENCE:
            return NO_SEQUENCE
        return (self.base_sequence + self.last_offset_delta) & 0x7FFFFFFF


def parse_header(buf: Buffer, pos: int = 0) -> BatchHeader:
    """The header at `pos`; `struct.error` if fewer than 61 bytes are there. Nothing is judged."""
    return BatchHeader(*HEADER.unpack_from(buf, pos))


def batch_size(buf: Buffer, pos: int = 0) -> int:
    """The size that the batch at `pos` claims for itself, header included."""
    return int(_OFFSET_AND_LENGTH.unpack_from(buf, pos)[1]) + LENGTH_END


def check_batch(buf: Buffer, pos: int = 0) -> BatchHeader:
    """The header of the whole batch at `pos`, after length, magic and CRC held; else `CorruptBatchError`."""
    available = len(buf) - pos
    if available < HEADER_SIZE:
        raise CorruptBatchError(f"{available} bytes are too few for a record batch")
    header = BatchHeader(*HEADER.unpack_from(buf, pos))
    size = header.length + LENGTH_END
    if not HEADER_SIZE <= size <= available:
        raise CorruptBatchError(f"a record batch claims {size} bytes, {available} are there")
    if header.magic != MAGIC:
        raise CorruptBatchError(
            f"a record batch of version {header.magic}; only version {MAGIC} is supported"
        )
    view = buf if type(buf) is memoryview else memoryview(buf)
    if crc32c(view[pos + ATTRIBUTES_AT : pos + size]) != header.crc:
        raise CorruptBatchError(f"the checksum of the record batch at offset {header.base_offset} is wrong")
    return header


def batches(buf: Buffer) -> Iterator[tuple[BatchHeader, memoryview]]:
    """Each whole batch in `buf`, unchecked; a partial one at the end, as in a Fetch response, is left out."""
    view = memoryview(buf)
    pos, end = 0, len(view)
    while end - pos >= HEADER_SIZE:
        header = BatchHeader(*HEADER.unpack_from(view, pos))
        size = header.length + LENGTH_END
        if size < HEADER_SIZE:
            raise CorruptBatchError(f"a record batch claims {size} bytes")
        if size > end - pos:
            return
        yield header, view[pos : pos + size]
        pos += size


def patch(buf: bytearray | memoryview, base_offset: int, leader_epoch: int, pos: int = 0) -> None:
    """Assign offset and leader epoch in place; the checksum stays right."""
    _OFFSET.pack_into(buf, pos, base_offset)
    _EPOCH.pack_into(buf, pos + _EPOCH_AT, leader_epoch)


def stamp_log_append_time(buf: bytearray | memoryview, now_ms: int) -> None:
    """Turn one batch into LogAppendTime: attribute bit 3, the max timestamp, and a new checksum."""
    (attributes,) = _ATTRIBUTES.unpack_from(buf, ATTRIBUTES_AT)
    _ATTRIBUTES.pack_into(buf, ATTRIBUTES_AT, attributes | LOG_APPEND_TIME_BIT)
    _MAX_TIMESTAMP.pack_into(buf, _MAX_TIMESTAMP_AT, now_ms)
    _CRC.pack_into(buf, _CRC_AT, crc32c(memoryview(buf)[ATTRIBUTES_AT:]))


def replace_records(buf: Buffer, records: bytes, codec: int) -> bytearray:
    """The same batch around another encoding of its records: codec bits, length and checksum follow."""
    header = parse_header(buf)
    attributes = (header.attributes & ~CODEC_MASK) | codec
    return build_batch(msgspec.structs.replace(header, attributes=attributes), records)


def build_batch(header: BatchHeader, records: Buffer) -> bytearray:
    """A batch with these header fields around `records`; length, magic and checksum are computed."""
    batch = bytearray(HEADER_SIZE + len(records))
    HEADER.pack_into(
        batch, 0, header.base_offset, len(batch) - LENGTH_END, header.leader_epoch, MAGIC, 0,
        header.attributes, header.last_offset_delta, header.base_timestamp, header.max_timestamp,
        header.producer_id, header.producer_epoch, header.base_sequence, header.count,
    )  # fmt: skip
    batch[HEADER_SIZE:] = records
    _CRC.pack_into(batch, _CRC_AT, crc32c(memoryview(batch)[ATTRIBUTES_AT:]))
    return batch
