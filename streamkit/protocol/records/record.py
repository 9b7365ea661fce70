"""Single records inside a batch: varint lengths, deltas against the batch header.

A broker opens records only for compaction, time look-ups inside one batch, and batches that it wrote itself;
everything else passes as opaque bytes.

    length varint | attributes i8 (unused) | timestamp delta varlong | offset delta varint
    key length varint (-1 null) | key | value length varint (-1 null) | value
    header count varint | { key length varint | key | value length varint (-1 null) | value }

All varints are zigzag. Source: the protocol guide, "Record".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from streamkit.protocol.records.batch import (
    CODEC_MASK,
    CONTROL_BIT,
    HEADER_SIZE,
    NO_LEADER_EPOCH,
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    NO_SEQUENCE,
    NO_TIMESTAMP,
    TRANSACTIONAL_BIT,
    BatchHeader,
    Buffer,
    CorruptBatchError,
    build_batch,
    parse_header,
)
from streamkit.protocol.records.compression import Codec, CompressedDataError, compress, decompress

Header = tuple[str, bytes | None]


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record; `offset` is absolute when decoded and ignored when encoded (a batch numbers its own)."""

    offset: int = 0
    timestamp: int = NO_TIMESTAMP
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[Header, ...] = ()


def encode_batch(
    records: Sequence[Record],
    *,
    base_offset: int = 0,
    codec: Codec = Codec.NONE,
    producer_id: int = NO_PRODUCER_ID,
    producer_epoch: int = NO_PRODUCER_EPOCH,
    base_sequence: int = NO_SEQUENCE,
    leader_epoch: int = NO_LEADER_EPOCH,
    transactional: bool = False,
    control: bool = False,
) -> bytes:
    """One batch of all `records`, offsets counted from `base_offset` in the order given."""
    if not records:
        raise ValueError("a record batch holds at least one record")
    base_timestamp = records[0].timestamp
    encoded = bytearray()
    for delta, record in enumerate(records):
        body = _encode_record(record, delta, record.timestamp - base_timestamp)
        _append_varint(encoded, len(body))
        encoded += body
    attributes = codec | (TRANSACTIONAL_BIT if transactional else 0) | (CONTROL_BIT if control else 0)
    header = BatchHeader(
        base_offset, 0, leader_epoch, 0, 0, attributes, len(records) - 1, base_timestamp,
        max(record.timestamp for record in records), producer_id, producer_epoch, base_sequence, len(records),
    )  # fmt: skip
    return bytes(build_batch(header, compress(codec, encoded) if codec else encoded))


def decode_records(batch: Buffer) -> list[Record]:
    """Every record of one whole batch; `CorruptBatchError` if they do not fill it exactly."""
    header = parse_header(batch)
    return _decode(header, uncompressed_records(header, memoryview(batch)[HEADER_SIZE : header.size]))


def timestamps_and_offsets(batch: Buffer, limit: int) -> Iterator[tuple[int, int]]:
    """Of each record in turn, reading no more of it; `CorruptBatchError` as soon as one makes no sense.

    A batch that decompresses to more than `limit` bytes counts as damaged.
    """
    header = parse_header(batch)
    data = uncompressed_records(header, memoryview(batch)[HEADER_SIZE : header.size], limit)
    pos = 0
    try:
        for _ in range(header.count):
            length, pos = _read_varint(data, pos)
            end = pos + length
            timestamp_delta, pos = _read_varint(data, pos + 1)
            offset_delta, pos = _read_varint(data, pos)
            timestamp = header.base_timestamp + timestamp_delta
            if header.is_log_append_time:
                timestamp = header.max_timestamp
            is_within = 0 <= offset_delta <= header.last_offset_delta and timestamp <= header.max_timestamp
            if pos > end or not is_within:
                raise CorruptBatchError(f"a record at offset {header.base_offset} is not within its batch")
            pos = end
            yield timestamp, header.base_offset + offset_delta
    except IndexError as error:
        raise CorruptBatchError(f"the records at offset {header.base_offset} end early") from error


RawRecord = tuple[int, int, int, bytes | None, bool, int]
"""(start, timestamp delta, where the offset delta begins, key, is it a tombstone, end) in the data."""


