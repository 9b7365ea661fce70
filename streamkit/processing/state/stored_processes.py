"""States and timers of a `process` function that need not fit into memory.

Keys are a cache over the store: what changed since the last commit, and of the rest what was used lately. A
slice announces its records (`foresee`), and their keys are read in one go.

An index has timers by clock and time, so that those that are due are read from where the last reading ended.
Only timers that were set since the last commit are in memory. Whatever names a timer, the key says whether it
still stands.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from heapq import heapify, heappop
from typing import Any

from streamkit.processing.record import RawRecord
from streamkit.processing.serde import Serde
from streamkit.processing.state.buckets import PORTION
from streamkit.processing.state.cache import CACHED, typical_bytes, with_keys
from streamkit.processing.state.processes import Clock, Due, Kept, ProcessState, Timers, unpack
from streamkit.processing.state.store import Change, NamedByValue, Store
from streamkit.processing.state.timeline import BIAS, BIAS_BYTES, escaped, number_in, ordered
from streamkit.processing.table import IMMUTABLE

EARLIEST, LATEST = -BIAS, BIAS - 1  # ms
NONE_LEFT = LATEST + 1  # what no clock reaches
CLOCKS: dict[Clock, bytes] = {"event": b"e", "wall": b"w"}
KEY_AT = 1 + BIAS_BYTES  # in a name: clock, time, key, timer


class TimerIndex(NamedByValue):
    """(clock, time, key, timer) → key."""

    version = "timers 1"

    def renamed(self, key: bytes, before: bytes | None, after: bytes | None) -> Iterable[Change]:
        was, now = _timers(before), _timers(after)
        for timer, (clock, at_ms) in was.items():
            if now.get(timer) != (clock, at_ms):
                yield _name(clock, at_ms, key, timer), None
        for timer, (clock, at_ms) in now.items():
            if was.get(timer) != (clock, at_ms):
                yield _name(clock, at_ms, key, timer), key


def _timers(data: bytes | None) -> Timers:
    return {} if data is None else unpack(data)[1]


def _name(clock: Clock, at_ms: int, key: bytes, timer: str) -> bytes:
    """Names are in the order of their parts; no text in UTF-8 begins with 255."""
    return _from(clock, at_ms) + escaped(key) + timer.encode()


def _from(clock: Clock, at_ms: int) -> bytes:
    """Before all names of this time."""
    return CLOCKS[clock] + ordered(min(max(at_ms, EARLIEST), LATEST))


def _behind(clock: Clock) -> bytes:
    """Behind all names of this clock."""
    return bytes((CLOCKS[clock][0] + 1,))


def _references(kept: Kept) -> int:
    return sys.getrefcount(kept.state)


UNHELD = _references(Kept(b"", [], {}))


class StoredProcessState(ProcessState):
    """Key → `Kept`, or None: neither here nor in the store.

    Invariants: a key with timers in `_due` that are not in the store is in `_touched`, or in the commit that
    is under way. Stored timers before `_cursor` were due, those behind are not before `_earliest_ms`.
    """

    spills = True

    def __init__(self, key: Serde[Any], value: Serde[Any], store: Store) -> None:
        super().__init__(key, value, store)
        self.cached_most = CACHED
        self.entry_bytes = 0
        self._cursor: dict[Clock, bytes] = dict(CLOCKS)
        self._earliest_ms: dict[Clock, int] = dict.fromkeys(CLOCKS, EARLIEST)
        self._committing: Collection[Any] = ()
        self._index = TimerIndex()
        store.keep_index(self._index)

    @property
    def cached(self) -> int:
        return len(self._keys) + sum(map(len, self._due.values()))

    # -- keys -----------------------------------------------------------------------------------------

    def foresee(self, records: Sequence[RawRecord]) -> None:
        """Read what these records need."""
        keys = dict.fromkeys(key for key, _ in with_keys(records, self._key.decode) if key not in self._keys)
        if keys:
            self._read(keys)

    def context(self, key: Any, time_ms: int) -> Any:
        if key not in self._keys:
            self._read((key,))
        return super().context(key, time_ms)

    def _read(self, keys: Collection[Any]) -> None:
        names = [self._key.encode(key) for key in keys]
        for key, name, data in zip(keys, names, self.store.get_many(names), strict=True):
            self._keys[key] = None if data is None else self._thawed(name, data)

    def _forget(self, key: Any) -> None:
        self._keys[key] = None

    # -- time -----------------------------------------------------------------------------------------

    def _reached(self, clock: Clock, reached: int) -> Iterator[Due | None]:
        due = self._due[clock]
        while self._earliest_ms[clock] <= reached:
            for entry in self._stored_until(clock, reached):
                while due and due[0][:3] < entry[:3]:
                    yield heappop(due)
                yield entry
            if self._earliest_ms[clock] <= reached:  # there are more
                yield None
        while due and due[0][0] <= reached:
            yield heappop(due)

    def _stored_until(self, clock: Clock, reached: int) -> list[Due]:
        """The next stored timers up to this time, in order; many at most."""
        end = _from(clock, reached + 1) if reached < LATEST else _behind(clock)
        names = self.store.find(self._cursor[clock], end, PORTION)
        if names:
            self._cursor[clock] = names[-1][0] + b"\0"
        if len(names) < PORTION:
            self._earliest_ms[clock] = self._first_from(clock, end)
        decode = self._key.decode
        keys = {data: decode(data) for _, data in names}
        missing = [key for key in keys.values() if key not in self._keys]
        if missing:
            self._read(missing)
        found: list[Due] = []
        for name, data in names:
            at_ms, timer = number_in(name[1:]), name[KEY_AT + len(escaped(data)) :].decode()
            if self._stands(keys[data], clock, at_ms, timer):
                found.append((at_ms, data, timer, keys[data]))
            elif keys[data] not in self._touched and keys[data] not in self._committing:
                self._index.left_behind.append(name)
        return found

    def _first_from(self, clock: Clock, start: bytes) -> int:
        """When the first timer stored from here on is due."""
        for name, _ in self.store.find(start, _behind(clock), 1):
            return number_in(name[1:])
        return NONE_LEFT

    def _stands(self, key: Any, clock: Clock, at_ms: int, timer: str) -> bool:
        kept = self._keys.get(key)
        return kept is not None and kept.timers.get(timer) == (clock, at_ms)

    def due_ms(self) -> int | None:
        fresh, stored = super().due_ms(), self._earliest_ms["wall"]
        if stored == NONE_LEFT:
            return fresh
        return stored if fresh is None else min(fresh, stored)

    # -- commits --------------------------------------------------------------------------------------

    def changes(self) -> list[Change]:
        self._committing = self._touched.copy()
        changed = super().changes()
        self.entry_bytes = typical_bytes(changed) or self.entry_bytes
        return changed

    def written(self) -> None:
        self._committing = ()
        for clock, due in self._due.items():
            fresh: dict[Due, None] = {}
            for at_ms, data, timer, key in due:
                if not self._stands(key, clock, at_ms, timer):
                    continue
                if key in self._touched:
                    fresh[at_ms, data, timer, key] = None
                else:
                    self._earliest_ms[clock] = min(self._earliest_ms[clock], at_ms)
                    self._cursor[clock] = min(self._cursor[clock], _name(clock, at_ms, data, timer))
            due[:] = fresh
            heapify(due)
        if self.cached > self.cached_most:
            self._keys = {key: kept for key, kept in self._keys.items() if self._stays(key, kept)}
        else:
            for key in [k for k, kept in self._keys.items() if kept is None and k not in self._touched]:
                del self._keys[key]

    def _stays(self, key: Any, kept: Kept | None) -> bool:
        """It is not in the store as it is, or somebody holds the state and may change it."""
        if key in self._touched:
            return True
        return kept is not None and kept.state.__class__ not in IMMUTABLE and _references(kept) > UNHELD

    def load(self, watermark_ms: int) -> None:
        self.watermark_ms = watermark_ms
        self._keys.clear()
        self._touched.clear()
        self._committing = ()
        for due in self._due.values():
            due.clear()
        for clock, start in CLOCKS.items():
            self._cursor[clock], self._earliest_ms[clock] = start, self._first_from(clock, start)

    def __len__(self) -> int:
        return max(len(self._keys), len(self.store))
