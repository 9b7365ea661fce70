"""The open windows of one task, for each kind of window, over a store with a changelog.

`AlignedState` serves tumbling windows, and hopping ones where results are wanted at every update: one
accumulator for each window and key. `CountState` keeps the one unfinished window of each key. See `panes` and
`sessions` for the others. What a state computes is `(start, end, accumulator)`.

Windows that close together leave in the order of time, those of one time in the order of their keys' bytes:
the same whether they were in memory or on disk, before a restart or after.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import orjson

from streamkit.processing.accumulators import Accumulator, Layout
from streamkit.processing.record import RawRecord
from streamkit.processing.serde import Serde
from streamkit.processing.state.buckets import PORTION, Buckets, encode
from streamkit.processing.state.cache import CACHED, typical_bytes, with_keys
from streamkit.processing.state.operator_state import Computed
from streamkit.processing.state.store import Change, Store
from streamkit.processing.tasks.watermark import NEVER
from streamkit.processing.windows import Emit, Every, Hopping, Tumbling

FEW = 2  # windows on disk, which a record with an unusual time is looked for in
_UNREAD: Any = object()


class AlignedState(Buckets[int]):
    """A bucket is a window, named by its start.

    Invariant: every open window ends after `watermark_ms − grace`.
    """

    def __init__(
        self, window: Tumbling | Hopping, emit: Emit, layout: Layout, key: Serde[Any], store: Store
    ) -> None:
        super().__init__(layout, key, store, spills=store.spills)
        # since the last emission, with emit=every; None: only stored
        self.changed: dict[tuple[int, Any], Accumulator | None] = {}
        self._size_ms = window.size_ms
        self._span_ms = window.span_ms
        self._every_ms = window.every_ms if isinstance(window, Hopping) else window.size_ms
        self._emit = emit

    def bucket(self, start_ms: int) -> dict[Any, Accumulator]:
        """The accumulators of the window that starts here."""
        found = self.open.get(start_ms)
        if found is None:
            found = self.open[start_ms] = {}
        return found

    def advance(self, watermark_ms: int, now_ms: int) -> Iterator[Computed | None]:
        """What closes, in the order of time, each window once; before it, what is due while still open."""
        if watermark_ms <= self.watermark_ms:
            return
        before, self.watermark_ms = self.watermark_ms, watermark_ms
        limit = watermark_ms - self._span_ms
        if isinstance(self._emit, Every) and passed(before, watermark_ms, self._emit.interval_ms):
            yield from self._say_changed(limit)
        for start in sorted(s for s in self.open if s <= limit):
            for entries in self._drain(start):
                self.closed += len(entries)
                if self._emit != "on_update":
                    for _, key, accumulator in entries:
                        self.changed.pop((start, key), None)
                        yield self._computed(start, key, accumulator)
                if len(entries) == PORTION:
                    yield None

    def _say_changed(self, limit: int) -> Iterator[Computed | None]:
        changed, self.changed = self.changed, {}
        entries = iter(changed.items())
        while some := list(islice(entries, PORTION)):
            names = [self._store_key(*name) for name, accumulator in some if accumulator is None]
            stored = iter(self.store.get_many(names)) if names else iter(())
            for (start, key), held in some:
                value = next(stored) if held is None else None
                accumulator = held if value is None else self._thaw(value)
                if accumulator is not None and start > limit:
                    yield self._computed(start, key, accumulator)
            if len(some) == PORTION:
                yield None

    def load(self, watermark_ms: int) -> None:
        self.watermark_ms = watermark_ms
        self.open.clear()
        if self.spills:
            self._discover()
            return
        for key, value in self.store.items():
            self.bucket(_start_in(key))[self._key.decode(key[8:])] = self._thaw(value)

    def _let_go(self) -> None:
        super()._let_go()
        for name, key in self.changed:
            if self.open.get(name, {}).get(key) is None:
                self.changed[name, key] = None

    def _undo_begin(self, name: int, key: Any) -> None:
        super()._undo_begin(name, key)
        self.changed.pop((name, key), None)

    def _names(self, ts: int) -> Iterable[int]:
        """Those that have a record of this time; where none is on disk the times may be another's, so all."""
        first = (ts - self._size_ms) // self._every_ms * self._every_ms + self._every_ms
        names = [start for start in range(first, ts + 1, self._every_ms) if start in self._partial]
        return names or (self._partial if len(self._partial) <= FEW else ())

    def _computed(self, start: int, key: Any, accumulator: Accumulator) -> Computed:
        end = start + self._size_ms
        return (start, end, accumulator), key, end - 1, end - 1

    def _prefix(self, start_ms: int) -> bytes:
        return start_ms.to_bytes(8, "big", signed=True)

    def _named(self, data: bytes) -> tuple[int, bytes]:
        return _start_in(data), data[:8]

    def _store_key(self, start_ms: int, key: Any) -> bytes:
        return self._prefix(start_ms) + self._key.encode(key)


