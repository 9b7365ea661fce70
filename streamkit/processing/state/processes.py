"""What a `process` function keeps for each key: a state of its own, and timers.

A `Context` is what the function sees for one call. What it assigns or sets is taken over by `keep`, after
everything that the call caused has succeeded; so a call that fails and is tried again starts from the same
state, unless it changed the state object in place. States are compared with the store by their encoding at
each commit, so one that was changed in place is persisted like one that was assigned.

Timers of one time are due in the order of their keys' bytes, and then of their names.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from heapq import heappop, heappush
from typing import Any, Generic, Literal, TypeVar

import msgspec

from streamkit.errors import UsageError
from streamkit.processing.serde import Serde
from streamkit.processing.state.operator_state import Computed
from streamkit.processing.state.store import Change, Store
from streamkit.processing.units import instant_ms

K = TypeVar("K")
S = TypeVar("S")
Clock = Literal["event", "wall"]
Timers = dict[str, tuple[Clock, int]]
_pack = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder(tuple[bytes | None, Timers]).decode


class Context(Generic[K, S]):
    """One call of a `process` function: the record's key and event time, the key's state and timers."""

    __slots__ = ("_cancelled", "_timers", "key", "state", "time_ms", "timer")

    def __init__(self, key: K, time_ms: int, state: S | None, timer: str | None = None) -> None:
        self.key = key
        self.time_ms = time_ms
        self.state = state  # None deletes it
        self.timer = timer  # the name of the timer that called, if one did
        self._timers: Timers = {}
        self._cancelled: list[str] = []

    def set_timer(self, at: float | datetime, *, name: str = "", clock: Clock = "event") -> None:
        """Call `on_timer` when the clock reaches `at`: seconds since the epoch, or an aware datetime. A key
        has one timer of each name; setting it again moves it.
        """
        if clock not in ("event", "wall"):
            raise UsageError(f'a timer\'s clock is "event" or "wall", got {clock!r}')
        self._timers[name] = (clock, instant_ms(at))

    def cancel_timer(self, name: str = "") -> None:
        self._timers.pop(name, None)
        self._cancelled.append(name)


Due = tuple[int, bytes, str, Any]  # when, encoded key, timer, key


class Kept(msgspec.Struct):
    """A key's state and timers. `name`: the key as it is stored."""

    name: bytes
    state: Any
    timers: Timers


class ProcessState:
    """Key → `Kept`."""

    def __init__(self, key: Serde[Any], value: Serde[Any], store: Store) -> None:
        self.store = store
        self.watermark_ms = -(1 << 62)
        self._key = key
        self._value = value
        self._keys: dict[Any, Kept | None] = {}
        self._touched: dict[Any, None] = {}
        self._due: dict[Clock, list[Due]] = {"event": [], "wall": []}  # heaps

    def context(self, key: Any, time_ms: int) -> Context[Any, Any]:
        kept = self._keys.get(key)
        return Context(key, time_ms, None if kept is None else kept.state)

    def keep(self, context: Context[Any, Any]) -> None:
        """Take over what the call left in its context."""
        key = context.key
        kept = self._keys.get(key)
        if kept is None:
            if context.state is None and not context._timers:
                return
            kept = self._keys[key] = Kept(self._key.encode(key), None, {})
        self._touched[key] = None
        kept.state = context.state
        for name in context._cancelled:
            kept.timers.pop(name, None)
        for name, (clock, at_ms) in context._timers.items():
            kept.timers[name] = (clock, at_ms)
            heappush(self._due[clock], (at_ms, kept.name, name, key))
        if kept.state is None and not kept.timers:
            self._forget(key)

    def _forget(self, key: Any) -> None:
        del self._keys[key]

    def advance(self, watermark_ms: int, now_ms: int) -> Iterator[Computed | None]:
        """A context for each timer that is due, in the order of their times."""
        before, self.watermark_ms = self.watermark_ms, max(self.watermark_ms, watermark_ms)
        clocks: tuple[tuple[Clock, int], ...] = (("event", self.watermark_ms), ("wall", now_ms))
        for clock, reached in clocks:
            for due in self._reached(clock, reached):
                if due is None:
                    yield None
                    continue
                at_ms, _, name, key = due
                kept = self._keys.get(key)
                if kept is None or kept.timers.get(name) != (clock, at_ms):
                    continue  # cancelled or moved
                del kept.timers[name]
                self._touched[key] = None
                time_ms = max(at_ms, before) if clock == "event" else at_ms
                yield Context(key, time_ms, kept.state, name), key, time_ms, time_ms

    def _reached(self, clock: Clock, reached: int) -> Iterator[Due | None]:
        """The timers up to this time, in order, those that are set meanwhile among them; some of them may
        have been cancelled or moved.
        """
        due = self._due[clock]
        while due and due[0][0] <= reached:
            yield heappop(due)

    def due_ms(self) -> int | None:
        return self._due["wall"][0][0] if self._due["wall"] else None

    def changes(self) -> list[Change]:
        names = [self._key.encode(key) for key in self._touched]
        changed: list[Change] = []
        for key, name, before in zip(self._touched, names, self.store.get_many(names), strict=True):
            kept, after = self._keys.get(key), None
            if kept is not None:
                state = None if kept.state is None else self._value.encode(kept.state)
                after = _pack((state, kept.timers))
            if after != before:
                changed.append((name, after))
        self._touched.clear()
        return changed

    def written(self) -> None:
        """Nothing: states stay in memory."""

    def load(self, watermark_ms: int) -> None:
        self.watermark_ms = watermark_ms
        self._keys.clear()
        for due in self._due.values():
            due.clear()
        for name, data in self.store.items():
            key = self._key.decode(name)
            kept = self._keys[key] = self._thawed(name, data)
            for timer, (clock, at_ms) in kept.timers.items():
                heappush(self._due[clock], (at_ms, name, timer, key))

    def _thawed(self, name: bytes, data: bytes) -> Kept:
        state, timers = unpack(data)
        return Kept(name, None if state is None else self._value.decode(state), timers)

    def __len__(self) -> int:
        return len(self._keys)
