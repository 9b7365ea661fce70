"""Finding batches in a segment, without I/O: generators that ask for bytes and are sent them.

    steps = find_batch(...)         # Steps[T]: yields (position, size), is sent the bytes there, returns T

A size of 0 asks for nothing but a pause: the search has worked for a while.

One shell drives them at once from the page cache and gives up when it would wait; another awaits the
device. Bytes that make no batch raise `CorruptBatchError`: first the index that led there is suspected,
then the log.
"""

from __future__ import annotations

from collections.abc import Generator
from struct import Struct
from typing import TypeVar

import msgspec

from streamkit.broker.log.index import UNKNOWN, IndexEntry
from streamkit.broker.log.segment import Segment
from streamkit.protocol.records.batch import (
    HEADER_SIZE,
    LENGTH_END,
    MAGIC,
    BatchHeader,
    Buffer,
    CorruptBatchError,
    parse_header,
)
from streamkit.protocol.records.record import timestamps_and_offsets

T = TypeVar("T")
Steps = Generator[tuple[int, int], Buffer, T]

WALK_BYTES = 8192
"""One index interval and a few batches."""
UNPACKED_BYTES = 16 << 20
"""The most that is decompressed to find a record by its timestamp."""
RECORDS_PER_TURN = 2000
_FRONT = Struct(">qiibIhi")  # the header as far as the last offset delta


class Found(msgspec.Struct, frozen=True, gc=False):
    """Whole batches, where they end, and the offset that follows them."""

    data: memoryview
    end_position: int
    next_offset: int


class TimestampedOffset(msgspec.Struct, frozen=True, gc=False):
    timestamp: int
    offset: int
    leader_epoch: int


def check_entry(entry: IndexEntry, base_offset: int) -> Steps[int]:
    """The position in an index entry, after the batch there proved to be the one that the entry says."""
    position, relative_offset = entry
    if relative_offset != UNKNOWN:
        _require_last_offset((yield position, HEADER_SIZE), 0, base_offset + relative_offset)
    return position


def _require_last_offset(data: Buffer, at: int, last_offset: int) -> None:
    if len(data) - at >= HEADER_SIZE:
        base, _, _, _, _, _, delta = _FRONT.unpack_from(data, at)
        if base + delta == last_offset:
            return
    raise CorruptBatchError(f"the index is wrong about the batch that ends with offset {last_offset}")


def find_batch(start: int, end: int, offset: int) -> Steps[int]:
    """The position of the first batch in [start, end) that reaches `offset`; `end` if there is none."""
    position = start
    while position < end:
        chunk = yield position, min(WALK_BYTES, end - position)
        found, at = _walk(chunk, offset)
        if found:
            return position + at
        if not at:
            raise CorruptBatchError(f"no whole batch header at position {position}")
        position += at
    return end


def find_cut(start: int, end: int, offset: int, next_offset: int) -> Steps[tuple[int, int]]:
    """(position, next offset) behind the last batch in [start, end) that ends before `offset`.

    `next_offset` is what the batch at `start` follows.
    """
    position = start
    while position < end:
        header = yield from header_at(position, end)
        if header.last_offset >= offset:
            break
        position, next_offset = position + header.size, header.next_offset
    return position, next_offset


def _walk(chunk: Buffer, offset: int) -> tuple[bool, int]:
    """(found, position) of the batch that reaches `offset`, or where the walk left the chunk."""
    at, last = 0, len(chunk) - HEADER_SIZE
    while at <= last:
        base, length, _, magic, _, _, delta = _FRONT.unpack_from(chunk, at)
        if magic != MAGIC or length < HEADER_SIZE - LENGTH_END or delta < 0:
            raise CorruptBatchError(f"no batch where offset {offset} was looked for")
        if base + delta >= offset:
            return True, at
        at += length + LENGTH_END
    return False, at


