"""The open windows of one task, for each kind of window, over a store with a changelog.

`AlignedState` serves tumbling windows, and hopping ones where results are wanted at every update: one
accumulator for each window and key. `CountState` keeps the one unfinished window of each key. See `panes` and
`sessions` for the others. What a state computes is `(start, end, accumulator, retracted)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from streamkit.processing.accumulators import Accumulator, Layout
from streamkit.processing.serde import Serde
from streamkit.processing.state.buckets import Buckets, encode
from streamkit.processing.state.operator_state import Computed
from streamkit.processing.state.store import Change, Store
from streamkit.processing.tasks.watermark import NEVER
from streamkit.processing.windows import Emit, Every, Hopping, Tumbling


class AlignedState(Buckets[int]):
    """A bucket is a window, named by its start.

    Invariant: every open window ends after `watermark_ms − grace`.
    """

    def __init__(
        self, window: Tumbling | Hopping, emit: Emit, layout: Layout, key: Serde[Any], store: Store
    ) -> None:
        super().__init__(layout, key, store)
        self.changed: dict[tuple[int, Any], Accumulator] = {}  # since the last emission, with emit=every
        self._size_ms = window.size_ms
        self._span_ms = window.span_ms
        self._emit = emit

    def bucket(self, start_ms: int) -> dict[Any, Accumulator]:
        """The accumulators of the window that starts here."""
        found = self.open.get(start_ms)
        if found is None:
            found = self.open[start_ms] = {}
        return found

    def advance(self, watermark_ms: int, now_ms: int) -> Iterator[Computed]:
        """What closes, in the order of time, each window once; before it, what is due while still open."""
        if watermark_ms <= self.watermark_ms:
            return
        before, self.watermark_ms = self.watermark_ms, watermark_ms
        limit = watermark_ms - self._span_ms
        if isinstance(self._emit, Every) and passed(before, watermark_ms, self._emit.interval_ms):
            changed, self.changed = self.changed, {}
            for (start, key), accumulator in changed.items():
                if start > limit:
                    yield self._computed(start, key, accumulator)
        for start in sorted(s for s in self.open if s <= limit):
            for key, accumulator in self._remove(start).items():
                self.closed += 1
                if self._emit != "on_update":
                    self.changed.pop((start, key), None)
                    yield self._computed(start, key, accumulator)

    def load(self, watermark_ms: int) -> None:
        self.watermark_ms = watermark_ms
        self.open.clear()
        for key, value in self.store.items():
            start = int.from_bytes(key[:8], "big", signed=True)
            self.bucket(start)[self._key.decode(key[8:])] = self._layout.thaw(orjson.loads(value))

    def _computed(self, start: int, key: Any, accumulator: Accumulator) -> Computed:
        end = start + self._size_ms
        return (start, end, accumulator, False), key, end - 1, end - 1

    def _store_key(self, start_ms: int, key: Any) -> bytes:
        return start_ms.to_bytes(8, "big", signed=True) + self._key.encode(key)


class CountState:
    """The unfinished window of each key: `[records, first time, last time, accumulator]`."""

    def __init__(self, n: int, layout: Layout, key: Serde[Any], store: Store) -> None:
        self.open: dict[Any, list[Any]] = {}
        self.watermark_ms = NEVER
        self.closed = 0
        self.store = store
        self._n = n
        self._layout = layout
        self._key = key
        self._touched: dict[Any, None] = {}

    def take(self, key: Any, entry: list[Any], ts: int) -> bool:
        """One more record is in the accumulator of `entry`. True: the window is full and gone."""
        entry[0] += 1
        entry[1] = min(entry[1], ts)
        entry[2] = max(entry[2], ts)
        self._touched[key] = None
        if entry[0] < self._n:
            self.open[key] = entry
            return False
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
        for key in self._touched:
            name, entry = self._key.encode(key), self.open.get(key)
            if entry is not None:
                changed.append((name, encode([*entry[:3], *self._layout.freeze(entry[3])])))
            elif self.store.get(name) is not None:
                changed.append((name, None))
        self._touched.clear()
        return changed

    def written(self) -> None:
        """Nothing: what is open stays in memory."""

    def load(self, watermark_ms: int) -> None:
        self.watermark_ms = watermark_ms
        self.open.clear()
        for key, value in self.store.items():
            count, first, last, *frozen = orjson.loads(value)
            self.open[self._key.decode(key)] = [count, first, last, self._layout.thaw(frozen)]

    def __len__(self) -> int:
        return len(self.open)


def passed(before_ms: int, now_ms: int, interval_ms: int) -> bool:
    """Does a multiple of the interval lie in (before, now]?"""
    return before_ms > NEVER and now_ms // interval_ms > before_ms // interval_ms
