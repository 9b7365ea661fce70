"""Incremental fetches (KIP-227): the broker remembers what a consumer fetches, and what it told it last.

A request with epoch 0 names all its partitions and asks for a session; the following ones carry the
session's id and the next epoch, name only what changed, and are answered only with partitions that have
something new. Epoch −1 is a fetch without a session, and ends the one it names. A partition that returned
records goes to the end of its session's order, so that all of them get their share of a bounded response.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import msgspec

from streamkit.protocol.error_codes import ErrorCode
from streamkit.runtime.contracts.clock import Clock
from streamkit.runtime.contracts.rng import Rng

INITIAL_EPOCH = 0
FINAL_EPOCH = -1
MAX_EPOCH = 2**31 - 1
MAX_SESSION_ID = 2**31 - 1
EVICTION_MS = 120_000
UNTOLD = 2**63 - 1

TopicKey: TypeAlias = str | bytes
PartitionKey: TypeAlias = tuple[TopicKey, int]


class Wanted(msgspec.Struct, gc=False, kw_only=True):
    """One partition that a consumer fetches, named by topic name (before version 13) or id."""

    topic: TopicKey
    partition: int
    fetch_offset: int
    max_bytes: int
    current_leader_epoch: int
    last_fetched_epoch: int
    log_start_offset: int = -1
    high_watermark: int = UNTOLD
    """What the fetcher knows of it; only followers say."""
    sent_high_watermark: int = -1
    sent_log_start: int = -1

    def is_news(self, *, error: int, high_watermark: int, log_start: int, has_records: bool) -> bool:
        """Whether an incremental answer must contain this partition; remembers what it then says."""
        news = (
            has_records
            or error != ErrorCode.NONE
            or high_watermark != self.sent_high_watermark
            or log_start != self.sent_log_start
        )
        failed = error != ErrorCode.NONE
        self.sent_high_watermark = -1 if failed else high_watermark
        self.sent_log_start = log_start
        return news


class FetchSession:
    def __init__(self, session_id: int, *, by_id: bool, used_ms: int) -> None:
        self.id = session_id
        self.by_id = by_id
        self.epoch = 1
        self.used_ms = used_ms
        self.partitions: dict[PartitionKey, Wanted] = {}

    def update(self, changed: Iterable[Wanted], forgotten: Iterable[PartitionKey]) -> None:
        for wanted in changed:
            known = self.partitions.get((wanted.topic, wanted.partition))
            if known is None:
                self.partitions[wanted.topic, wanted.partition] = wanted
            else:
                known.fetch_offset = wanted.fetch_offset
                known.max_bytes = wanted.max_bytes
                known.current_leader_epoch = wanted.current_leader_epoch
                known.last_fetched_epoch = wanted.last_fetched_epoch
                known.log_start_offset = wanted.log_start_offset
                known.high_watermark = wanted.high_watermark
        for key in forgotten:
            self.partitions.pop(key, None)

    def move_to_end(self, key: PartitionKey) -> None:
        wanted = self.partitions.pop(key, None)
        if wanted is not None:
            self.partitions[key] = wanted


class FetchContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a fetch request means: its partitions, or an error of the session."""

    wanted: list[Wanted] = []
    session: FetchSession | None = None
    incremental: bool = False
    error: ErrorCode = ErrorCode.NONE

    @property
    def session_id(self) -> int:
        return self.session.id if self.session is not None else 0


class FetchSessions:
    def __init__(self, *, clock: Clock, rng: Rng, slots: int) -> None:
        self._clock = clock
        self._rng = rng
        self._slots = slots
        self._sessions: dict[int, FetchSession] = {}
        """In the order of last use."""

    def open(
        self,
        *,
        session_id: int,
        session_epoch: int,
        wanted: list[Wanted],
        forgotten: Iterable[PartitionKey],
        by_id: bool,
    ) -> FetchContext:
        if session_epoch == FINAL_EPOCH:
            self._sessions.pop(session_id, None)
            return FetchContext(wanted=wanted)
        if session_epoch == INITIAL_EPOCH:
            self._sessions.pop(session_id, None)
            return self._create(wanted, by_id=by_id)
        return self._continue(session_id, session_epoch, wanted, forgotten, by_id=by_id)

    def _create(self, wanted: list[Wanted], *, by_id: bool) -> FetchContext:
        if not self._has_room():
            return FetchContext(wanted=wanted)
        session = FetchSession(self._new_id(), by_id=by_id, used_ms=self._clock.monotonic_ms())
        session.update(wanted, ())
        self._sessions[session.id] = session
        return FetchContext(wanted=list(session.partitions.values()), session=session)

    def _continue(
        self,
        session_id: int,
        session_epoch: int,
        wanted: list[Wanted],
        forgotten: Iterable[PartitionKey],
        *,
        by_id: bool,
    ) -> FetchContext:
        session = self._sessions.get(session_id)
        if session is None:
            return FetchContext(error=ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
        if session.epoch != session_epoch:
            return FetchContext(error=ErrorCode.INVALID_FETCH_SESSION_EPOCH)
        if session.by_id != by_id:
            return FetchContext(error=ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR)
        session.update(wanted, forgotten)
        del self._sessions[session_id]
        if not session.partitions:
            return FetchContext()
        session.epoch = 1 if session.epoch == MAX_EPOCH else session.epoch + 1
        session.used_ms = self._clock.monotonic_ms()
        self._sessions[session_id] = session
        return FetchContext(wanted=list(session.partitions.values()), session=session, incremental=True)

    def _has_room(self) -> bool:
        """A free slot, or one whose session nobody has used for a while."""
        if len(self._sessions) < self._slots:
            return True
        oldest = next(iter(self._sessions.values()), None)
        if oldest is None or self._clock.monotonic_ms() - oldest.used_ms < EVICTION_MS:
            return False
        del self._sessions[oldest.id]
        return True

    def _new_id(self) -> int:
        while True:
            session_id = int(self._rng.uniform("fetch-session-ids", 1, MAX_SESSION_ID))
            if session_id not in self._sessions:
                return session_id
