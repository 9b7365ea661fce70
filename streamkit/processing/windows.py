"""Windows over event time, and the state that they keep.

A tumbling window of size S is `[n·S, (n+1)·S)`, aligned to the epoch: every record is in exactly one. At
stream time T a window accepts a record as long as `end > T − grace`; after that the record is late. It
closes, once, when the task's watermark reaches `end + grace`. So a task holds the windows of `size + grace`
of event time and no more, and the changelog holds their tombstones until the broker compacts them away.

An *accumulator* is a list `[dirty, slot, …]` that the generated loop updates in place; the slots belong to
the aggregations in order. Aggregations are given as Python expressions because they are compiled into that
loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal

import msgspec
import orjson

from streamkit.errors import UsageError
from streamkit.processing.serde import Serde
from streamkit.processing.state.store import Change, Store
from streamkit.processing.units import Duration, duration_ms
from streamkit.processing.watermark import NEVER

Emit = Literal["on_close", "on_update"]
Accumulator = list[Any]
_encode = msgspec.json.Encoder().encode


class Tumbling(msgspec.Struct, frozen=True):
    """Windows side by side: `size_ms` long, open for late records `grace_ms` past their end."""

    size_ms: int
    grace_ms: int

    @property
    def span_ms(self) -> int:
        """From the start of a window to its close."""
        return self.size_ms + self.grace_ms

    def __str__(self) -> str:
        return f"tumbling {self.size_ms} ms, grace {self.grace_ms} ms"


def tumbling(size: Duration, *, grace: Duration = 0) -> Tumbling:
    """Epoch-aligned windows side by side: `sk.tumbling("1m", grace="10s")`."""
    size_ms = duration_ms(size)
    if size_ms == 0:
        raise UsageError("a window needs a size greater than zero")
    return Tumbling(size_ms, duration_ms(grace))


# -- aggregations ---------------------------------------------------------------------------------------

Of = str | Callable[[Any], Any] | None


class Aggregation(msgspec.Struct, frozen=True):
    """What is kept for one named result, as expressions over its slots.

    `of`: the field of the value, or a function of it, that is aggregated.
    """

    of: Of = None
    appends: ClassVar[bool] = False  # what `combine` gives is appended to the slot, a list

    @property
    def initial(self) -> tuple[str, ...]:
        """The slots' first contents."""
        raise NotImplementedError

    def combine(self, slots: tuple[str, ...], x: str) -> tuple[str, ...]:
        """The slots' contents after one more `x`. Nothing is stored until all of these succeeded."""
        raise NotImplementedError

    def result(self, slots: tuple[str, ...]) -> str:
        return slots[0]

    @property
    def fingerprint(self) -> str:
        field = self.of if isinstance(self.of, str) else "" if self.of is None else "function"
        return f"{type(self).__name__}({field})"


class Count(Aggregation, frozen=True):
    """How many records."""

    def __post_init__(self) -> None:
        if self.of is not None:
            raise UsageError("Count() counts records; filter the stream to count some of them")

    @property
    def initial(self) -> tuple[str, ...]:
        return ("0",)

    def combine(self, slots: tuple[str, ...], x: str) -> tuple[str, ...]:
        return (f"{slots[0]} + 1",)


class Sum(Aggregation, frozen=True):
    """The sum of a field, or of a function of the value."""

    @property
    def initial(self) -> tuple[str, ...]:
        return ("0",)

    def combine(self, slots: tuple[str, ...], x: str) -> tuple[str, ...]:
        return (f"{slots[0]} + {x}",)


class Min(Aggregation, frozen=True):
    """The least."""

    @property
    def initial(self) -> tuple[str, ...]:
        return ("None",)

    def combine(self, slots: tuple[str, ...], x: str) -> tuple[str, ...]:
        return (f"{x} if {slots[0]} is None or {x} < {slots[0]} else {slots[0]}",)


