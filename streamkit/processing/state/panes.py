"""Hopping and sliding windows by panes: each record is aggregated once, and windows share what they have.

A *pane* is the longest stretch of time of which every window has all or nothing: gcd(size, every) for hopping
windows, a millisecond for sliding ones. A record updates the accumulator of its pane and key. When a window
closes, the panes that it has and its predecessor had not are pushed onto the key's `Run`, those before it are
dropped, and the run knows the merge of the rest: two stacks, so that a pane is merged a bounded number of
times however many windows it is in.

A record may be late for the first of its windows and in time for the others. It must not reach the former,
even if this task's watermark lets them stay open for a while. Such records go to a *partial* pane, which says
from which window on it counts; a pane is therefore named (start, first window).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from typing import Any

import msgspec

from streamkit.processing.accumulators import Accumulator, Layout
from streamkit.processing.serde import Serde
from streamkit.processing.state.buckets import Buckets
from streamkit.processing.state.operator_state import Computed
from streamkit.processing.state.store import Store
from streamkit.processing.tasks.watermark import NEVER
from streamkit.processing.windows import Hopping, Sliding

Merge = Callable[[Accumulator, Accumulator], Accumulator]
PaneName = tuple[int, int]  # start of the pane, start of the first window that has it
TOLD = b"told"  # the stored key of a `Told`; those of panes are longer


class Run:
    """Successive panes of one key, and their merge: a queue as two stacks.

    `_front` holds (pane, merge of it and all newer ones in front), the oldest on top; `_back` the panes since
    then as they are, and their merge.
    """

    __slots__ = ("_back", "_back_merged", "_front", "_partial", "name")

    def __init__(self, name: bytes) -> None:
        self.name = name  # the key as it is stored
        self._front: list[tuple[int, Accumulator]] = []
        self._back: list[tuple[int, Accumulator]] = []
        self._back_merged: Accumulator | None = None
        self._partial: list[tuple[int, Accumulator]] = []

    def push(self, pane: int, accumulator: Accumulator, merge: Merge) -> None:
        merged = self._back_merged
        self._back.append((pane, accumulator))
        self._back_merged = accumulator if merged is None else merge(merged, accumulator)

    def push_partial(self, pane: int, accumulator: Accumulator) -> None:
        self._partial.append((pane, accumulator))

    def drop_before(self, start: int, merge: Merge) -> bool:
        """Forget panes before `start`. False: none is left."""
        front = self._front
        while front and front[-1][0] < start:
            front.pop()
        if not front and self._back and self._back[0][0] < start:
            self._turn_over(start, merge)
        if self._partial:
            self._partial = [entry for entry in self._partial if entry[0] >= start]
        return bool(front or self._back or self._partial)

    def merged(self, merge: Merge) -> Accumulator:
        """The merge of everything here, of which there is something."""
        parts = [accumulator for _, accumulator in self._partial]
        if self._back_merged is not None:
            parts.append(self._back_merged)
        if self._front:
            parts.append(self._front[-1][1])
        result = parts.pop()
        while parts:
            result = merge(result, parts.pop())
        return result

    def _turn_over(self, start: int, merge: Merge) -> None:
        merged: Accumulator | None = None
        for pane, accumulator in reversed(self._back):
            if pane < start:
                break
            merged = accumulator if merged is None else merge(accumulator, merged)
            self._front.append((pane, merged))
        self._back.clear()
        self._back_merged = None


class PanedState(Buckets[PaneName]):
    """A bucket is a pane; and the runs from which closing windows are read.

    Invariants: a pane that was pushed onto runs takes no more records; `_closed` is the last window closed.
    """

    def __init__(self, window: Hopping | Sliding, layout: Layout, key: Serde[Any], store: Store) -> None:
        super().__init__(layout, key, store, spills=False)
        self._sliding = isinstance(window, Sliding)
        self._size_ms = window.size_ms
        self._span_ms = window.span_ms
        self._every_ms = window.every_ms if isinstance(window, Hopping) else 1
        self._runs: dict[Any, Run] = {}  # by key; in the order of names, unless `_unsorted`
        self._unsorted = False
        self._waiting: list[tuple[int, bool, int]] = []  # heap: first window, is whole, pane
        self._by_age: list[PaneName] = []  # heap
        self._closed = NEVER
        self._told: Told | None = None  # of the first window that is due, when it was being told on disk

    def first_window(self, pane: int) -> int:
        """The start of the first window that has this pane."""
        return (pane - self._size_ms) // self._every_ms * self._every_ms + self._every_ms

    def bucket(self, name: PaneName) -> dict[Any, Accumulator]:
        """The accumulators of a pane."""
        found = self.open.get(name)
        if found is None:
            found = self.open[name] = {}
            pane, first = name
            heappush(self._waiting, (first, first == self.first_window(pane), pane))
            heappush(self._by_age, name)
        return found

    def advance(self, watermark_ms: int, now_ms: int) -> Iterator[Computed]:
        """The windows that close, in the order of time, each once."""
        if watermark_ms <= self.watermark_ms:
            return
        self.watermark_ms = watermark_ms
        limit = watermark_ms - self._span_ms
        yield from self._close_sliding(limit) if self._sliding else self._close_hopping(limit)
        self._forget(limit)

    def _close_hopping(self, limit: int) -> Iterator[Computed]:
        merge = self._layout.merge
        while True:
            if self._runs:
                window = self._closed + self._every_ms
            elif self._waiting:
                window = self._waiting[0][0]
            else:
                return
            if window > limit:
                return
            self._push(window)
            self._closed = window
            told, self._told = self._told, None
            if told is not None:
                self._removed.append(TOLD)
            if self._unsorted:
                self._runs = dict(sorted(self._runs.items(), key=_name_of_run))
                self._unsorted = False
            for key, run in list(self._runs.items()):
                if not run.drop_before(window, merge):
                    del self._runs[key]
                elif told is None or not told.has(window, run.name):
                    yield self._computed(window, key, run)

    def _close_sliding(self, limit: int) -> Iterator[Computed]:
        merge, told = self._layout.merge, self._told
        while self._waiting and self._waiting[0][0] <= limit:
            window, whole, pane = heappop(self._waiting)
            self._push_pane(window, whole, pane)
            if whole:
                for key, run in self._runs_of(self.open[pane, window]):
                    run.drop_before(window, merge)
                    if told is None or not told.has(window, run.name):
                        yield self._computed(window, key, run)
        if told is not None:
            self._removed.append(TOLD)
            self._told = None

    def _runs_of(self, bucket: dict[Any, Accumulator]) -> list[tuple[Any, Run]]:
        """Of the keys of a pane, in the order of their names."""
        runs = [(key, self._runs[key]) for key in bucket]
        if len(runs) > 1:
            runs.sort(key=_name_of_run)
        return runs

    def _push(self, window: int) -> None:
        """Onto the runs with every pane that this window is the first to have."""
        while self._waiting and self._waiting[0][0] <= window:
            self._push_pane(*heappop(self._waiting))

    def _push_pane(self, first: int, whole: bool, pane: int) -> None:
        merge = self._layout.merge
        for key, accumulator in self.open[pane, first].items():
            run = self._runs.get(key)
            if run is None:
                run = self._runs[key] = Run(self._key.encode(key))
                self._unsorted = True
            if whole:
                run.push(pane, accumulator, merge)
            else:
                run.push_partial(pane, accumulator)

    def _forget(self, limit: int) -> None:
        """Panes whose last window is closed."""
        every = self._every_ms
        while self._by_age and self._by_age[0][0] // every * every <= limit:
            name = heappop(self._by_age)
            for key in self._remove(name):
                run = self._runs.get(key)
                if self._sliding and run is not None and not run.drop_before(limit + 1, self._layout.merge):
                    del self._runs[key]

    def load(self, watermark_ms: int) -> None:
        self.watermark_ms = watermark_ms
        for kept in (self.open, self._runs, self._waiting, self._by_age):
            kept.clear()
        self._told = None
        for data, value in self.store.items():
            if data == TOLD:
                self._told = Told.decode(value)
            else:
                self.bucket(pane_in(data))[self._key.decode(data[16:])] = self._thaw(value)
        limit = watermark_ms - self._span_ms
        self._closed = limit // self._every_ms * self._every_ms
        if self._told is not None:
            self._closed = self._told.window - self._every_ms
        self._push(self._closed)
        for key, run in list(self._runs.items()):
            if not run.drop_before(self._closed, self._layout.merge):
                del self._runs[key]

    def _computed(self, start: int, key: Any, run: Run) -> Computed:
        self.closed += 1
        end = start + self._size_ms
        return (start, end, run.merged(self._layout.merge)), key, end - 1, end - 1

    def _prefix(self, name: PaneName) -> bytes:
        return pane_prefix(name)

    def _named(self, data: bytes) -> tuple[PaneName | None, bytes]:
        return named(data)

    def _names(self, ts: int) -> tuple[()]:
        return ()


class Told(msgspec.Struct, frozen=True):
    """How far the windows that are due have been told, where a commit fell in between: all before `window`,
    and of it the keys up to `through` in the order of their bytes; None: none of them.
    """

    window: int
    through: bytes | None

    def has(self, window: int, key: bytes) -> bool:
        return window == self.window and self.through is not None and key <= self.through

    def encode(self) -> bytes:
        start = self.window.to_bytes(8, "big", signed=True)
        return start if self.through is None else start + b"\1" + self.through

    @classmethod
    def decode(cls, data: bytes) -> Told:
        return cls(int.from_bytes(data[:8], "big", signed=True), data[9:] if len(data) > 8 else None)


def _name_of_run(entry: tuple[Any, Run]) -> bytes:
    return entry[1].name


def pane_prefix(name: PaneName) -> bytes:
    pane, first = (ms.to_bytes(8, "big", signed=True) for ms in name)
    return pane + first


def pane_in(data: bytes) -> PaneName:
    """The pane of a stored key."""
    return int.from_bytes(data[:8], "big", signed=True), int.from_bytes(data[8:16], "big", signed=True)


def named(data: bytes) -> tuple[PaneName | None, bytes]:
    return (None, data) if data == TOLD else (pane_in(data), data[:16])