class CountState:
    """The unfinished window of each key: `[records, first time, last time, accumulator]`.

    Where the store spills, `open` is a cache over it; None in it: finished since the last commit.
    """

    def __init__(self, n: int, layout: Layout, key: Serde[Any], store: Store) -> None:
        self.open: dict[Any, list[Any] | None] = {}
        self.watermark_ms = NEVER
        self.closed = 0
        self.store = store
        self.spills = store.spills
        self.cached_most = CACHED
        self.entry_bytes = 0
        self._n = n
        self._layout = layout
        self._key = key
        self._touched: dict[Any, None] = {}
        self._before: list[tuple[Any, list[Any] | None, list[Any]]] = []

    @property
    def cached(self) -> int:
        return len(self.open)

    def begin(self) -> None:
        """What is changed from here on is another record's."""
        self._before.clear()

    def note(self, key: Any, entry: list[Any]) -> None:
        """This one is going to change."""
        before = entry[:3] if entry[0] else None
        self._before.append((key, entry if before else None, [before, self._layout.noted(entry[3])]))

    def withdraw(self) -> None:
        """The record failed: as if it had not come."""
        for key, entry, (before, noted) in reversed(self._before):
            if entry is None and not self.spills:
                self.open.pop(key, None)
            elif entry is None:
                self.open[key] = None  # one in the store may be finished
            else:
                entry[:3] = before
                self._layout.restore(entry[3], noted)
                self.open[key] = entry
        self.begin()

    def find(self, key: Any) -> list[Any] | None:
        """The unfinished window of a key."""
        entry: list[Any] | None = self.open.get(key, _UNREAD)
        if entry is _UNREAD:
            value = self.store.get(self._key.encode(key)) if self.spills else None
            entry = None if value is None else self._thaw(value)
            if entry is not None:
                self.open[key] = entry
        return entry

    def foresee(self, records: Sequence[RawRecord]) -> None:
        """Fetch what these records need."""
        wanted = dict[bytes, Any]()
        for key, _ in with_keys(records, self._key.decode):
            if key not in self.open:
                wanted[self._key.encode(key)] = key  # others may spell it otherwise
        if not wanted:
            return
        for key, value in zip(wanted.values(), self.store.get_many(list(wanted)), strict=True):
            self.open[key] = None if value is None else self._thaw(value)

    def take(self, key: Any, entry: list[Any], ts: int) -> bool:
        """One more record is in the accumulator of `entry`. True: the window is full and gone."""
        entry[0] += 1
        entry[1] = min(entry[1], ts)
        entry[2] = max(entry[2], ts)
        self._touched[key] = None
        if entry[0] < self._n:
            self.open[key] = entry
            return False
        if self.spills:
            self.open[key] = None
        else:
            self.open.pop(key, None)
        self.closed += 1
        return True

    def advance(self, watermark_ms: int, now_ms: int) -> tuple[Computed, ...]:
        self.watermark_ms = max(self.watermark_ms, watermark_ms)
        return ()

    def due_ms(self) -> int | None:
        return None

    def changes(self) -> list[Change]:
        changed: list[Change] = []
        finished: list[bytes] = []
        for key in self._touched:
            name, entry = self._key.encode(key), self.open.get(key)
            if entry is not None:
                changed.append((name, encode([*entry[:3], *self._layout.freeze(entry[3])])))
            else:
                finished.append(name)
        self.entry_bytes = typical_bytes(changed) or self.entry_bytes
        stored = zip(finished, self.store.get_many(finished), strict=True)
        changed += [(name, None) for name, value in stored if value is not None]
        self._touched.clear()
        return changed

    def written(self) -> None:
        if not self.spills:
            return
        if len(self.open) > self.cached_most:
            self.open = {key: self.open[key] for key in self._touched}
        else:
            for key in [k for k, entry in self.open.items() if entry is None and k not in self._touched]:
                del self.open[key]

    def load(self, watermark_ms: int) -> None:
        self.watermark_ms = watermark_ms
        self.open.clear()
        if not self.spills:
            self.open = {self._key.decode(key): self._thaw(value) for key, value in self.store.items()}

    def _thaw(self, value: bytes) -> list[Any]:
        count, first, last, *frozen = orjson.loads(value)
        return [count, first, last, self._layout.thaw(frozen)]

    def __len__(self) -> int:
        return max(len(self.open), len(self.store)) if self.spills else len(self.open)


def _start_in(data: bytes) -> int:
    """The window of a stored key."""
    return int.from_bytes(data[:8], "big", signed=True)


def passed(before_ms: int, now_ms: int, interval_ms: int) -> bool:
    """Does a multiple of the interval lie in (before, now]?"""
    return before_ms > NEVER and now_ms // interval_ms > before_ms // interval_ms
