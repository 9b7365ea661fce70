"""Tables: state by key, kept by a task and backed by a changelog.

    totals = app.table("totals", default=float)
    totals[order.product] += order.amount          # inside code that runs on a stream keyed by product

A `Table` is only a handle. The state is a `TableState` for each task (partition), and the code that a task
runs reaches it because the task *lends* it: whoever steps user code (the fused loop for a slice, the driver
of an agent's coroutine for each resumption) puts its `Scope` into the app's `Lease` and takes it back
after. So two partitions in one process never mix, a coroutine that outlives its task holds a closed scope,
and code that runs on no task (a timer, a test) can read what this process holds but not write.

A write must be to the key of the record in hand: that key's partition is the one this task owns. Any other
key may live elsewhere, and writing it here would lose updates silently, so it is refused.

Values are compared with the store by their encoding at each commit, so a value that was changed in place
(`carts[user].append(item)`) is persisted like one that was assigned.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, Generic, TypeVar, cast, overload

from streamkit.errors import RefusedError, UsageError
from streamkit.processing.record import RawRecord
from streamkit.processing.serde import Serde
from streamkit.processing.state.cache import CACHED, typical_bytes
from streamkit.processing.state.store import Change, Store

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

IMMUTABLE = (str, bytes, int, float, bool, type(None))
MISSING: Any = object()


def _references(cache: dict[Any, Any], key: Any) -> int:
    value = cache[key]
    return sys.getrefcount(value)


UNHELD = _references({"": []}, "")  # what the count is while only the cache holds the value


class Scope:
    """What a task lends to the user code that it steps: its tables, and the key of the record in hand.

    `writable` is false while writes could not be committed with the record: concurrent agents, timers.
    `touched`: the last record that read or wrote a table.
    """

    __slots__ = ("key", "open", "record", "refusal", "states", "time_ms", "touched")

    def __init__(self, states: Mapping[str, TableState], refusal: str = "") -> None:
        self.states = states
        self.key: Any = None
        self.record: RawRecord | None = None
        self.touched: RawRecord | None = None
        self.time_ms = -(1 << 62)  # stream time at the record in hand, where tables need it
        self.refusal = refusal
        self.open = True


class Lease:
    """The one place where the tables of an app find the scope of the running code."""

    __slots__ = ("scope",)

    def __init__(self) -> None:
        self.scope: Scope | None = None


class TableState:
    """One partition of a table: a cache of decoded values over the store.

    Invariant: an entry of the cache that is not in `_touched` equals the store's, byte for byte, once the
    last `changes` are written. A deleted entry is cached as MISSING until then.
    """

    spills = True

    def __init__(self, key: Serde[Any], value: Serde[Any], default: Callable[[], Any] | None, store: Store):
        self.store = store
        self.cached_most = CACHED
        self.entry_bytes = 0
        self._key = key
        self._value = value
        self._default = default
        self._cache: dict[Any, Any] = {}
        self._touched: dict[Any, None] = {}

    def get(self, key: Any) -> Any:
        """The value, or `MISSING`. One that can change in place counts as touched from here on."""
        value = self._cache.get(key, self)  # `self`: not cached; MISSING: deleted
        if value is self:
            data = self.store.get(self._key.encode(key))
            if data is None:
                return MISSING
            value = self._cache[key] = self._value.decode(data)
        if value is not MISSING and value.__class__ not in IMMUTABLE:
            self._touched[key] = None
        return value

    def get_or_default(self, key: Any) -> Any:
        value = self.get(key)
        if value is MISSING and self._default is not None:
            value = self._default()
            if value.__class__ not in IMMUTABLE:
                self.put(key, value)
        return value

    def reach(self, stream_time_ms: int) -> None:
        """Stream time has come so far; it matters where entries expire."""

    def row(self, key: Any) -> Any:
        """The value for somebody who only looks, or None."""
        value = self._cache.get(key, self)
        if value is self:
            data = self.store.get(self._key.encode(key))
            return None if data is None else self._value.decode(data)
        return None if value is MISSING else value

    def put(self, key: Any, value: Any) -> None:
        self._cache[key] = value
        self._touched[key] = None

    def delete(self, key: Any) -> None:
        self.put(key, MISSING)

    @property
    def cached(self) -> int:
        return len(self._cache)

    def items(self) -> Iterator[tuple[Any, Any]]:
        """All entries, in the order of the store, then new ones."""
        seen = set()
        for data, _ in list(self.store.items()):
            key = self._key.decode(data)
            seen.add(key)
            value = self.get(key)
            if value is not MISSING:
                yield key, value
        for key in list(self._cache):
            if key not in seen and (value := self.get(key)) is not MISSING:
                yield key, value

    def changes(self) -> list[Change]:
        """What differs from the store, as its changes; deletes are None."""
        changed: list[Change] = []
        held: dict[Any, None] = {}
        names = [self._key.encode(key) for key in self._touched]
        stored = self.store.get_many(names)
        for key, name, before in zip(self._touched, names, stored, strict=True):
            value = self._cache.get(key, MISSING)
            after = None if value is MISSING else self._value.encode(value)
            if before is None and after is not None and self._is_unwritten_default(value, after):
                after = None
            if after != before:
                changed.append((name, after))
            if value is not MISSING and self._is_held(key):
                held[key] = None  # compare it again next time
        self._touched = held
        self.entry_bytes = typical_bytes(changed) or self.entry_bytes
        return changed

    def _is_held(self, key: Any) -> bool:
        """Does somebody beside the caller hold this object, who may change it later?"""
        changeable = self._cache[key].__class__ not in IMMUTABLE
        return changeable and _references(self._cache, key) > UNHELD + 1  # 1: the caller

    def written(self) -> None:
        """The last `changes` are in the store now: clean entries may go."""
        if len(self._cache) > self.cached_most:
            self._cache = {key: self._cache[key] for key in self._touched}
        else:
            deleted = [k for k, v in self._cache.items() if v is MISSING and k not in self._touched]
            for key in deleted:
                del self._cache[key]

    def _is_unwritten_default(self, value: Any, encoded: bytes) -> bool:
        """A mutable default that was only looked at is not an entry."""
        if self._default is None or value.__class__ in IMMUTABLE:
            return False
        return encoded == self._value.encode(self._default())

    def load(self) -> None:
        """Forget the cache: the store was restored."""
        self._cache.clear()
        self._touched.clear()


class Table(MutableMapping[K, V], Generic[K, V]):
    """`table[key]`, as a mapping; see the module for who may read and write it."""

    def __init__(
        self,
        name: str,
        *,
        key: Serde[K],
        value: Serde[V],
        default: Callable[[], V] | None,
        partitions: int | None,
        lease: Lease,
        ttl_ms: int | None = None,
    ) -> None:
        if default is not None and not callable(default):
            raise UsageError(
                f"default={default!r} of the table {name} is not a function that makes a value",
                hint=f"default={type(default).__name__}, or default=lambda: {default!r}",
            )
        self.name = name
        self.ttl_ms = ttl_ms
        self.key = key
        self.value = value
        self.default = default
        self.partitions = partitions
        self._lease = lease
        self._held: list[TableState] = []

    # -- user side ----------------------------------------------------------------------------------

    def __getitem__(self, key: K) -> V:
        for state in self._readable():
            value = state.get_or_default(key) if self._lease.scope else state.get(key)
            if value is not MISSING:
                return cast(V, value)
        if self.default is not None:
            return self.default()
        raise KeyError(key)

    def __setitem__(self, key: K, value: V) -> None:
        self._writable(key).put(key, value)

    def __delitem__(self, key: K) -> None:
        state = self._writable(key)
        if state.get(key) is MISSING:
            raise KeyError(key)
        state.delete(key)

    def pop(self, key: K, default: Any = MISSING) -> Any:
        """Remove the entry and return its value; as in a `defaultdict`, the table's default is no entry."""
        if key in self:
            value = self[key]
            del self[key]
            return value
        if default is MISSING:
            raise KeyError(key)
        return default

    def setdefault(self, key: K, default: Any = None) -> Any:
        """The value; where there is none, `default` becomes it."""
        if key not in self:
            self[key] = default
        return self[key]

    def __contains__(self, key: object) -> bool:
        return any(state.get(key) is not MISSING for state in self._readable())

    def __iter__(self) -> Iterator[K]:
        for state in self._readable():
            for key, _ in state.items():
                yield key

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @overload
    def get(self, key: K, default: None = None) -> V | None: ...
    @overload
    def get(self, key: K, default: V | T) -> V | T: ...
    def get(self, key: K, default: Any = None) -> Any:
        """The value, or `default` (not the table's default) when there is none."""
        for state in self._readable():
            value = state.get(key)
            if value is not MISSING:
                return value
        return default

    def __repr__(self) -> str:
        return f"Table({self.name!r})"

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    # -- engine side --------------------------------------------------------------------------------

    def hold(self, state: TableState) -> None:
        """A task of this process owns this partition from now on."""
        self._held.append(state)

    def release(self, state: TableState) -> None:
        self._held = [held for held in self._held if held is not state]

    def _readable(self) -> list[TableState]:
        scope = self._lease.scope
        if scope is None:
            return self._held
        return [self._state(scope)]

    def _state(self, scope: Scope) -> TableState:
        if not scope.open:
            raise RefusedError(
                f"the table {self.name} moved to another worker while this code was running",
                hint="let the CancelledError pass: the record will be processed again there",
            )
        state = scope.states.get(self.name)
        if state is None:
            raise RefusedError(
                f"the table {self.name} is not part of this task",
                hint=f"name it where the agent is declared: @app.agent(..., tables=[{self.name}])",
            )
        if self.ttl_ms is not None:
            state.reach(scope.time_ms)
        scope.touched = scope.record
        return state

    def _writable(self, key: K) -> TableState:
        scope = self._lease.scope
        if scope is None:
            raise RefusedError(
                f"the table {self.name} can be written only while a record of its stream is processed",
                hint="send a record to the stream that writes it",
            )
        state = self._state(scope)
        if scope.refusal:
            raise RefusedError(f"the table {self.name} cannot be written here: {scope.refusal}")
        if scope.key != key:
            raise RefusedError(
                f"the table {self.name} is written at key {key!r} while a record with key {scope.key!r} is "
                "processed: that key may belong to another partition",
                hint="partition the stream by the key of the table first: .group_by(...)",
            )
        return state
