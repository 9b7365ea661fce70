"""Sliding windows that need not fit into memory.

A record updates its pane as in `panes`. In the store panes stand in the order of time: in that order windows
close, each with the pane of its last record, and panes are over. An index has copies of them by key, so that
what one window is made of is read in one go.

In memory are all panes of some keys, and the run that their windows are read from: of keys with changes since
the last commit, and of others that were used lately. Of such a key memory decides, of every other the store.
Whose windows close according to the store comes into memory first, a portion at a time.

The task may pause and commit between two windows. Their panes outlive them, so a row of its own says how far
they were told (`Told`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import count
from sys import maxsize
from typing import Any

import orjson

from streamkit.processing.accumulators import Accumulator, Layout
from streamkit.processing.record import RawRecord
from streamkit.processing.serde import Serde
from streamkit.processing.state.buckets import encode
from streamkit.processing.state.cache import CACHED, KEEPS_ONE_IN, typical_bytes, with_keys
from streamkit.processing.state.operator_state import Computed
from streamkit.processing.state.panes import TOLD, PaneName, Run, Told, pane_in, pane_prefix
from streamkit.processing.state.store import Change, Store, Stored
from streamkit.processing.state.timeline import BIAS_BYTES, Entry, Timeline, number_in, ordered, prefixed
from streamkit.processing.tasks.watermark import NEVER
from streamkit.processing.windows import Sliding

KEY_AT = 16  # in a stored key: pane, first window, key
FIRST_TIME, PRESENT, LAST_TIME = ordered(-(1 << 62)), ordered(0), ordered(1 << 62)
PORTION = 250  # panes that are read, and windows told, before the task may pause
PANE_BYTES = 150  # what holds one in memory takes more than it does elsewhere


class SlidingIndex:
    """(key, pane, first window), with what is stored of it."""

    version = "sliding 1"

    def load(self, store: Store) -> None:
        """Nothing: it has no state."""

    def changes(self, entries: Mapping[bytes, bytes | None], stored: Stored | None) -> Iterable[Change]:
        for data, value in entries.items():
            if data != TOLD:
                yield prefixed(data[KEY_AT:]) + b"".join(map(ordered, pane_in(data))), value


class KeyPanes:
    """The panes of one key. `waiting` are those that are not in the run yet, by their first windows."""

    __slots__ = ("name", "panes", "run", "waiting")

    def __init__(self, name: bytes) -> None:
        self.name = name  # the key as it is stored
        self.panes: dict[PaneName, Accumulator] = {}
        self.run = Run(name)
        self.waiting: list[tuple[int, bool, int]] = []  # heap: first window, is whole, pane


class StoredSliding:
    """See `PanedState`.

    Invariants: `_held` has a key with all of its panes behind `_over` or not at all, and what changed since
    the last commit it has. The windows of held keys that are not told yet are in `_closing`, their panes in
    `_ending`.
    """

    spills = True

    def __init__(self, window: Sliding, layout: Layout, key: Serde[Any], store: Store) -> None:
        self.store = store
        self.watermark_ms = NEVER
        self.closed = 0
        self.cached_most = CACHED
        self.entry_bytes = 0
        self._size_ms = window.size_ms
        self._span_ms = window.span_ms
        self._layout = layout
        self._key = key
        self._held: dict[Any, KeyPanes] = {}
        self._panes = 0  # that are held
        self._worked = 0  # panes read and windows told since the last pause
        self._closing: list[tuple[int, bytes, Any]] = []  # heap: pane of the last record, stored key, key
        self._ending: list[tuple[int, int, int, Any]] = []  # heap: pane, first window, a number, key
        self._numbers = count()
        self._touched: dict[tuple[PaneName, Any], None] = {}
        self._recent: dict[Any, None] = {}  # the keys of the last `changes`
        self._gone: dict[bytes, None] = {}  # some of them may never have been stored
        self._closed = NEVER  # windows up to here are told
        self._over = NEVER  # panes up to here are none any more
        self._told: Told | None = None  # how far, while some are told
        # what the record in hand changes, and how that was before; None: not there
        self._before: list[tuple[Any, PaneName, Accumulator, list[Any] | None]] = []
        self._begin()
        store.keep_index(SlidingIndex())

    def _begin(self) -> None:
        last_told = self._closed if self._told is None else self._told.window - 1
        first = max(FIRST_TIME, ordered(max(NEVER, last_told + self._size_ms)))
        self._windows = Timeline(self._in_time, first, LAST_TIME)
        self._ends = Timeline(self._in_time, FIRST_TIME, LAST_TIME)

    @property
    def cached(self) -> int:
        return max(self._panes, len(self._held)) + len(self._gone)

    # -- records --------------------------------------------------------------------------------------

    def find(self, key: Any, name: PaneName) -> Accumulator | None:
        """The accumulator of a pane."""
        held = self._held.get(key)
        if held is None:
            self._hold((key,))
            held = self._held[key]
        return held.panes.get(name)

    def keep(self, key: Any, name: PaneName, accumulator: Accumulator) -> None:
        """One more record is in the accumulator of the pane."""
        self._touched[name, key] = None
        held = self._held[key]
        if name not in held.panes:
            self._add(key, held, name, accumulator)

    def begin(self) -> None:
        """What is changed from here on is another record's."""
        self._before.clear()

    def note(self, key: Any, name: PaneName, accumulator: Accumulator) -> None:
        """This one is going to change."""
        known = name in self._held[key].panes
        self._before.append((key, name, accumulator, self._layout.noted(accumulator) if known else None))

    def withdraw(self) -> None:
        """The record failed: as if it had not come."""
        for key, name, accumulator, before in reversed(self._before):
            if before is None:
                self._undo_add(key, name)
            else:
                self._layout.restore(accumulator, before)
        self.begin()

    def _undo_add(self, key: Any, name: PaneName) -> None:
        held, (pane, first) = self._held[key], name
        del held.panes[name]
        self._touched.pop((name, key), None)
        self._panes -= 1
        held.waiting.remove((first, first == self._window_of(pane), pane))
        heapify(held.waiting)
        closing = pane, held.name, key
        if first == self._window_of(pane) and closing in self._closing:
            self._closing.remove(closing)
            heapify(self._closing)

    def foresee(self, records: Sequence[RawRecord]) -> None:
        """Fetch what these records need."""
        self._hold(dict.fromkeys(key for key, _ in with_keys(records, self._key.decode)))

    def _hold(self, keys: Iterable[Any]) -> None:
        """Take what is stored of these keys into memory."""
        for key in keys:
            if key in self._held:
                continue
            encoded = self._key.encode(key)
            held = self._held[key] = KeyPanes(encoded)
            prefix = prefixed(encoded)
            for row, value in self.store.find(prefix + ordered(self._over + 1), prefix + b"\xff", maxsize):
                name = number_in(row[-2 * BIAS_BYTES :]), number_in(row[-BIAS_BYTES:])
                self._add(key, held, name, self._layout.thaw(orjson.loads(value)))
                self._worked += 1

    def _add(self, key: Any, held: KeyPanes, name: PaneName, accumulator: Accumulator) -> None:
        held.panes[name] = accumulator
        self._panes += 1
        pane, first = name
        is_whole = first == self._window_of(pane)
        heappush(held.waiting, (first, is_whole, pane))
        self._schedule(key, held, name)

    def _schedule(self, key: Any, held: KeyPanes, name: PaneName) -> None:
        pane, first = name
        heappush(self._ending, (pane, first, next(self._numbers), key))
        if first == self._window_of(pane) and not self._is_told(first, held.name):
            heappush(self._closing, (pane, held.name, key))

    def _window_of(self, pane: int) -> int:
        """The window whose last record is in this pane: the first that has it."""
        return pane + 1 - self._size_ms

    def _is_told(self, window: int, key: bytes) -> bool:
        told = self._told
        return window <= self._closed or (
            told is not None and (window < told.window or told.has(window, key))
        )

    # -- time -----------------------------------------------------------------------------------------

    def advance(self, watermark_ms: int, now_ms: int) -> Iterator[Computed | None]:
        """The windows that close, in the order of time, each once."""
        if watermark_ms <= self.watermark_ms:
            return
        self.watermark_ms = watermark_ms
        limit, self._worked = watermark_ms - self._span_ms, 0
        while self._is_due(limit):
            pane, name, key = heappop(self._closing)
            window = self._window_of(pane)
            if not self._is_told(window, name):
                self._told = Told(window, name)
                yield self._close(window, key)
                self._worked += 1
                if self._worked >= PORTION:
                    self._worked = 0
                    yield None
        yield from self._end(limit)
        self._closed, self._over, self._told = max(self._closed, limit), max(self._over, limit), None

    def _is_due(self, limit: int) -> bool:
        """Does the first window of the heap close? It is the first of all."""
        while True:
            is_due = bool(self._closing) and self._window_of(self._closing[0][0]) <= limit
            entry = self._windows.first()
            if entry is None or self._window_of(number_in(entry[0])) > limit:
                return is_due
            if is_due and self._closing[0][:2] < (number_in(entry[0]), entry[0][KEY_AT:]):
                return True
            self._take(limit)

    def _take(self, limit: int) -> None:
        """A portion of what closes according to the store, into memory."""
        most = self._panes + PORTION
        for _ in range(PORTION):
            entry = self._windows.first()
            if entry is None or self._window_of(number_in(entry[0])) > limit or self._panes >= most:
                break
            self._windows.pop()
            pane, first = pane_in(_stored(entry[0]))
            key = entry[0][KEY_AT:]
            if first == self._window_of(pane) and not self._is_told(first, key):
                self._hold((self._key.decode(key),))

    def _close(self, window: int, key: Any) -> Computed:
        held, merge = self._held[key], self._layout.merge
        while held.waiting and held.waiting[0][0] <= window:
            first, is_whole, pane = heappop(held.waiting)
            accumulator = held.panes.get((pane, first))
            if accumulator is not None and is_whole:
                held.run.push(pane, accumulator, merge)
            elif accumulator is not None:
                held.run.push_partial(pane, accumulator)
        held.run.drop_before(window, merge)
        self.closed += 1
        end = window + self._size_ms
        return (window, end, held.run.merged(merge)), key, end - 1, end - 1

    def _end(self, limit: int) -> Iterator[None]:
        """Panes whose last window is closed."""
        for number, _ in enumerate(self._ended(limit), 1):
            if number % PORTION == 0:
                yield None

    def _ended(self, limit: int) -> Iterator[None]:
        while self._ending and self._ending[0][0] <= limit:
            pane, first, _, key = heappop(self._ending)
            self._remove(key, (pane, first))
            yield None
        while (entry := self._ends.first()) is not None and number_in(entry[0]) <= limit:
            self._ends.pop()
            self._gone[_stored(entry[0])] = None
            yield None

    def _remove(self, key: Any, name: PaneName) -> None:
        held = self._held.get(key)
        if held is None or held.panes.pop(name, None) is None:
            return
        self._panes -= 1
        self._touched.pop((name, key), None)
        self._gone[pane_prefix(name) + held.name] = None
        if not held.panes:
            del self._held[key]

    def due_ms(self) -> int | None:
        return None

    # -- the store in the order of time -----------------------------------------------------------------

    def _in_time(self, start: bytes, end: bytes, limit: int) -> list[Entry]:
        """As `Store.range`, by names of `ordered`: the store has negative times behind the others."""
        found: list[Entry] = []
        if start < PRESENT:
            found += self.store.range(_stored(start), _stored(end) if end < PRESENT else None, limit)
        if end > PRESENT and len(found) < limit:
            bounds = _stored(max(start, PRESENT)), _stored(end)
            found += self.store.range(*bounds, limit - len(found))
        return [(_stored(name), value) for name, value in found]

    # -- commits --------------------------------------------------------------------------------------

    def changes(self) -> list[Change]:
        changed: list[Change] = []
        for name, key in self._touched:
            held = self._held[key]
            changed.append((pane_prefix(name) + held.name, encode(self._layout.freeze(held.panes[name]))))
        if changed:
            self.entry_bytes = typical_bytes(changed) + PANE_BYTES
        gone = list(self._gone)
        stored = zip(gone, self.store.get_many(gone), strict=True)
        changed += [(name, None) for name, value in stored if value is not None]
        before, after = self.store.get(TOLD), None if self._told is None else self._told.encode()
        if before != after:
            changed.append((TOLD, after))
        self._recent = {key: None for _, key in self._touched}
        self._touched.clear()
        self._gone.clear()
        self._windows.taken(ordered(self._closing[0][0]) if self._closing else None)
        self._ends.taken(ordered(self._ending[0][0]) if self._ending else None)
        return changed

    def written(self) -> None:
        self._windows.written()
        self._ends.written()
        if self.cached > self.cached_most:
            self._let_go()
        self._recent = {}

    def _let_go(self) -> None:
        """Forget what is in the store as it is, except half a cache of what changed last."""
        most, panes = self.cached_most // KEEPS_ONE_IN, 0
        kept = {key: None for _, key in self._touched}
        for key in reversed(self._recent):
            panes += len(self._held[key].panes) if key in self._held else 0
            if panes > most:
                break
            if key in self._held:
                kept[key] = None
        self._held = {key: self._held[key] for key in kept}
        self._panes = 0
        self._closing, self._ending = [], []
        for key, held in self._held.items():
            self._panes += len(held.panes)
            for name in held.panes:
                self._schedule(key, held, name)

    def load(self, watermark_ms: int) -> None:
        self.watermark_ms = watermark_ms
        for kept in (self._held, self._closing, self._ending, self._touched, self._gone):
            kept.clear()
        self._panes = 0
        self._closed, self._over = watermark_ms - self._span_ms, NEVER
        told = self.store.get(TOLD)
        self._told = None if told is None else Told.decode(told)
        self._begin()

    def __len__(self) -> int:
        return max(self._panes, len(self.store))


def _stored(name: bytes) -> bytes:
    """A name in the order of time as it is stored, and the other way round."""
    return bytes((name[0] ^ 0x80,)) + name[1:]
