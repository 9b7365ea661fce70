"""Join buffers that need not fit into memory.

In the store records stand in the order of side, time and number: in that order they leave, so what leaves is
read from where the last reading ended. An index has them by key, for those who look for partners.

In memory is every record that changed since the last commit. Of the rest there are *stretches*: for one side
and key all records of a span of time. A slice announces its records (`foresee`), and what they may meet is
read in one go. A commit drops the stretches when they have become too many.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from sys import maxsize
from typing import Any, NamedTuple

from streamkit.processing.record import RawRecord
from streamkit.processing.serde import Serde
from streamkit.processing.state.buckets import PORTION
from streamkit.processing.state.cache import CACHED, typical_bytes, with_keys
from streamkit.processing.state.join_buffers import (
    LEFT,
    MATCHED,
    RIGHT,
    UNMATCHED,
    Buffered,
    integer,
    name_of,
    time_of,
)
from streamkit.processing.state.operator_state import Computed
from streamkit.processing.state.store import Change, Store, Stored
from streamkit.processing.state.timeline import BIAS, number_in, ordered, prefixed
from streamkit.processing.tasks.watermark import NEVER

KEY_AT = 17  # in a stored key: side, time, number, key
EARLIEST, LATEST = -BIAS, BIAS - 1  # ms
LATEST_OF, GREATEST = (b"\xfe\0", b"\xfe\1"), b"\xff"  # in the index: names of no record
BEHIND_NUMBERS = b"\xff"  # what an index has of one time is before this


class JoinIndex:
    """(side, key, time, number); of all that was ever stored the latest time by side, the greatest number."""

    version = "join 2"

    def __init__(self) -> None:
        self.latest_ms = [EARLIEST, EARLIEST]
        self.greatest = 0

    def load(self, store: Store) -> None:
        known = dict(store.find(LATEST_OF[0], None, len(LATEST_OF) + 1))
        self.latest_ms = [number_in(known.get(name, ordered(EARLIEST))) for name in LATEST_OF]
        self.greatest = integer(known.get(GREATEST, b""))

    def changes(self, entries: Mapping[bytes, bytes | None], stored: Stored | None) -> Iterable[Change]:
        before = [*map(ordered, self.latest_ms), self.greatest.to_bytes(8, "big")]
        after = before[:]
        for name, value in entries.items():
            side, place = name[0], _turned(name[1:KEY_AT])
            if value is not None:
                after[side] = max(after[side], place[:8])
                after[-1] = max(after[-1], place[8:])
            yield _of_key(side, name[KEY_AT:]) + place, value and b""
        self.latest_ms, self.greatest = [*map(number_in, after[:-1])], integer(after[-1])
        for name, known, now in zip((*LATEST_OF, GREATEST), before, after, strict=True):
            if now > known:
                yield name, now


def _of_key(side: int, key: bytes) -> bytes:
    """How the names of a key's records begin. Their places come behind it."""
    return bytes((side,)) + prefixed(key)


def _turned(place: bytes) -> bytes:
    """A time, and what follows, in two's complement made bytes that are in the order of time; or back."""
    return bytes((place[0] ^ 128,)) + place[1:]


class Waiting(Buffered):
    """`stored`: the store has it, or will with the commit that is under way."""

    __slots__ = ("stored",)

    def __init__(self, side: int, time_ms: int, number: int, key: Any, value: Any) -> None:
        super().__init__(side, time_ms, number, key, value)
        self.stored = False


class Stretch:
    """Records of one side and key, in order. Of those at first ≤ time ≤ last none is missing."""

    __slots__ = ("first", "last", "records")

    def __init__(self) -> None:
        self.first, self.last = 0, -1
        self.records: list[Waiting] = []

    def covers(self, first: int, last: int) -> bool:
        return self.first <= first and last <= self.last

    def extend(self, first: int, last: int) -> list[tuple[int, int]]:
        """Cover this span, too. Returns what is missing for that."""
        if self.first > self.last or first > self.last + 1 or last < self.first - 1:
            self.first, self.last = first, last
            return [(first, last)]
        missing = []
        if first < self.first:
            missing.append((first, self.first - 1))
        if last > self.last:
            missing.append((self.last + 1, last))
        self.first, self.last = min(first, self.first), max(last, self.last)
        return missing


