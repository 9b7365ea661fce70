"""Hopping windows by panes, where the panes need not fit into memory.

Each record updates its pane as in `panes`. When a window closes, its panes are read side by side, each in the
order of its keys, so that what a key has in all of them comes together and is merged. A pane is read once for
each window that has it, and goes with the last of them; no runs are kept.

The task may pause and commit in the middle of a window. Of the panes that later windows need nothing shows
then how far it was told, so a row of its own says it (`Told`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import groupby
from operator import itemgetter
from typing import Any

from streamkit.processing.accumulators import Accumulator, Layout
from streamkit.processing.serde import Serde
from streamkit.processing.state.buckets import PORTION, Buckets
from streamkit.processing.state.operator_state import Computed
from streamkit.processing.state.panes import TOLD, PaneName, Told, named, pane_prefix
from streamkit.processing.state.store import Change, Store
from streamkit.processing.tasks.watermark import NEVER
from streamkit.processing.windows import Hopping

Entry = tuple[bytes, Any, Accumulator, PaneName]  # encoded key, key, what the pane has of it, the pane


class StoredPanes(Buckets[PaneName]):
    """A bucket is a pane.

    Invariant: `_closed` is the last window closed, and no pane ends before the next.
    """

    def __init__(self, window: Hopping, layout: Layout, key: Serde[Any], store: Store) -> None:
        super().__init__(layout, key, store, spills=True)
        self._size_ms = window.size_ms
        self._span_ms = window.span_ms
        self._every_ms = window.every_ms
        self._pane_ms = window.pane_ms
        self._closed = NEVER
        self._told: Told | None = None

    def bucket(self, name: PaneName) -> dict[Any, Accumulator]:
        """The accumulators of a pane."""
        found = self.open.get(name)
        if found is None:
            found = self.open[name] = {}
        return found

    def advance(self, watermark_ms: int, now_ms: int) -> Iterator[Computed | None]:
        """The windows that close, in the order of time, each once."""
        if watermark_ms <= self.watermark_ms:
            return
        self.watermark_ms = watermark_ms
        limit = watermark_ms - self._span_ms
        while (window := self._next()) is not None and window <= limit:
            yield from self._close(window)
            self._closed, self._told = window, None

    def _next(self) -> int | None:
        """The first window that is not closed and has a pane."""
        return min((max(first, self._closed + self._every_ms) for _, first in self.open), default=None)

    def _close(self, window: int) -> Iterator[Computed | None]:
        panes = sorted(name for name in self.open if name[1] <= window <= name[0])
        over = {name for name in panes if name[0] // self._every_ms * self._every_ms == window}
        self._draining.update(panes)
        worked = 0
        for data, entries in groupby(merge(*map(self._pane, panes), key=itemgetter(0)), itemgetter(0)):
            if worked >= PORTION:
                worked = 0
                yield None
            key, merged = self._gathered(entries, over)
            worked += 1
            if self._told is None or not self._told.has(window, data):
                self._told = Told(window, data)
                self.closed += 1
                end = window + self._size_ms
                yield (window, end, merged), key, end - 1, end - 1
        self._draining.clear()
        for name in over:
            self._drop(name)

    def _gathered(self, entries: Iterable[Entry], over: set[PaneName]) -> tuple[Any, Accumulator]:
        """A key and the merge of its entries, which are taken out of the panes that are over."""
        merged: Accumulator | None = None
        key: Any = None
        for data, key, accumulator, name in entries:
            merged = accumulator if merged is None else self._layout.merge(merged, accumulator)
            if name in over:
                self._take_out(self.open[name], pane_prefix(name) + data, key, accumulator)
        assert merged is not None
        return key, merged

    def _pane(self, name: PaneName) -> Iterator[Entry]:
        for data, key, accumulator in self._in_order(name):
            yield data, key, accumulator, name

    def changes(self) -> list[Change]:
        changed = super().changes()
        before, after = self.store.get(TOLD), None if self._told is None else self._told.encode()
        return changed if before == after else [*changed, (TOLD, after)]

    def load(self, watermark_ms: int) -> None:
        self.watermark_ms = watermark_ms
        self.open.clear()
        self._discover()
        limit, told = watermark_ms - self._span_ms, self.store.get(TOLD)
        self._closed = limit // self._every_ms * self._every_ms
        self._told = None if told is None else Told.decode(told)
        if self._told is not None:
            self._closed = self._told.window - self._every_ms

    def _names(self, ts: int) -> Iterable[PaneName]:
        pane = ts - ts % self._pane_ms
        first = (pane - self._size_ms) // self._every_ms * self._every_ms + self._every_ms
        return ((pane, first),)

    def _prefix(self, name: PaneName) -> bytes:
        return pane_prefix(name)

    def _named(self, data: bytes) -> tuple[PaneName | None, bytes]:
        return named(data)
