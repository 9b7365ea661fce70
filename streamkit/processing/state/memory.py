"""A store in memory: gone with the process, so it is restored from its changelog from the beginning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from heapq import nsmallest

from streamkit.processing.state.store import Change, Index


class MemoryStore:
    """`Store` over a dict."""

    spills = False

    def __init__(self) -> None:
        self.position = 0
        self.damaged = False
        self._entries: dict[bytes, bytes] = {}
        self._index: Index | None = None
        self._names: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self._entries.get(key)

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return [self._entries.get(key) for key in keys]

    def range(self, start: bytes, end: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        return _range(self._entries, start, end, limit)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self._entries.items())

    def scan(self, cursor: object, limit: int) -> tuple[list[tuple[bytes, bytes]], object]:
        keys = cursor if isinstance(cursor, list) else list(self._entries)
        entries = [(key, self._entries[key]) for key in keys[-limit:] if key in self._entries]
        del keys[-limit:]
        return entries, keys or None

    def keep_index(self, index: Index) -> None:
        before, self._index = self._index, index
        if self.position and (before is None or before.version != index.version):
            self.clear()
        else:
            index.load(self)

    def find(self, start: bytes, end: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        return _range(self._names, start, end, limit)

    def write(self, changes: Iterable[Change], position: int) -> None:
        latest = dict(changes)
        if self._index is not None:
            _update(self._names, dict(self._index.changes(latest, self.get_many)))
        _update(self._entries, latest)
        self.position = position

    def loading(self) -> AbstractContextManager[None]:
        return nullcontext()

    def clear(self) -> None:
        self._entries.clear()
        self._names.clear()
        self.position = 0
        if self._index is not None:
            self._index.load(self)

    def close(self) -> None:
        """Nothing outlives it."""

    def __len__(self) -> int:
        return len(self._entries)


def _range(
    entries: Mapping[bytes, bytes], start: bytes, end: bytes | None, limit: int
) -> list[tuple[bytes, bytes]]:
    keys = (key for key in entries if start <= key and (end is None or key < end))
    return [(key, entries[key]) for key in nsmallest(limit, keys)]


def _update(entries: dict[bytes, bytes], latest: dict[bytes, bytes | None]) -> None:
    deleted = [key for key, value in latest.items() if value is None] if None in latest.values() else ()
    entries.update(latest)  # type: ignore[arg-type]
    for key in deleted:
        del entries[key]
