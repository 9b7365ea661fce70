"""Sessions: records of a key that are no further apart than a gap, whatever order they come in.

A record joins the sessions within a gap of it; when there are two, it makes them one, and what stood for the
others is deleted and, where results are emitted early, retracted: at once, so that no restart comes between.
A session counts until `last + gap`: like any window it accepts records while that end, exclusive, is greater
than stream time − grace.

Sessions that close together leave in the order of their ends, those of one end in the order of their keys'
bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush, heapreplace
from itertools import count
from typing import Any

import msgspec
import orjson

from streamkit.processing.accumulators import Accumulator, Layout
from streamkit.processing.serde import Serde
from streamkit.processing.state.operator_state import Computed
from streamkit.processing.state.store import Change, Store
from streamkit.processing.state.windows import passed
from streamkit.processing.tasks.watermark import NEVER
from streamkit.processing.windows import Emit, Every, Session

PORTION = 250  # sessions on disk that are read and told before the task may pause
_encode = msgspec.json.Encoder().encode


class OpenSession:
    """A session of one key from its first to its last record."""

    __slots__ = ("accumulator", "first", "last", "open", "said")

    def __init__(self, first: int, last: int, accumulator: Accumulator, *, said: bool = False) -> None:
        self.first = first
        self.last = last
        self.accumulator = accumulator
        self.open = True
        self.said = said  # a result was emitted, with emit=every


class Plan:
    """Where a record belongs: its session's bounds, and the sessions that it extends or joins together.

    `accumulator` is theirs, to be updated; None: the record begins a session.
    """

    __slots__ = ("accumulator", "first", "last", "replaced")

    def __init__(self, first: int, last: int, accumulator: Accumulator | None, replaced: list[OpenSession]):
        self.first = first
        self.last = last
        self.accumulator = accumulator
        self.replaced = replaced


class SessionState:
    """Key → its open sessions, which do not touch each other."""

    spills = False

    def __init__(self, window: Session, emit: Emit, layout: Layout, key: Serde[Any], store: Store) -> None:
        self.open: dict[Any, list[OpenSession]] = {}
        self.watermark_ms = NEVER
        self.closed = 0
        self.store = store
        self._gap_ms = window.gap_ms
        self._rest_ms = window.gap_ms + 1 + window.grace_ms  # from the last record to the close
        self._emit = emit
        self._layout = layout
        self._key = key
        # heap: when (may be early, never late), the encoded key, a number to tell equals apart, key
        self._closing: list[tuple[int, bytes, int, Any, OpenSession]] = []
        self._numbers = count()
        self._touched: dict[tuple[int, Any], None] = {}
        # by what the record in hand changes: the sessions of a key, and how they were
        self._before: list[tuple[Any, list[tuple[OpenSession, int, Accumulator, list[Any], bool]]]] = []
        self._changed: dict[tuple[int, Any], OpenSession] = {}  # since the last emission, with emit=every

    # -- records --------------------------------------------------------------------------------------

    def find(self, key: Any, ts: int, reached: int) -> Plan | None:
        """What a record at `ts` does to the sessions; None: it is late. Changes nothing."""
        gap, first, last = self._gap_ms, ts, ts
        found: list[OpenSession] = []
        for session in self.open.get(key, ()):
            within = session.first - gap <= ts <= session.last + gap
            if within and session.last + self._rest_ms > reached:
                found.append(session)
                first, last = min(first, session.first), max(last, session.last)
        if last + self._rest_ms <= reached:
            return None
        if not found:
            return Plan(first, last, None, found)
        if len(found) > 1:
            found.sort(key=_first)  # whatever order they came into memory in
        accumulator = found[0].accumulator
        for session in found[1:]:
            accumulator = self._layout.merge(accumulator, session.accumulator)
        if len(found) == 1 and found[0].first > first and self._emit != "on_close":
            accumulator = self._layout.copy(accumulator)  # the other is still to be retracted as it was
        return Plan(first, last, accumulator, found)

    def carry_out(self, key: Any, plan: Plan, accumulator: Accumulator) -> list[OpenSession]:
        """The record is in `accumulator`. Returns the sessions that are no more: those with another start."""
        if len(plan.replaced) == 1 and plan.replaced[0].first == plan.first:
            session = plan.replaced[0]
            session.last = plan.last
            gone: list[OpenSession] = []
        else:
            gone = plan.replaced
            session = self._replace(key, plan, accumulator)
        self._touched[session.first, key] = None
        if isinstance(self._emit, Every):
            self._changed[session.first, key] = session
        return [old for old in gone if old.first != session.first]

    def _replace(self, key: Any, plan: Plan, accumulator: Accumulator) -> OpenSession:
        session = OpenSession(plan.first, plan.last, accumulator)
        sessions = self.open.setdefault(key, [])
        for old in plan.replaced:
            old.open = False
            sessions.remove(old)
            self._touched[old.first, key] = None
            self._changed.pop((old.first, key), None)
        sessions.append(session)
        self._schedule(key, session)
        return session

    def begin(self) -> None:
        """What is changed from here on is another record's."""
        self._before.clear()

    def note(self, key: Any) -> None:
        """A record is going to change the sessions of this key."""
        noted = self._layout.noted
        before = [
            (s, s.last, s.accumulator, noted(s.accumulator), (s.first, key) in self._changed)
            for s in self.open.get(key, ())
        ]
        self._before.append((key, before))

    def withdraw(self) -> None:
        """The record failed: as if it had not come."""
        for key, before in reversed(self._before):
            for session in self.open.pop(key, ()):
                session.open = False
                self._changed.pop((session.first, key), None)
            for session, last, accumulator, noted, is_changed in before:
                self._layout.restore(accumulator, noted)
                session.open, session.last, session.accumulator = True, last, accumulator
                self.open.setdefault(key, []).append(session)
                if is_changed:
                    self._changed[session.first, key] = session
        self.begin()

    def _schedule(self, key: Any, session: OpenSession) -> None:
        name = self._key.encode(key)
        heappush(self._closing, (session.last + self._rest_ms, name, next(self._numbers), key, session))

    # -- time -----------------------------------------------------------------------------------------

    def advance(self, watermark_ms: int, now_ms: int) -> Iterator[Computed | None]:
        """The sessions that close, in the order of their ends, each once."""
        if watermark_ms <= self.watermark_ms:
            return
        before, self.watermark_ms = self.watermark_ms, watermark_ms
        if isinstance(self._emit, Every) and passed(before, watermark_ms, self._emit.interval_ms):
            yield from self._say_changed(watermark_ms)
        while (due := self._is_due(watermark_ms)) is not False:
            if due is None:
                yield None
                continue
            *_, key, session = heappop(self._closing)
            self._remove(key, session)
            if self._emit != "on_update":
                yield self._computed(key, session)
            if self.spills and self.closed % PORTION == 0:
                yield None

    def _is_due(self, watermark_ms: int) -> bool | None:
        """Does the first session of the heap close, which ends first? None: that takes longer to say."""
        while self._closing and self._closing[0][0] <= watermark_ms:
            close_ms, name, number, key, session = self._closing[0]
            if not session.open:
                heappop(self._closing)
            elif session.last + self._rest_ms > close_ms:
                heapreplace(self._closing, (session.last + self._rest_ms, name, number, key, session))
            else:
                return True
        return False

    def due_ms(self) -> int | None:
        return None

    def _remove(self, key: Any, session: OpenSession) -> None:
        session.open = False
        self.closed += 1
        sessions = self.open[key]
        sessions.remove(session)
        if not sessions:
            self._end(key)
        self._touched[session.first, key] = None
        self._changed.pop((session.first, key), None)

    def _end(self, key: Any) -> None:
        """The key's last session is closed."""
        del self.open[key]

    def _say_changed(self, watermark_ms: int) -> Iterator[Computed | None]:
        """What changed and stays open."""
        changed, self._changed = self._changed, {}
        for (_, key), session in changed.items():
            yield from self._say(key, session, watermark_ms)

    def _say(self, key: Any, session: OpenSession, watermark_ms: int) -> Iterator[Computed]:
        if session.last + self._rest_ms > watermark_ms:
            if not session.said:
                session.said = True
                self._touched[session.first, key] = None
            yield self._computed(key, session)

    def _computed(self, key: Any, session: OpenSession) -> Computed:
        end = session.last + self._gap_ms
        return (session.first, session.last, session.accumulator), key, end, end

    # -- commits --------------------------------------------------------------------------------------

    def changes(self) -> list[Change]:
        changed: list[Change] = []
        gone: list[bytes] = []
        for first, key in self._touched:
            name = name_of(first, self._key.encode(key))
            session = next((s for s in self.open.get(key, ()) if s.first == first), None)
            if session is not None:
                changed.append((name, self._frozen(session)))
            else:
                gone.append(name)
        stored = zip(gone, self.store.get_many(gone), strict=True)
        changed += [(name, None) for name, value in stored if value is not None]
        self._touched.clear()
        return changed

    def written(self) -> None:
        """Nothing: what is open stays in memory."""

    def load(self, watermark_ms: int) -> None:
        self.watermark_ms = watermark_ms
        self.open.clear()
        self._closing.clear()
        for data, value in self.store.items():
            key = self._key.decode(data[8:])
            session = self._thawed(first_in(data), value)
            self.open.setdefault(key, []).append(session)
            self._schedule(key, session)

    def _frozen(self, session: OpenSession) -> bytes:
        said = [session.said] if isinstance(self._emit, Every) else []
        return _encode([session.last, *self._layout.freeze(session.accumulator), *said])

    def _thawed(self, first: int, value: bytes) -> OpenSession:
        """One that was stored without a word on it counts as said."""
        last, *frozen = orjson.loads(value)
        said = frozen[-1] if len(frozen) > self._layout.width else isinstance(self._emit, Every)
        return OpenSession(first, last, self._layout.thaw(frozen), said=said)

    def __len__(self) -> int:
        return sum(map(len, self.open.values()))


def name_of(first: int, key: bytes) -> bytes:
    """The stored key of a session."""
    return first.to_bytes(8, "big", signed=True) + key


def first_in(data: bytes) -> int:
    """Of a stored key."""
    return int.from_bytes(data[:8], "big", signed=True)


def _first(session: OpenSession) -> int:
    return session.first