class Max(Aggregation, frozen=True):
    """The greatest."""

    @property
    def initial(self) -> tuple[str, ...]:
        return ("None",)

    def combine(self, slots: tuple[str, ...], x: str) -> tuple[str, ...]:
        return (f"{x} if {slots[0]} is None or {x} > {slots[0]} else {slots[0]}",)


class Mean(Aggregation, frozen=True):
    """The arithmetic mean."""

    @property
    def initial(self) -> tuple[str, ...]:
        return ("0", "0")

    def combine(self, slots: tuple[str, ...], x: str) -> tuple[str, ...]:
        return (f"{slots[0]} + {x}", f"{slots[1]} + 1")

    def result(self, slots: tuple[str, ...]) -> str:
        return f"{slots[0]} / {slots[1]}"


class Collect(Aggregation, frozen=True):
    """Every value (or field of it) in the order of arrival, as plain JSON values."""

    appends: ClassVar[bool] = True

    @property
    def initial(self) -> tuple[str, ...]:
        return ("[]",)

    def combine(self, slots: tuple[str, ...], x: str) -> tuple[str, ...]:
        return (f"plain({x})",)

    def result(self, slots: tuple[str, ...]) -> str:
        return f"[*{slots[0]}]"


def plain(value: Any) -> Any:
    """The value as JSON will give it back, so that a restored window equals one that was never stored."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return msgspec.to_builtins(value)


# -- state ----------------------------------------------------------------------------------------------


class WindowState:
    """The open windows of one task: start → key → accumulator, over a store with a changelog.

    Invariant: every open window ends after `watermark_ms − grace`.
    """

    def __init__(self, window: Tumbling, key: Serde[Any], delay_ms: int, store: Store) -> None:
        self.window = window
        self.open: dict[int, dict[Any, Accumulator]] = {}
        self.dirty: list[tuple[int, Any, Accumulator]] = []
        self.watermark_ms = NEVER
        self.closed = 0
        self.store = store
        self._key = key
        self.delay_ms = delay_ms
        self._removed: list[bytes] = []

    def bucket(self, start_ms: int) -> dict[Any, Accumulator]:
        """The accumulators of the window that starts here."""
        found = self.open.get(start_ms)
        if found is None:
            found = self.open[start_ms] = {}
        return found

    def close(self, task_watermark_ms: int) -> Iterator[tuple[int, Any, Accumulator]]:
        """Advance, and yield what closes by it, in the order of time; each window is yielded once."""
        self.watermark_ms = max(self.watermark_ms, task_watermark_ms - self.delay_ms)
        limit = self.watermark_ms - self.window.span_ms
        for start in sorted(s for s in self.open if s <= limit):
            for key, accumulator in self.open.pop(start).items():
                accumulator[0] = True  # no longer in the state: `changes` passes over it
                self._removed.append(self._store_key(start, key))
                self.closed += 1
                yield start, key, accumulator

    def changes(self) -> list[Change]:
        """What differs from the store since the last call, as (key, value or None) pairs."""
        changed: list[Change] = []
        for key in self._removed:
            if self.store.get(key) is not None:
                changed.append((key, None))
        for start, key, accumulator in self.dirty:
            accumulator[0] = False
            if self.open.get(start, {}).get(key) is accumulator:
                changed.append((self._store_key(start, key), _encode(accumulator[1:])))
        self.dirty.clear()
        self._removed.clear()
        return changed

    def load(self) -> None:
        """Take up what the store holds, after a restore."""
        self.open.clear()
        for key, value in self.store.items():
            start = int.from_bytes(key[:8], "big", signed=True)
            self.bucket(start)[self._key.decode(key[8:])] = [False, *orjson.loads(value)]

    def __len__(self) -> int:
        return sum(map(len, self.open.values()))

    def _store_key(self, start_ms: int, key: Any) -> bytes:
        return start_ms.to_bytes(8, "big", signed=True) + self._key.encode(key)
