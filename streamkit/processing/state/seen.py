"""What `deduplicate` remembers: when each (key, identity) was let through."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Any

import msgspec

from streamkit.processing.aggregations import plain
from streamkit.processing.serde import Serde
from streamkit.processing.state.operator_state import Computed
from streamkit.processing.state.store import Change, Store

_json = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode


class Named:
    """How what is remembered is named, and what the record in hand changes of it."""

    def __init__(self, key: Serde[Any]) -> None:
        self._key = key
        self._before: list[tuple[bytes, int | None]] = []  # names, and what was remembered

    def begin(self) -> None:
        """What is kept from here on is of another record."""
        self._before.clear()

    def name(self, key: Any, identity: Any) -> bytes:
        """What is equal for equal keys and identities."""
        return _pack((self._key.encode(key), _json(plain(identity))))


class Seen(Named):
    """Name → the latest event time of a record let through; forgotten `within_ms` behind the watermark."""

    def __init__(self, within_ms: int, key: Serde[Any], store: Store) -> None:
        super().__init__(key)
        self.store = store
        self._within_ms = within_ms
        self._times: dict[bytes, int] = {}
        self._leaving: list[tuple[int, bytes]] = []  # heap
        self._touched: dict[bytes, None] = {}

    def is_new(self, name: bytes, time_ms: int) -> bool:
        known = self._times.get(name)
        return known is None or abs(time_ms - known) >= self._within_ms

    def keep(self, name: bytes, time_ms: int) -> None:
        """A record was let through. One that is so far behind another is soon not recognised anyway."""
        known = self._times.get(name)
        if known is not None and known > time_ms:
            return
        self._before.append((name, known))
        self._times[name] = time_ms
        self._touched[name] = None
        heappush(self._leaving, (time_ms, name))

    def withdraw(self) -> None:
        """The record failed: it was not let through, and may come again."""
        for name, known in reversed(self._before):
            if known is None:
                del self._times[name]
            else:
                self._times[name] = known
        self.begin()

    def advance(self, watermark_ms: int, now_ms: int) -> Iterable[Computed]:
        while self._leaving and self._leaving[0][0] + self._within_ms <= watermark_ms:
            time_ms, name = heappop(self._leaving)
            if self._times.get(name) == time_ms:
                del self._times[name]
                self._touched[name] = None
        return ()

    def due_ms(self) -> int | None:
        return None

    def changes(self) -> list[Change]:
        changed: list[Change] = []
        for name in self._touched:
            time_ms = self._times.get(name)
            after = None if time_ms is None else b"%d" % time_ms
            if after != self.store.get(name):
                changed.append((name, after))
        self._touched.clear()
        self.begin()
        return changed

    def written(self) -> None:
        """Nothing: what is remembered stays in memory."""

    def load(self, watermark_ms: int) -> None:
        self._times = {name: int(time_ms) for name, time_ms in self.store.items()}
        self._leaving = sorted((time_ms, name) for name, time_ms in self._times.items())

    def __len__(self) -> int:
        return len(self._times)