def raw_records(header: BatchHeader, data: bytes) -> Iterator[RawRecord]:
    """Where each record lies in the uncompressed `data` of its batch, and its key; nothing else is opened.

    Raises `CorruptBatchError` where that makes no sense.
    """
    pos, size = 0, len(data)
    try:
        for _ in range(header.count):
            start = pos
            length, pos = (data[pos] >> 1, pos + 1) if data[pos] < 0x80 else _read_varint(data, pos)
            end = pos + length
            timestamp_delta, rest = (0, pos + 2) if not data[pos + 1] else _read_varint(data, pos + 1)
            pos = rest + 1
            while data[pos - 1] & 0x80:
                pos += 1
            key, pos = _read_nullable(data, pos)
            if not start < pos < end <= size:
                raise CorruptBatchError(f"a record of the batch at offset {header.base_offset} ends early")
            yield start, timestamp_delta, rest, key, bool(data[pos] & 1), end  # zigzag: odd is negative
            pos = end
    except IndexError as error:
        raise CorruptBatchError(f"the records at offset {header.base_offset} end early") from error
    if pos != len(data):
        raise CorruptBatchError(
            f"{len(data) - pos} bytes are left after the records at offset {header.base_offset}"
        )


def gather_newest(header: BatchHeader, data: bytes, newest: dict[bytes, tuple[int, bytes | None]]) -> None:
    """Note the offset and value of each record in the uncompressed `data` of its batch under its key, the
    newest last; records without a key are passed over.

    Costs a quarter of `decode_records`: lengths below 64 are read in place. Raises `CorruptBatchError`.
    """
    pos, size, base_offset = 0, len(data), header.base_offset
    try:
        for _ in range(header.count):
            length, pos = (data[pos] >> 1, pos + 1) if data[pos] < 0x80 else _read_varint(data, pos)
            end = pos + length
            pos += 2  # attributes, and the first byte of the timestamp delta
            while data[pos - 1] & 0x80:
                pos += 1
            delta, pos = (data[pos] >> 1, pos + 1) if data[pos] < 0x80 else _read_varint(data, pos)
            key: bytes | None
            value: bytes | None
            if (length := data[pos]) & 0x81:  # long, or null
                key, pos = _read_nullable(data, pos)
            else:
                start, pos = pos + 1, pos + 1 + (length >> 1)
                key = data[start:pos]
            if (length := data[pos]) & 0x81:
                value, pos = _read_nullable(data, pos)
            else:
                start, pos = pos + 1, pos + 1 + (length >> 1)
                value = data[start:pos]
            if not pos < end <= size:
                raise CorruptBatchError(f"a record of the batch at offset {base_offset} ends early")
            if key is not None:
                newest.pop(key, None)  # so that it comes last
                newest[key] = base_offset + delta, value
            pos = end
    except IndexError as error:
        raise CorruptBatchError(f"the records at offset {base_offset} end early") from error
    if pos != size:
        raise CorruptBatchError(f"{size - pos} bytes are left after the records at offset {base_offset}")


def key_and_value_places(header: BatchHeader, data: bytes) -> list[tuple[int, int, int]] | None:
    """(offset delta, start, end) of each key and each value in `data`, in turn; None if one of them is null.

    For the records of a batch that `gather_newest` could read.
    """
    places, pos = [], 0
    for _ in range(header.count):
        length, pos = _read_varint(data, pos)
        end = pos + length
        _, pos = _read_varint(data, pos + 1)
        delta, pos = _read_varint(data, pos)
        for _ in ("key", "value"):
            length, pos = _read_varint(data, pos)
            if length < 0:
                return None
            places.append((delta, pos, pos + length))
            pos += length
        pos = end
    return places


def rebase_record(data: bytes, record: RawRecord, shift: int) -> bytes:
    """The record with `shift` added to its timestamp delta."""
    _, timestamp_delta, rest, _, _, end = record
    body = bytearray(1)
    _append_varint(body, timestamp_delta + shift)
    body += data[rest:end]
    out = bytearray()
    _append_varint(out, len(body))
    return bytes(out + body)