def read_batches(
    start: int, end: int, offset: int, *, max_bytes: int, at_least_one: bool, slack: int, segment: Segment
) -> Steps[Found | None]:
    """Whole batches from the one that contains `offset` on: at most `max_bytes`, below position `end`.

    `start` is a batch boundary, about `slack` bytes before that batch; `end` is a boundary too. None if no
    batch is there. Nothing is found if the first is over `max_bytes` and `at_least_one` does not ask for it.
    """
    chunk = yield start, min(end - start, max(max_bytes, HEADER_SIZE) + slack)
    found, skip = _walk(chunk, offset)
    if not found:
        start = yield from find_batch(start + skip, end, offset)
        if start == end:
            return None
        chunk = yield start, min(end - start, max(max_bytes, HEADER_SIZE))
        skip = 0
    first = start + skip
    view = memoryview(chunk)[skip:]
    next_offset = -1
    if end - first <= min(max_bytes, len(view)):
        size = end - first
    else:
        size, next_offset = _whole_batches(view[:max_bytes], first, segment)
    if not size:
        if not at_least_one:
            return Found(view[:0], first, offset)
        header = parse_header(view)
        size, next_offset = header.size, header.next_offset
        if len(view) < size:
            view = memoryview((yield first, size))
        if len(view) < size:
            raise CorruptBatchError(f"the batch at offset {header.base_offset} is cut short")
    return Found(view[:size], first + size, next_offset)


def _whole_batches(view: memoryview, first: int, segment: Segment) -> tuple[int, int]:
    """(bytes, next offset) of the whole batches in `view`, read at position `first`.

    The index knows a boundary near the end; only what lies behind that is walked.
    """
    assert segment.indexes is not None, "indexes are loaded before a search"
    position, relative_offset = segment.indexes[0].entry_at_position(first + len(view) - HEADER_SIZE)
    at = max(0, position - first)
    if at:
        _require_last_offset(view, at, segment.base_offset + relative_offset)
    next_offset = -1
    while len(view) - at >= HEADER_SIZE:
        base, length, _, magic, _, _, delta = _FRONT.unpack_from(view, at)
        if magic != MAGIC or length < HEADER_SIZE - LENGTH_END:
            raise CorruptBatchError(f"no batch at position {first + at}")
        if at + length + LENGTH_END > len(view):
            return at, base
        at += length + LENGTH_END
        next_offset = base + delta + 1
    return at, next_offset


def find_timestamp(
    start: int, end: int, timestamp: int, start_offset: int
) -> Steps[TimestampedOffset | None]:
    """The first record at or after `start_offset` that is not older than `timestamp`."""
    position = start
    while position < end:
        header = yield from header_at(position, end)
        if header.max_timestamp >= timestamp and header.last_offset >= start_offset:
            found = yield from _find_in_batch(position, header, timestamp, start_offset)
            if found is not None:
                return found
        position += header.size
    return None


def _find_in_batch(
    position: int, header: BatchHeader, timestamp: int, start_offset: int
) -> Steps[TimestampedOffset | None]:
    """As `find_timestamp`, in one batch, with a pause now and then.

    What a producer put inside its batch is not the log's damage: where it makes no sense, or would take too
    long to unpack, the answer is the batch's beginning, from where a consumer finds the record by itself.
    """
    batch = yield position, header.size
    walked = 0
    try:
        for found, offset in timestamps_and_offsets(batch, UNPACKED_BYTES):
            if found >= timestamp and offset >= start_offset:
                return TimestampedOffset(found, offset, header.leader_epoch)
            walked += 1
            if walked % RECORDS_PER_TURN == 0:
                yield position, 0
    except CorruptBatchError:
        beginning = max(header.base_offset, start_offset)
        return TimestampedOffset(header.max_timestamp, beginning, header.leader_epoch)
    return None


def header_at(position: int, end: int) -> Steps[BatchHeader]:
    """The header of the batch at `position`, which ends by `end`."""
    data = yield position, HEADER_SIZE
    if len(data) < HEADER_SIZE:
        raise CorruptBatchError(f"no whole batch header at position {position}")
    header = parse_header(data)
    if header.magic != MAGIC or header.size < HEADER_SIZE or position + header.size > end:
        raise CorruptBatchError(f"no batch at position {position}")
    return header