class Leaving(NamedTuple):
    """A record whose time is over. `name` and `data` as they are stored; `record`: in memory only."""

    place: tuple[int, int]  # time, number
    name: bytes
    data: bytes
    record: Waiting | None


class Side:
    """What is told of the records of one side before they come."""

    def __init__(self, buffers: StoredJoinBuffers, side: int) -> None:
        self._buffers = buffers
        self._side = side

    def foresee(self, records: Sequence[RawRecord]) -> None:
        self._buffers.foresee(self._side, records)


class StoredJoinBuffers:
    """See `JoinBuffers`.

    Invariants: a stored record with another `matched` than in the store is in memory; so is one that is not
    stored yet, and in `_fresh`. Stored records before `_cursor` have left, those behind are not before
    `_earliest_ms`.
    """

    spills = True

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
        self.watermark_ms = NEVER
        self.cached_most = CACHED
        self.entry_bytes = 0
        self.sides = Side(self, 0), Side(self, 1)
        self._reach = ((before_ms, after_ms), (after_ms, before_ms))
        self._keep_ms = before_ms + after_ms + grace_ms
        self._alone = alone
        self._key = key
        self._values = values
        self._stretches: tuple[dict[Any, Stretch], dict[Any, Stretch]] = ({}, {})
        self._held = 0  # records in stretches
        self._fresh: list[tuple[int, int, Waiting]] = []  # heap by time: not stored yet
        self._cursor = EARLIEST, 0  # time, number
        self._earliest_ms = EARLIEST
        self._touched: list[Waiting] = []
        self._gone: list[bytes] = []
        self._numbers = 0
        self._index = JoinIndex()
        store.keep_index(self._index)

    @property
    def cached(self) -> int:
        return self._held + len(self._gone) + sum(map(len, self._stretches))

    # -- records --------------------------------------------------------------------------------------

    def matches(self, side: int, key: Any, time_ms: int) -> list[Waiting]:
        """The records of the other side that a record of this one meets, in the order of time."""
        back, ahead = self._reach[side]
        first, last = time_ms - back, time_ms + ahead
        stretch = self._stretches[1 - side].get(key)
        if stretch is None or not stretch.covers(first, last):
            self._read(1 - side, {key: (first, last)})
            stretch = self._stretches[1 - side][key]
        begin = bisect_left(stretch.records, first, key=time_of)
        return stretch.records[begin : bisect_right(stretch.records, last, lo=begin, key=time_of)]

    def keep(self, side: int, key: Any, time_ms: int, value: Any, matches: list[Waiting]) -> None:
        """The record has met `matches`; it waits for more."""
        self._numbers += 1
        record = Waiting(side, time_ms, self._numbers, key, value)
        record.matched = bool(matches)
        for other in matches:
            if not other.matched:
                other.matched = True
                self._touch(other)
        insort(self._stretch(side, key).records, record, key=time_of)
        self._held += 1
        heappush(self._fresh, (time_ms, record.number, record))
        self._touch(record)

    def _touch(self, record: Waiting) -> None:
        if not record.touched:
            record.touched = True
            self._touched.append(record)

    def _stretch(self, side: int, key: Any) -> Stretch:
        found = self._stretches[side].get(key)
        if found is None:
            found = self._stretches[side][key] = Stretch()
        return found

    # -- what is only stored --------------------------------------------------------------------------

    def foresee(self, side: int, records: Sequence[RawRecord]) -> None:
        """Read what these records are likely to meet."""
        (back, ahead), others = self._reach[side], self._stretches[1 - side]
        gone_ms = self.watermark_ms - self._keep_ms
        wanted: dict[Any, tuple[int, int]] = {}
        for key, record in with_keys(records, self._key.decode):
            time_ms = record.timestamp()[1]
            first, last = max(time_ms - back, gone_ms), time_ms + ahead
            if first > last:
                continue
            stretch = others.get(key)
            if stretch is None or not stretch.covers(first, last):
                known = wanted.get(key)
                wanted[key] = (min(first, known[0]), max(last, known[1])) if known else (first, last)
        if wanted:
            self._read(1 - side, wanted)

    def _read(self, side: int, wanted: Mapping[Any, tuple[int, int]]) -> None:
        """Take what is stored of these keys and times into their stretches."""
        found = list[tuple[Any, Stretch, list[bytes]]]()
        latest_ms = self._index.latest_ms[side]
        for key, span in wanted.items():
            stretch = self._stretch(side, key)
            missing = [(first, last) for first, last in stretch.extend(*span) if first <= latest_ms]
            found.append((key, stretch, list(self._names(side, self._key.encode(key), missing))))
        names = [name for _, _, some in found for name in some]
        values = iter(self.store.get_many(names) if names else ())
        for key, stretch, some in found:
            if some:
                self._take(stretch, key, zip(some, values))  # noqa: B905 - each takes its own

    def _names(self, side: int, key: bytes, spans: Iterable[tuple[int, int]]) -> Iterator[bytes]:
        """The stored keys of a key's records in these spans of time."""
        prefix, stored_prefix = _of_key(side, key), bytes((side,))
        for first, last in spans:
            start, end = (prefix + ordered(min(max(ms, EARLIEST), LATEST)) for ms in (first, last))
            for name, _ in self.store.find(start, end + BEHIND_NUMBERS, maxsize):
                yield stored_prefix + _turned(name[-16:]) + key

    def _take(self, stretch: Stretch, key: Any, entries: Iterable[tuple[bytes, bytes | None]]) -> None:
        before, known = len(stretch.records), {record.number for record in stretch.records}
        for name, data in entries:
            if data is not None and integer(name[9:KEY_AT]) not in known:
                stretch.records.append(self._thawed(name, key, data))
        stretch.records.sort(key=_order)
        self._held += len(stretch.records) - before

    def _thawed(self, name: bytes, key: Any, data: bytes) -> Waiting:
        side, value = name[0], self._values[name[0]].decode(data[1:])
        record = Waiting(side, integer(name[1:9]), integer(name[9:KEY_AT]), key, value)
        record.matched, record.stored = data[:1] == MATCHED, True
        return record

    # -- time -----------------------------------------------------------------------------------------

    def advance(self, watermark_ms: int, now_ms: int) -> Iterator[Computed | None]:
        """The halves without a partner, in the order of time."""
        self.watermark_ms = max(self.watermark_ms, watermark_ms)
        limit = self.watermark_ms - self._keep_ms
        while leaving := self._leaving(limit):
            for place, name, data, record in leaving:
                self._cursor = place[0], place[1] + 1
                yield from self._left(name, data, record)
            if len(leaving) >= PORTION:
                yield None

    def _leaving(self, limit: int) -> list[Leaving]:
        """The next records before this time, in order; many at most, where many are stored."""
        fresh, stored = self._fresh, self._stored_before(limit)
        found: list[Leaving] = []
        for entry in stored:
            while fresh and fresh[0][:2] < entry.place:
                found.append(self._popped())
            found.append(entry)
        if len(stored) < PORTION:
            while fresh and fresh[0][0] < limit:
                found.append(self._popped())
        return found

    def _popped(self) -> Leaving:
        time_ms, number, record = heappop(self._fresh)
        return Leaving((time_ms, number), self._name(record), b"", record)

    def _stored_before(self, limit: int) -> list[Leaving]:
        if self._earliest_ms >= limit:
            return []
        found: list[Leaving] = []
        for side in (LEFT, RIGHT):
            for name, data in self._range(side, self._cursor, limit, PORTION):
                found.append(Leaving((integer(name[1:9]), integer(name[9:KEY_AT])), name, data, None))
        if len(found) < PORTION:
            heads = [self._range(side, (limit, 0), LATEST, 1) for side in (LEFT, RIGHT)]
            self._earliest_ms = min((integer(head[0][0][1:9]) for head in heads if head), default=LATEST)
        found.sort(key=_place)
        return found[:PORTION]

    def _range(self, side: int, start: tuple[int, int], end_ms: int, count: int) -> list[tuple[bytes, bytes]]:
        """The first stored entries of a side from a place on, before a time. The store has negative times, in
        two's complement, behind the others.
        """
        found: list[tuple[bytes, bytes]] = []
        for low, high in ((EARLIEST, -1), (0, LATEST)):
            begin, end = max(start, (low, 0)), min(end_ms, high + 1)
            if begin[0] < end and len(found) < count:
                bounds = name_of(side, *begin, b""), name_of(side, high, LATEST, b"\xff")
                if end <= high:
                    bounds = bounds[0], name_of(side, end, 0, b"")
                found += self.store.range(*bounds, count - len(found))
        return found

    def _left(self, name: bytes, data: bytes, record: Waiting | None) -> Iterator[Computed]:
        """A record is gone; if it met nobody that may be a result."""
        side, key = name[0], self._key.decode(name[KEY_AT:]) if record is None else record.key
        record = self._dropped(side, key, name) or record
        if record is None or record.stored:
            self._gone.append(name)
        if side not in self._alone or (data[:1] == MATCHED if record is None else record.matched):
            return
        value = self._values[side].decode(data[1:]) if record is None else record.value
        time_ms = integer(name[1:9])
        yield (value, None) if side == LEFT else (None, value), key, time_ms, time_ms

    def _dropped(self, side: int, key: Any, name: bytes) -> Waiting | None:
        """The record in its stretch, if it is in one; no longer."""
        stretch, place = self._stretches[side].get(key), (integer(name[1:9]), integer(name[9:KEY_AT]))
        if stretch is None:
            return None
        at = bisect_left(stretch.records, place, key=_order)
        if at == len(stretch.records) or _order(stretch.records[at]) != place:
            return None
        record = stretch.records.pop(at)
        record.there = False
        self._held -= 1
        if not stretch.records:
            del self._stretches[side][key]
        return record

    def due_ms(self) -> int | None:
        return None

    # -- commits --------------------------------------------------------------------------------------

    def changes(self) -> list[Change]:
        changed: list[Change] = []
        for record in self._touched:
            record.touched = False
            if record.there:
                flag = MATCHED if record.matched else UNMATCHED
                data = flag + self._values[record.side].encode(record.value)
                changed.append((self._name(record), data))
                record.stored = True
        self.entry_bytes = typical_bytes(changed) or self.entry_bytes
        changed += [(name, None) for name in self._gone]
        self._touched.clear()
        self._gone.clear()
        return changed

    def written(self) -> None:
        stored = [entry[0] for entry in self._fresh if entry[2].stored]
        if stored:
            stored.append(self._earliest_ms)
            self._earliest_ms = min(stored)
            self._fresh = [entry for entry in self._fresh if not entry[2].stored]
            heapify(self._fresh)
        if self.cached > self.cached_most:
            self._let_go()

    def _let_go(self) -> None:
        """Forget what is in the store as it is."""
        for stretches in self._stretches:
            stretches.clear()
        changed = sorted((record for record in self._touched if record.there), key=_order)
        for record in changed:
            self._stretch(record.side, record.key).records.append(record)
        self._held = len(changed)

    def load(self, watermark_ms: int) -> None:
        self.watermark_ms = watermark_ms
        for stretches in self._stretches:
            stretches.clear()
        for kept in (self._fresh, self._touched, self._gone):
            kept.clear()
        self._held, self._numbers = 0, self._index.greatest
        self._cursor, self._earliest_ms = (EARLIEST, 0), EARLIEST

    def __len__(self) -> int:
        return max(self._held, len(self.store))

    def _name(self, record: Waiting) -> bytes:
        return name_of(record.side, record.time_ms, record.number, self._key.encode(record.key))


def _order(record: Waiting) -> tuple[int, int]:
    return record.time_ms, record.number


def _place(leaving: Leaving) -> tuple[int, int]:
    return leaving.place