def uncompressed_records(header: BatchHeader, records: Buffer, limit: int | None = None) -> bytes:
    """The records section behind `header`, decompressed within `limit` or `compression`'s own."""
    if not header.attributes & CODEC_MASK and limit is None:
        return bytes(records)
    try:
        return decompress(Codec(header.codec), records, limit)
    except (ValueError, CompressedDataError) as error:
        raise CorruptBatchError(f"the batch at offset {header.base_offset}: {error}") from error


def _encode_record(record: Record, offset_delta: int, timestamp_delta: int) -> bytearray:
    out = bytearray(1)
    _append_varint(out, timestamp_delta)
    _append_varint(out, offset_delta)
    _append_nullable(out, record.key)
    _append_nullable(out, record.value)
    _append_varint(out, len(record.headers))
    for name, value in record.headers:
        _append_nullable(out, name.encode())
        _append_nullable(out, value)
    return out


def _append_nullable(out: bytearray, data: bytes | None) -> None:
    if data is None:
        out.append(1)
    else:
        _append_varint(out, len(data))
        out += data


def _append_varint(out: bytearray, value: int) -> None:
    zigzag = value << 1 if value >= 0 else ((-value) << 1) - 1
    while zigzag > 0x7F:
        out.append((zigzag & 0x7F) | 0x80)
        zigzag >>= 7
    out.append(zigzag)


def _decode(header: BatchHeader, data: bytes) -> list[Record]:
    if not 0 <= header.count <= len(data) // 7:
        raise CorruptBatchError(f"a batch claims {header.count} records in {len(data)} bytes")
    base_offset, base_timestamp = header.base_offset, header.base_timestamp
    stamp = header.max_timestamp if header.is_log_append_time else None
    records = []
    pos = 0
    try:
        for _ in range(header.count):
            length, pos = _read_varint(data, pos)
            end = pos + length
            timestamp_delta, pos = _read_varint(data, pos + 1)
            offset_delta, pos = _read_varint(data, pos)
            key, pos = _read_nullable(data, pos)
            value, pos = _read_nullable(data, pos)
            headers, pos = _read_headers(data, pos)
            if pos != end:
                raise CorruptBatchError(f"a record of {length} bytes ends {pos - end} bytes off")
            records.append(
                Record(
                    base_offset + offset_delta,
                    base_timestamp + timestamp_delta if stamp is None else stamp,
                    key,
                    value,
                    headers,
                )
            )
    except (IndexError, UnicodeDecodeError) as error:
        raise CorruptBatchError(f"the records at offset {base_offset} do not parse: {error}") from error
    if pos != len(data):
        raise CorruptBatchError(f"{len(data) - pos} bytes are left after the records at offset {base_offset}")
    return records


def _read_varint(data: bytes, pos: int) -> tuple[int, int]:
    byte = data[pos]
    pos += 1
    zigzag = byte & 0x7F
    shift = 7
    while byte & 0x80:
        if shift > 63:
            raise CorruptBatchError("a varint is longer than ten bytes")
        byte = data[pos]
        pos += 1
        zigzag |= (byte & 0x7F) << shift
        shift += 7
    return (zigzag >> 1) ^ -(zigzag & 1), pos


def _read_nullable(data: bytes, pos: int) -> tuple[bytes | None, int]:
    length = data[pos]
    if length < 0x80:
        length, pos = (length >> 1) ^ -(length & 1), pos + 1
    else:
        length, pos = _read_varint(data, pos)
    if length < 0:
        return None, pos
    end = pos + length
    if end > len(data):
        raise CorruptBatchError(f"a field of {length} bytes runs over the end of its batch")
    return data[pos:end], end


def _read_headers(data: bytes, pos: int) -> tuple[tuple[Header, ...], int]:
    count, pos = _read_varint(data, pos)
    if not count:
        return (), pos
    if not 0 < count <= (len(data) - pos) // 2:
        raise CorruptBatchError(f"a record claims {count} headers")
    headers = []
    for _ in range(count):
        name, pos = _read_nullable(data, pos)
        if name is None:
            raise CorruptBatchError("a record header has no name")
        value, pos = _read_nullable(data, pos)
        headers.append((name.decode(), value))
    return tuple(headers), pos
