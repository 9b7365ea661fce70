"""Sessions that need not fit into memory.

In the store they stand by their starts. An index has them by key, for records that look for theirs, and by
their ends, for those that close.

In memory are all sessions of some keys: of those with changes since the last commit, and of others that
were used lately. Of such a key memory decides, of every other the store. A slice announces its records
(`foresee`), and what is stored of their keys is read in one go. Whose sessions close according to the store
comes into memory first, a portion at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from sys import maxsize
from typing import Any

from streamkit.processing.accumulators import Accumulator, Layout
from streamkit.processing.record import RawRecord
from streamkit.processing.serde import Serde
from streamkit.processing.state.cache import CACHED, KEEPS_ONE_IN, typical_bytes, with_keys
from streamkit.processing.state.operator_state import Computed
from streamkit.processing.state.sessions import PORTION, OpenSession, Plan, SessionState, first_in, name_of
from streamkit.processing.state.store import Change, NamedByValue, Store
from streamkit.processing.state.timeline import (
    BIAS_BYTES,
    Timeline,
    escaped,
    number_in,
    ordered,
    prefixed,
    unescaped,
)
from streamkit.processing.windows import Emit, Session

BY_KEY, BY_END, BEHIND_ENDS = b"k", b"t", b"u"
FIRST_BYTES = 8


class SessionIndex(NamedByValue):
    """(key, start), and (last record, key, start)."""

    version = "sessions 1"

    def renamed(self, key: bytes, before: bytes | None, after: bytes | None) -> Iterable[Change]:
        first, of = ordered(first_in(key)), key[FIRST_BYTES:]
        if before is None or after is None:
            yield BY_KEY + prefixed(of) + first, None if after is None else b""
        if before is not None:
            yield _by_end(last_in(before), of, first), None
        if after is not None:
            yield _by_end(last_in(after), of, first), b""


def last_in(value: bytes) -> int:
    """When the last record of a stored session was: it comes first."""
    return int(value[1:].partition(b",")[0].rstrip(b"]"))


def _by_end(last: int, key: bytes, first: bytes) -> bytes:
    return BY_END + ordered(last) + escaped(key) + first


class StoredSessions(SessionState):
    """See `SessionState`.

    Invariants: `open` has a key with all of its sessions or not at all; what changed since the last commit it
    has; each session in there is in the heap.
    """

    spills = True

    def __init__(self, window: Session, emit: Emit, layout: Layout, key: Serde[Any], store: Store) -> None:
        super().__init__(window, emit, layout, key, store)
        self.cached_most = CACHED
        self.entry_bytes = 0
        self._held = 0  # sessions in `open`
        self._recent: dict[Any, None] = {}  # the keys of the last `changes`
        self._begin()
        self._index = SessionIndex()
        store.keep_index(self._index)

    def _begin(self) -> None:
        self._timeline = Timeline(self.store.find, BY_END, BEHIND_ENDS)

    @property
    def cached(self) -> int:
        return max(self._held, len(self.open)) + len(self._touched)

    # -- records --------------------------------------------------------------------------------------

    def find(self, key: Any, ts: int, reached: int) -> Plan | None:
        if key not in self.open:
            self._hold((key,))
        return super().find(key, ts, reached)

    def foresee(self, records: Sequence[RawRecord]) -> None:
        """Fetch what these records need."""
        self._hold(dict.fromkeys(key for key, _ in with_keys(records, self._key.decode)))

    def _hold(self, keys: Iterable[Any]) -> None:
        """Take what is stored of these keys into memory."""
        names: list[bytes] = []
        owners: list[Any] = []
        for key in keys:
            if key in self.open:
                continue
            self.open[key] = []
            encoded = self._key.encode(key)
            start = BY_KEY + prefixed(encoded)
            for row, _ in self.store.find(start, start + b"\xff", maxsize):
                names.append(name_of(number_in(row[-FIRST_BYTES:]), encoded))
                owners.append(key)
        if not names:
            return
        for key, name, value in zip(owners, names, self.store.get_many(names), strict=True):
            if value is not None:
                session = self._known(first_in(name), key, value)
                self.open[key].append(session)
                self._schedule(key, session)
                self._held += 1

    def _known(self, first: int, key: Any, value: bytes) -> OpenSession:
        """One that is stored. If it is still to be told, it is the one of which that is known."""
        session, to_tell = self._thawed(first, value), self._changed.get((first, key))
        if to_tell is None:
            return session
        to_tell.last, to_tell.accumulator = session.last, session.accumulator
        return to_tell

    def _replace(self, key: Any, plan: Plan, accumulator: Accumulator) -> OpenSession:
        self._held += 1 - len(plan.replaced)
        return super()._replace(key, plan, accumulator)

    def withdraw(self) -> None:
        held = {key: len(self.open[key]) for key, _ in self._before}
        super().withdraw()
        for key, count in held.items():
            self._held += len(self.open.setdefault(key, [])) - count

    def _end(self, key: Any) -> None:
        """It stays, so that the store is not asked for it: that knows nothing of the end yet."""

    # -- time -----------------------------------------------------------------------------------------

    def _remove(self, key: Any, session: OpenSession) -> None:
        self._held -= 1
        super()._remove(key, session)

    def _is_due(self, watermark_ms: int) -> bool | None:
        limit = watermark_ms - self._rest_ms
        while True:
            is_due = super()._is_due(watermark_ms)
            entry = self._timeline.first()
            if entry is None or (last := _last_of(entry[0])) > limit:
                return is_due
            if is_due and self._closing[0][:2] < (last + self._rest_ms, _key_of(entry[0])):
                return True
            if self._take(limit):
                return None

    def _take(self, limit: int) -> bool:
        """A portion of what closes according to the store, into memory. Was some of it not so?"""
        names: list[bytes] = []
        while len(names) < PORTION and (entry := self._timeline.first()) is not None:
            if _last_of(entry[0]) > limit:
                break
            names.append(self._timeline.pop())
        keys = [self._key.decode(_key_of(name)) for name in names]
        self._hold(keys)
        return self._leave_behind(
            [name for name, key in zip(names, keys, strict=True) if self._lacks(key, name)]
        )

    def _lacks(self, key: Any, name: bytes) -> bool:
        """Is this name none of a session in memory?"""
        first, last = number_in(name[-FIRST_BYTES:]), _last_of(name)
        return all(session.first != first or session.last != last for session in self.open[key])

    def _leave_behind(self, names: Sequence[bytes]) -> bool:
        """Those that no stored session speaks for, either, go with the next commit. Are there any?"""
        stored_keys = [name_of(number_in(name[-FIRST_BYTES:]), _key_of(name)) for name in names]
        stored = zip(names, self.store.get_many(stored_keys) if names else (), strict=True)
        stale = [name for name, value in stored if value is None or last_in(value) != _last_of(name)]
        self._index.left_behind += stale
        return bool(stale)

    def _say_changed(self, watermark_ms: int) -> Iterator[Computed | None]:
        names = iter(list(self._changed))
        while some := list(islice(names, PORTION)):
            self._hold(key for _, key in some)
            for name in some:
                yield from self._say(name[1], self._changed.pop(name), watermark_ms)
            yield None

    # -- commits --------------------------------------------------------------------------------------

    def changes(self) -> list[Change]:
        self._recent = {key: None for _, key in self._touched}
        changed = super().changes()
        self.entry_bytes = typical_bytes(changed) or self.entry_bytes
        first = self._closing[0][0] - self._rest_ms if self._closing else None
        self._timeline.taken(None if first is None else BY_END + ordered(first))
        return changed

    def written(self) -> None:
        self._timeline.written()
        if self.cached > self.cached_most:
            self._let_go()
        self._recent = {}

    def _let_go(self) -> None:
        """Forget what is in the store as it is, except half a cache of what changed last."""
        most = max(1, self.cached_most // KEEPS_ONE_IN)
        kept = {key: None for key in list(self._recent)[-most:] if self.open[key]}
        kept |= {key: None for _, key in self._touched}
        for (_, key), session in self._changed.items():
            if key not in kept:
                session.accumulator = []
        self.open = {key: self.open[key] for key in kept}
        self._held = sum(map(len, self.open.values()))
        self._closing.clear()
        for key, sessions in self.open.items():
            for session in sessions:
                self._schedule(key, session)

    def load(self, watermark_ms: int) -> None:
        self.watermark_ms = watermark_ms
        for kept in (self.open, self._closing, self._touched, self._changed):
            kept.clear()
        self._held = 0
        self._begin()

    def __len__(self) -> int:
        return max(self._held, len(self.store))


def _last_of(name: bytes) -> int:
    """Of a name by the end."""
    return number_in(name[len(BY_END) :])


def _key_of(name: bytes) -> bytes:
    return unescaped(name[len(BY_END) + BIAS_BYTES : -FIRST_BYTES])
