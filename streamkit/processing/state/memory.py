"""A store in memory: gone with the process, so it is restored from its changelog from the beginning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from heapq import nsmallest

from streamkit.processing.state.store import Change


class MemoryStore:
    """`Store` over a dict."""

    spills = False

    def __init__(self) -> None:
        self.position = 0
        self.damaged = False
        self._entries: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self._entries.get(key)

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return [self._entries.get(key) for key in keys]

    def range(self, start: bytes, end: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        keys = (key for key in self._entries if start <= key and (end is None or key < end))
        return [(key, self._entries[key]) for key in nsmallest(limit, keys)]

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self._entries.items())

    def scan(self, cursor: object, limit: int) -> tuple[list[tuple[bytes, bytes]], object]:
        keys = cursor if isinstance(cursor, list) else list(self._entries)
        entries = [(key, self._entries[key]) for key in keys[-limit:] if key in self._entries]
        del keys[-limit:]
        return entries, keys or None

    def write(self, changes: Iterable[Change], position: int) -> None:
        latest = dict(changes)
        deleted = [key for key, value in latest.items() if value is None] if None in latest.values() else ()
        self._entries.update(latest)  # type: ignore[arg-type]
        for key in deleted:
            del self._entries[key]
        self.position = position

    def loading(self) -> AbstractContextManager[None]:
        return nullcontext()

    def clear(self) -> None:
        self._entries.clear()
        self.position = 0

    def close(self) -> None:
        """Nothing outlives it."""

    def __len__(self) -> int:
        return len(self._entries)
