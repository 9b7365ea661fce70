"""The records of two streams that may still meet each other.

A left record at t meets the right ones in [t − before, t + after]. A record is accepted while its own side of
that window is open: `t + reach + 1 > S − grace`, S being its stream time. So at watermark W nothing that
could meet a record at t can come any more once `t + before + after + grace < W`: then the record leaves, and
in a left or outer join, if it met nobody, it is told as the only half of a result. That is decided by event
times alone, however the two streams are interleaved.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Any

from streamkit.processing.serde import Serde
from streamkit.processing.state.operator_state import Computed
from streamkit.processing.state.store import Change, Store

LEFT, RIGHT = 0, 1
UNMATCHED, MATCHED = b"\0", b"\1"


class Buffered:
    """A record of one side. `matched`: it has met another."""

    __slots__ = ("key", "matched", "number", "side", "there", "time_ms", "touched", "value")

    def __init__(self, side: int, time_ms: int, number: int, key: Any, value: Any) -> None:
        self.side = side
        self.time_ms = time_ms
        self.number = number
        self.key = key
        self.value = value
        self.matched = False
        self.there = True
        self.touched = False


class JoinBuffers:
    """`alone`: the sides whose unmatched records are results."""

    def __init__(
        self,
        before_ms: int,
        after_ms: int,
        grace_ms: int,
        *,
        alone: frozenset[int],
        key: Serde[Any],
        values: tuple[Serde[Any], Serde[Any]],
        store: Store,
    ) -> None:
        self.store = store
        self.watermark_ms = -(1 << 62)
        self._reach = ((before_ms, after_ms), (after_ms, before_ms))
        self._keep_ms = before_ms + after_ms + grace_ms
        self._alone = alone
        self._key = key
        self._values = values
        self._sides: tuple[dict[Any, list[Buffered]], dict[Any, list[Buffered]]] = ({}, {})
        self._leaving: list[tuple[int, int, Buffered]] = []  # heap by time
        self._numbers = 0
        self._touched: list[Buffered] = []

    # -- records --------------------------------------------------------------------------------------

    def matches(self, side: int, key: Any, time_ms: int) -> list[Buffered]:
        """The records of the other side that a record of this one meets, in the order of time."""
        others = self._sides[1 - side].get(key)
        if not others:
            return []
        back, ahead = self._reach[side]
        first = bisect_left(others, time_ms - back, key=time_of)
        return others[first : bisect_right(others, time_ms + ahead, lo=first, key=time_of)]

    def keep(self, side: int, key: Any, time_ms: int, value: Any, matches: list[Buffered]) -> None:
        """The record has met `matches`; it waits for more."""
        self._numbers += 1
        record = Buffered(side, time_ms, self._numbers, key, value)
        record.matched = bool(matches)
        for other in matches:
            if not other.matched:
                other.matched = True
                self._touch(other)
        self._insert(record)
        self._touch(record)

    def _insert(self, record: Buffered) -> None:
        insort(self._sides[record.side].setdefault(record.key, []), record, key=time_of)
        heappush(self._leaving, (record.time_ms, record.number, record))

    def _touch(self, record: Buffered) -> None:
        if not record.touched:
            record.touched = True
            self._touched.append(record)

    # -- time -----------------------------------------------------------------------------------------

    def advance(self, watermark_ms: int, now_ms: int) -> Iterator[Computed]:
        """The halves without a partner, in the order of time."""
        self.watermark_ms = max(self.watermark_ms, watermark_ms)
        while self._leaving and self._leaving[0][0] + self._keep_ms < self.watermark_ms:
            _, _, record = heappop(self._leaving)
            records = self._sides[record.side][record.key]
            records.remove(record)
            if not records:
                del self._sides[record.side][record.key]
            record.there = False
            self._touch(record)
            if not record.matched and record.side in self._alone:
                pair = (record.value, None) if record.side == LEFT else (None, record.value)
                yield pair, record.key, record.time_ms, record.time_ms

    def due_ms(self) -> int | None:
        return None

    # -- commits --------------------------------------------------------------------------------------

    def changes(self) -> list[Change]:
        changed: list[Change] = []
        for record in self._touched:
            record.touched = False
            name = self._name(record)
            if record.there:
                flag = MATCHED if record.matched else UNMATCHED
                changed.append((name, flag + self._values[record.side].encode(record.value)))
            elif self.store.get(name) is not None:
                changed.append((name, None))
        self._touched.clear()
        return changed

    def written(self) -> None:
        """Nothing: what may still meet stays in memory."""

    def load(self, watermark_ms: int) -> None:
        self.watermark_ms = watermark_ms
        for records in self._sides:
            records.clear()
        self._leaving.clear()
        for name, data in sorted(self.store.items()):
            side, time_ms, number = name[0], integer(name[1:9]), integer(name[9:17])
            value = self._values[side].decode(data[1:])
            record = Buffered(side, time_ms, number, self._key.decode(name[17:]), value)
            record.matched = data[:1] == MATCHED
            self._numbers = max(self._numbers, number)
            self._insert(record)

    def __len__(self) -> int:
        return len(self._leaving)

    def _name(self, record: Buffered) -> bytes:
        return name_of(record.side, record.time_ms, record.number, self._key.encode(record.key))


def name_of(side: int, time_ms: int, number: int, key: bytes) -> bytes:
    """The stored key of a record."""
    place = time_ms.to_bytes(8, "big", signed=True) + number.to_bytes(8, "big", signed=True)
    return bytes((side,)) + place + key


def time_of(record: Buffered) -> int:
    return record.time_ms


def integer(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)
