"""The rows of one partition of a table that follows a stream: the latest for each key, or a history of each.

`Rows` keeps the row that came last. `VersionedRows` keeps what each row was for `history_ms` of event time,
so that a record finds the row that was valid at its own time; a row that comes out of order takes its place
in the history. Times are those of the rows, not of a clock.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterable
from typing import Any

import msgspec

from streamkit.processing.serde import Serde
from streamkit.processing.state.cache import CACHED, typical_bytes
from streamkit.processing.state.operator_state import Computed
from streamkit.processing.state.store import Change, Store

_UNREAD: Any = object()
Version = tuple[int, Any]  # since when, row or None
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[tuple[int, bytes | None]]).decode


class CachedRows(ABC):
    """What is stored of each key, decoded when it is first read."""

    spills = True

    def __init__(self, key: Serde[Any], value: Serde[Any], store: Store) -> None:
        self.store = store
        self.cached_most = CACHED
        self.entry_bytes = 0
        self._key = key
        self._value = value
        self._cache: dict[Any, Any] = {}
        self._touched: dict[Any, None] = {}

    @abstractmethod
    def _encoded(self, kept: Any) -> bytes | None:
        """What is stored of it; None for nothing."""

    @property
    def cached(self) -> int:
        return len(self._cache)

    def advance(self, watermark_ms: int, now_ms: int) -> Iterable[Computed | None]:
        return ()

    def due_ms(self) -> int | None:
        return None

    def changes(self) -> list[Change]:
        encode = self._key.encode
        now = [(encode(key), self._encoded(self._cache[key])) for key in self._touched]
        stored = self.store.get_many([name for name, _ in now])
        changed = [change for change, before in zip(now, stored, strict=True) if change[1] != before]
        self.entry_bytes = typical_bytes(changed) or self.entry_bytes
        self._touched.clear()
        return changed

    def written(self) -> None:
        if len(self._cache) > self.cached_most:
            self._cache = {key: self._cache[key] for key in self._touched}

    def load(self, watermark_ms: int) -> None:
        self._cache.clear()
        self._touched.clear()

    def __len__(self) -> int:
        return len(self.store)


class Rows(CachedRows):
    """Key → row. Rows are not to be changed by those who read them."""

    def get(self, key: Any) -> Any:
        row = self._cache.get(key, _UNREAD)
        if row is _UNREAD:
            data = self.store.get(self._key.encode(key))
            row = self._cache[key] = None if data is None else self._value.decode(data)
        return row

    def as_of(self, key: Any, time_ms: int) -> Any:
        return self.get(key)

    def put(self, key: Any, row: Any, time_ms: int) -> None:
        """None deletes."""
        self._cache[key] = row
        self._touched[key] = None

    def _encoded(self, kept: Any) -> bytes | None:
        return None if kept is None else self._value.encode(kept)


class VersionedRows(CachedRows):
    """Key → versions in the order of time. The version valid at the start of the history is kept too."""

    def __init__(self, history_ms: int, key: Serde[Any], value: Serde[Any], store: Store) -> None:
        super().__init__(key, value, store)
        self._history_ms = history_ms

    def get(self, key: Any) -> Any:
        versions = self._versions(key)
        return versions[-1][1] if versions else None

    def as_of(self, key: Any, time_ms: int) -> Any:
        """None also where the history does not reach back so far."""
        versions = self._versions(key)
        index = bisect_right(versions, time_ms, key=_since)
        return versions[index - 1][1] if index else None

    def put(self, key: Any, row: Any, time_ms: int) -> None:
        versions = self._versions(key)
        index = bisect_right(versions, time_ms, key=_since)
        if index and versions[index - 1][0] == time_ms:
            versions[index - 1] = (time_ms, row)
        else:
            versions.insert(index, (time_ms, row))
        keep_from = bisect_right(versions, versions[-1][0] - self._history_ms, key=_since) - 1
        del versions[: max(0, keep_from)]
        self._touched[key] = None

    def is_latest(self, key: Any, time_ms: int) -> bool:
        """Would a row of this time be the key's current one?"""
        versions = self._versions(key)
        return not versions or time_ms >= versions[-1][0]

    def _encoded(self, kept: list[Version]) -> bytes | None:
        encode = self._value.encode
        rows = [(since, None if row is None else encode(row)) for since, row in kept]
        return _pack(rows) if rows else None

    def _versions(self, key: Any) -> list[Version]:
        versions: list[Version] | None = self._cache.get(key)
        if versions is None:
            data = self.store.get(self._key.encode(key))
            decode = self._value.decode
            stored = [] if data is None else _unpack(data)
            versions = [(since, None if row is None else decode(row)) for since, row in stored]
            self._cache[key] = versions
        return versions


def _since(version: Version) -> int:
    return version[0]
