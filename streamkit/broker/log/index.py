"""Sparse indexes of one segment: offset → position, and timestamp → offset, in Kafka's file formats.

    .index      8 bytes an entry: relative offset u32 of a batch's last record, position u32 of that batch
    .timeindex 12 bytes an entry: timestamp i64, relative offset u32: no record before that offset is newer

Both are derived from the log and never trusted over it: one that is damaged is dropped, and an empty index
is always right, only slower (a search then begins at the segment's start). Entries are kept in arrays; what
is not yet in the file is a suffix, `unsaved` away from it.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right
from itertools import pairwise
from struct import Struct, iter_unpack

OFFSET_ENTRY_SIZE = 8
TIME_ENTRY_SIZE = 12
_TIME_ENTRY = Struct(">qI")


IndexEntry = tuple[int, int]
"""(position of a batch, relative offset of its last record); the offset is UNKNOWN at a segment's start."""
UNKNOWN = -1
START: IndexEntry = (0, UNKNOWN)


class OffsetIndex:
    """Relative offsets and positions; both strictly increase."""

    __slots__ = ("offsets", "positions", "saved")

    def __init__(self) -> None:
        self.offsets = array("I")
        self.positions = array("I")
        self.saved = 0

    def __len__(self) -> int:
        return len(self.offsets)

    def append(self, relative_offset: int, position: int) -> None:
        self.offsets.append(relative_offset)
        self.positions.append(position)

    def entry_before(self, relative_offset: int) -> IndexEntry:
        """Where a search for this offset begins: the last indexed batch that ends at or before it."""
        return self._entry(bisect_right(self.offsets, relative_offset) - 1)

    def entry_at_position(self, position: int) -> IndexEntry:
        """The last indexed batch that begins at or before this position."""
        return self._entry(bisect_right(self.positions, position) - 1)

    def _entry(self, number: int) -> IndexEntry:
        return (self.positions[number], self.offsets[number]) if number >= 0 else START

    def unsaved(self) -> tuple[int, bytes]:
        """(position in the file, bytes) of the entries that the file lacks."""
        start = self.saved
        self.saved = len(self.offsets)
        entries = array("I", bytes(OFFSET_ENTRY_SIZE * (self.saved - start)))
        entries[0::2] = self.offsets[start:]
        entries[1::2] = self.positions[start:]
        return start * OFFSET_ENTRY_SIZE, _big_endian(entries)

    @classmethod
    def parse(cls, data: bytes, log_size: int) -> OffsetIndex | None:
        """The index in a file, or None if it cannot be one of a log of `log_size` bytes."""
        if len(data) % OFFSET_ENTRY_SIZE:
            return None
        entries = array("I")
        entries.frombytes(_big_endian(array("I", data)))
        index = cls()
        index.offsets, index.positions = entries[0::2], entries[1::2]
        index.saved = len(index.offsets)
        sound = _strictly_increasing(index.offsets) and _strictly_increasing(index.positions)
        return index if sound and (not index.saved or index.positions[-1] < log_size) else None


class TimeIndex:
    """Timestamps, strictly increasing, and relative offsets that never decrease."""

    __slots__ = ("offsets", "saved", "timestamps")

    def __init__(self) -> None:
        self.timestamps = array("q")
        self.offsets = array("I")
        self.saved = 0

    def __len__(self) -> int:
        return len(self.timestamps)

    def append(self, timestamp: int, relative_offset: int) -> None:
        """Note the newest timestamp so far; one that is no newer than the last entry adds nothing."""
        if timestamp >= 0 and (not self.timestamps or timestamp > self.timestamps[-1]):
            self.timestamps.append(timestamp)
            self.offsets.append(relative_offset)

    def offset_before(self, timestamp: int) -> int:
        """The relative offset where a search for the first record at or after `timestamp` may begin."""
        found = bisect_right(self.timestamps, timestamp - 1) - 1
        return self.offsets[found] if found >= 0 else 0

    def unsaved(self) -> tuple[int, bytes]:
        start = self.saved
        self.saved = len(self.timestamps)
        entries = map(_TIME_ENTRY.pack, self.timestamps[start:], self.offsets[start:])
        return start * TIME_ENTRY_SIZE, b"".join(entries)

    @classmethod
    def parse(cls, data: bytes) -> TimeIndex | None:
        if len(data) % TIME_ENTRY_SIZE:
            return None
        index = cls()
        for timestamp, relative_offset in iter_unpack(">qI", data):
            index.timestamps.append(timestamp)
            index.offsets.append(relative_offset)
        index.saved = len(index.timestamps)
        sound = _strictly_increasing(index.timestamps) and all(a <= b for a, b in pairwise(index.offsets))
        return index if sound else None


def _strictly_increasing(values: array[int]) -> bool:
    return all(a < b for a, b in pairwise(values))


def _big_endian(entries: array[int]) -> bytes:
    if sys.byteorder == "little":
        entries.byteswap()
    return entries.tobytes()
