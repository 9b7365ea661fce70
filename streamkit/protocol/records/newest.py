"""The newest record of each key, gathered from batch after batch.

Whoever writes a compacted topic writes the same thing over and over: the same keys, a little further on. Two
record sections have one *shape* if they are of one length and differ in nothing but the insides of keys and
values. Then these lie at the same places, and one `Struct` takes them all out, at a third of what walking
through the varints costs. A shape is learnt from a section that was walked through and made sense; whatever
is not exactly of it is walked through, too.
"""

from __future__ import annotations

from struct import Struct

from streamkit.protocol.records.batch import BatchHeader
from streamkit.protocol.records.record import gather_newest, key_and_value_places

LARGEST_SHAPE_BYTES = 16 << 10
"""Longer sections are rarely alike."""
MOST_SHAPES = 256

Newest = dict[bytes, tuple[int, bytes | None]]


class Shape:
    """Of sections in which no key and no value is null."""

    __slots__ = ("_frame", "_offset_deltas", "_pieces")

    def __init__(self, data: bytes, places: list[tuple[int, int, int]]) -> None:
        layout, end = [], 0
        for _, start, stop in places:
            layout.append(f"{start - end}s{stop - start}s")
            end = stop
        self._pieces = Struct(f"{''.join(layout)}{len(data) - end}s")
        self._frame = self._pieces.unpack(data)[::2]
        """What stands before, between and behind keys and values."""
        self._offset_deltas = [delta for delta, _, _ in places[::2]]

    def gather(self, base_offset: int, data: bytes, newest: Newest) -> bool:
        """As `gather_newest`, if these records of the same length have this shape; else nothing."""
        pieces = self._pieces.unpack(data)
        if pieces[::2] != self._frame:
            return False
        for key, value, delta in zip(pieces[1::4], pieces[3::4], self._offset_deltas, strict=True):
            newest.pop(key, None)  # so that it comes last
            newest[key] = base_offset + delta, value
        return True


class NewestRecords:
    """The offset and value of each key, in the order of the offsets."""

    def __init__(self) -> None:
        self._found: Newest = {}
        self._shapes: dict[tuple[int, int], Shape | None] = {}
        """By length and count of records; None after one section that was of no known shape."""

    def take(self, header: BatchHeader, data: bytes) -> None:
        """The uncompressed records of the next batch; those without a key are passed over.

        Raises `CorruptBatchError`.
        """
        size = len(data)
        looks = size, header.count
        shape = self._shapes.get(looks)
        if shape is not None and shape.gather(header.base_offset, data, self._found):
            return
        gather_newest(header, data, self._found)
        if size <= LARGEST_SHAPE_BYTES:
            self._learn(looks, header, data)

    def _learn(self, looks: tuple[int, int], header: BatchHeader, data: bytes) -> None:
        """What came twice may come again; what only happens to be as long is not learnt each time."""
        if self._shapes.get(looks, ...) is not None:
            if len(self._shapes) >= MOST_SHAPES:
                self._shapes.clear()
            self._shapes[looks] = None
            return
        places = key_and_value_places(header, data)
        if places is not None:
            self._shapes[looks] = Shape(data, places)

    def drain(self) -> Newest:
        found, self._found = self._found, {}
        return found
