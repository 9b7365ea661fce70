"""What `deduplicate` remembers, where that need not fit into memory.

The store has the times by their names, an index has the names by their times; so what is to be forgotten is
read in the order of time. In memory is what changed since the last commit, and of the rest what was asked for
lately; None in there: known not to be remembered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Any

from streamkit.processing.record import RawRecord
from streamkit.processing.serde import Serde
from streamkit.processing.state.buckets import PORTION
from streamkit.processing.state.cache import CACHED, KEEPS_ONE_IN, typical_bytes, with_keys
from streamkit.processing.state.seen import Named
from streamkit.processing.state.store import Change, NamedByValue, Store
from streamkit.processing.state.timeline import BIAS_BYTES, Timeline, number_in, ordered

EARLIEST, LATEST = b"", b"\xff"
_UNREAD: Any = object()


class SeenIndex(NamedByValue):
    """(time, name)."""

    version = "seen 1"

    def renamed(self, key: bytes, before: bytes | None, after: bytes | None) -> Iterable[Change]:
        if before == after:
            return
        if before is not None:
            yield ordered(int(before)) + key, None
        if after is not None:
            yield ordered(int(after)) + key, b""


class StoredSeen(Named):
    """See `Seen`. Invariant: what is in `_times` is right, and so is the store for every other name."""

    spills = True

    def __init__(self, within_ms: int, key: Serde[Any], store: Store, *, by_key: bool) -> None:
        """`by_key`: names follow from keys alone."""
        super().__init__(key)
        self.store = store
        self.cached_most = CACHED
        self.entry_bytes = 0
        self.by_key = by_key
        self._within_ms = within_ms
        self._times: dict[bytes, int | None] = {}
        self._leaving: list[tuple[int, bytes]] = []  # heap: those in `_times`, and some that were
        self._touched: dict[bytes, None] = {}
        self._recent: dict[bytes, None] = {}  # what the last `changes` were of
        self._begin()
        self._index = SeenIndex()
        store.keep_index(self._index)

    def _begin(self) -> None:
        self._timeline = Timeline(self.store.find, EARLIEST, LATEST)

    @property
    def cached(self) -> int:
        return len(self._times)

    # -- records --------------------------------------------------------------------------------------

    def foresee(self, records: Sequence[RawRecord]) -> None:
        """Fetch what these records need."""
        names = with_keys(records, lambda data: self.name(self._key.decode(data), None))
        wanted = dict.fromkeys(name for name, _ in names if name not in self._times)
        if wanted:
            for name, value in zip(wanted, self.store.get_many(list(wanted)), strict=True):
                self._hold(name, value)

    def is_new(self, name: bytes, time_ms: int) -> bool:
        known: int | None = self._times.get(name, _UNREAD)
        if known is _UNREAD:
            known = self._hold(name, self.store.get(name))
        return known is None or abs(time_ms - known) >= self._within_ms

    def keep(self, name: bytes, time_ms: int) -> None:
        known = self._times[name]
        if known is not None and known > time_ms:
            return
        self._before.append((name, known))
        self._times[name] = time_ms
        self._touched[name] = None
        heappush(self._leaving, (time_ms, name))

    def withdraw(self) -> None:
        for name, known in reversed(self._before):
            self._times[name] = known
        self.begin()

    def _hold(self, name: bytes, value: bytes | None) -> int | None:
        time_ms = self._times[name] = None if value is None else int(value)
        if time_ms is not None:
            heappush(self._leaving, (time_ms, name))
        return time_ms

    # -- time -----------------------------------------------------------------------------------------

    def advance(self, watermark_ms: int, now_ms: int) -> Iterator[None]:
        limit = watermark_ms - self._within_ms
        held = self._held_until(limit)
        while some := list(islice(held, PORTION)):
            yield from self._forget(some)
        while self._is_due(limit):
            yield from self._forget(self._stored_until(limit))

    def _forget(self, names: Sequence[bytes]) -> Iterator[None]:
        for name in names:
            self._times[name] = None
            self._touched[name] = None
        if len(names) == PORTION:
            yield None

    def _held_until(self, limit: int) -> Iterator[bytes]:
        while self._leaving and self._leaving[0][0] <= limit:
            time_ms, name = heappop(self._leaving)
            if self._times.get(name) == time_ms:
                yield name

    def _stored_until(self, limit: int) -> list[bytes]:
        """A portion of the names that only the store has. After a bulk load some have another time by now."""
        popped: list[bytes] = []
        while len(popped) < PORTION and self._is_due(limit):
            popped.append(self._timeline.pop())
        names = list(dict.fromkeys(entry[BIAS_BYTES:] for entry in popped))
        stored = dict(zip(names, self.store.get_many(names), strict=True))
        self._index.left_behind += (n for n in popped if stored[n[BIAS_BYTES:]] != b"%d" % number_in(n))
        known = self._times
        return [
            n for n, value in stored.items() if n not in known and value is not None and int(value) <= limit
        ]

    def _is_due(self, limit: int) -> bool:
        entry = self._timeline.first()
        return entry is not None and number_in(entry[0]) <= limit

    def due_ms(self) -> int | None:
        return None

    # -- commits --------------------------------------------------------------------------------------

    def changes(self) -> list[Change]:
        times = self._times
        kept = [(name, time_ms) for name in self._touched if (time_ms := times[name]) is not None]
        changed: list[Change] = [(name, b"%d" % time_ms) for name, time_ms in kept]
        gone = [name for name in self._touched if times[name] is None]
        stored = zip(gone, self.store.get_many(gone), strict=True)
        changed += [(name, None) for name, value in stored if value is not None]
        self.entry_bytes = typical_bytes(changed) or self.entry_bytes
        self._timeline.taken(ordered(self._leaving[0][0]) if self._leaving else None)
        self._recent, self._touched = self._touched, {}
        self.begin()
        return changed

    def written(self) -> None:
        self._timeline.written()
        if len(self._times) > self.cached_most:
            self._let_go()
        self._recent = {}

    def _let_go(self) -> None:
        """Forget what is in the store as it is, except half a cache of what changed last."""
        most = max(1, self.cached_most // KEEPS_ONE_IN)
        recent = list(self._recent)[-most:]
        self._times = {name: self._times[name] for name in (*recent, *self._touched)}
        self._leaving = [(time_ms, name) for name, time_ms in self._times.items() if time_ms is not None]
        heapify(self._leaving)

    def load(self, watermark_ms: int) -> None:
        for kept in (self._times, self._leaving, self._touched):
            kept.clear()
        self._begin()

    def __len__(self) -> int:
        return max(len(self._times), len(self.store))
