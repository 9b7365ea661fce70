"""A table whose entries expire: `app.table(..., ttl="1d")`.

An entry lives until the stream time of its partition is `ttl` past the stream time at which it was last
written. Both are read from the records, so a replay expires what the first run expired, whatever clocks said
and however the input was cut into slices. What has expired is gone for every reader at that moment; its
tombstone follows with one of the next commits, from a scan that passes through the store a stretch at a time
and only while it may find something. So nothing about entries is kept in memory.

Each stored value begins with eight bytes: the stream time in ms at which it was written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamkit.processing.serde import Serde
from streamkit.processing.state.cache import typical_bytes
from streamkit.processing.state.store import Change, Store
from streamkit.processing.table import IMMUTABLE, MISSING, TableState
from streamkit.processing.tasks.watermark import NEVER

STAMP = 8  # bytes
STRETCH = 1_000  # entries that a commit looks through, at least
ROUNDS = 100  # commits for a scan of a large store, at most


class ExpiringState(TableState):
    """`TableState` with a stamp for each entry.

    Invariant: no entry of the store is stamped before `_oldest_ms`, which a complete scan raises.
    """

    def __init__(
        self,
        key: Serde[Any],
        value: Serde[Any],
        default: Callable[[], Any] | None,
        store: Store,
        ttl_ms: int,
    ) -> None:
        super().__init__(key, value, default, store)
        self._ttl_ms = ttl_ms
        self._now_ms = NEVER
        self._stamps: dict[Any, int] = {}  # of cached entries
        self._looks: dict[Any, tuple[int, bytes]] = {}  # who got it may change it: when, and what it was then
        self._oldest_ms = NEVER
        self._cursor: object = None  # of the scan that is under way
        self._began_ms = self._met_ms = NEVER  # when that began, and the oldest that it leaves

    def reach(self, stream_time_ms: int) -> None:
        self._now_ms = max(self._now_ms, stream_time_ms)

    def get(self, key: Any) -> Any:
        value = self._live(key)
        if value is not MISSING and value.__class__ not in IMMUTABLE:
            self._touched[key] = None
            self._looks[key] = self._now_ms, self._value.encode(value)
        return value

    def row(self, key: Any) -> Any:
        value = self._live(key)
        return None if value is MISSING else value

    def put(self, key: Any, value: Any) -> None:
        super().put(key, value)
        self._stamps[key] = self._now_ms
        self._looks.pop(key, None)
        if value is not MISSING and value.__class__ not in IMMUTABLE:
            self._looks[key] = self._now_ms, self._value.encode(value)

    def changes(self) -> list[Change]:
        changed: list[Change] = []
        names, held = set[bytes](), dict[Any, None]()
        for key in self._touched:
            name = self._key.encode(key)
            names.add(name)
            before, value = self.store.get(name), self._cache.get(key, MISSING)
            after = None if value is MISSING else self._stamped(key, value, before)
            if after is None:
                self._cache[key] = MISSING
            if after != before:
                changed.append((name, after))
            if after is not None and self._is_held(key):
                held[key] = None
        self._touched = held
        self.entry_bytes = typical_bytes(changed) or self.entry_bytes
        self._looks = {key: self._looks[key] for key in held}
        return changed + self._expired(names)

    def written(self) -> None:
        super().written()
        if len(self._stamps) > 2 * len(self._cache) + STRETCH:
            self._stamps = {key: stamp for key, stamp in self._stamps.items() if key in self._cache}

    def load(self) -> None:
        super().load()
        self._stamps.clear()
        self._looks.clear()
        self._oldest_ms, self._cursor = NEVER, None

    # -- inside ---------------------------------------------------------------------------------------

    def _live(self, key: Any) -> Any:
        """The value while it lives; read into the cache."""
        value = self._cache.get(key, self)
        if value is self:
            data = self.store.get(self._key.encode(key))
            if data is None or self._is_over(stamp_of(data)):
                return MISSING
            value = self._cache[key] = self._value.decode(data[STAMP:])
            self._stamps[key] = stamp_of(data)
        elif value is not MISSING:
            self._heed_change(key, value)
            if self._is_over(self._stamps[key]):
                return MISSING
        return value

    def _heed_change(self, key: Any, value: Any) -> None:
        """One that was changed in place was written when it was last given out."""
        looked_ms, before = self._looks.get(key, (0, b""))
        if before and (encoded := self._value.encode(value)) != before:
            self._stamps[key] = looked_ms
            self._looks[key] = looked_ms, encoded

    def _is_over(self, stamp_ms: int) -> bool:
        return stamp_ms + self._ttl_ms <= self._now_ms

    def _stamped(self, key: Any, value: Any, before: bytes | None) -> bytes | None:
        """What is to be stored of a touched entry; None: nothing, any more."""
        self._heed_change(key, value)
        encoded, stamp_ms = self._value.encode(value), self._stamps[key]
        was_over = before is None or self._is_over(stamp_of(before))
        if self._is_over(stamp_ms) or (was_over and self._is_unwritten_default(value, encoded)):
            return None
        return stamp_ms.to_bytes(STAMP, "big", signed=True) + encoded

    def _expired(self, touched: set[bytes]) -> list[Change]:
        """Tombstones for what a stretch of the scan found to be over."""
        if self._cursor is None:
            if not self._is_over(self._oldest_ms):
                return []
            self._began_ms = self._met_ms = self._now_ms
        stretch = max(STRETCH, len(self.store) // ROUNDS)
        entries, self._cursor = self.store.scan(self._cursor, stretch)
        over: list[Change] = []
        for name, data in entries:
            if name in touched:
                continue  # stamped anew, or gone already
            if self._is_over(stamp_of(data)):
                over.append((name, None))
            else:
                self._met_ms = min(self._met_ms, stamp_of(data))
        if self._cursor is None:
            self._oldest_ms = self._met_ms
        return over


def stamp_of(data: bytes) -> int:
    return int.from_bytes(data[:STAMP], "big", signed=True)
