"""Share sessions (KIP-932): the broker remembers which share-partitions a member fetches.

A member has one session at each broker. Epoch 0 opens it (and ends the one before), −1 closes it, and each
request between names the next epoch and only what changed. A session ends with its connection too: whatever
its member still holds here is then given to others at once. The order of a session's partitions turns with
every fetch, so that all of them get their share of the records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NamedTuple, Protocol, TypeAlias

from streamkit.broker.coordination.shard import Refusal
from streamkit.protocol.error_codes import ErrorCode

INITIAL_EPOCH: Final = 0
FINAL_EPOCH: Final = -1
LAST_EPOCH: Final = 2**31 - 1

Place: TypeAlias = tuple[bytes, int]
"""(topic id, partition)."""


class SessionKey(NamedTuple):
    group_id: str
    member_id: str


class Connection(Protocol):
    """What a session needs to know of the connection it came by."""

    def when_lost(self, who: str, call: Callable[[], None]) -> None: ...


class ShareSession:
    def __init__(self, key: SessionKey, connection: Connection) -> None:
        self.key = key
        self.connection = connection
        self.epoch = 1
        """The one that the next request must name."""
        self.places: dict[Place, None] = {}

    def turned(self) -> list[Place]:
        """All partitions, each request beginning with another one."""
        places = list(self.places)
        if not places:
            return places
        begin = self.epoch % len(places)
        return places[begin:] + places[:begin]


class ShareSessions:
    """`ended` is told of each session that ends, whatever ended it."""

    def __init__(self, limit: int, ended: Callable[[SessionKey], None]) -> None:
        self._limit = limit
        self._ended = ended
        self._sessions: dict[SessionKey, ShareSession] = {}
        self._by_connection: dict[Connection, set[SessionKey]] = {}
        """Of every connection that ever had one, until it is gone."""

    def __len__(self) -> int:
        return len(self._sessions)

    def has_group(self, group_id: str) -> bool:
        return any(key.group_id == group_id for key in self._sessions)

    def open(self, key: SessionKey, places: Iterable[Place], connection: Connection) -> ShareSession:
        """Begin a session, in place of one that the member had. Raises Refusal."""
        self._end(key)
        if len(self._sessions) >= self._limit:
            raise Refusal(ErrorCode.SHARE_SESSION_LIMIT_REACHED)
        session = self._sessions[key] = ShareSession(key, connection)
        session.places = dict.fromkeys(places)
        if connection not in self._by_connection:
            self._by_connection[connection] = set()
            connection.when_lost("share sessions", partial(self._lost, connection))
        self._by_connection[connection].add(key)
        return session

    def use(self, key: SessionKey, epoch: int) -> ShareSession:
        """The session that a request of this epoch goes on with. Raises Refusal."""
        session = self._sessions.get(key)
        if session is None:
            raise Refusal(ErrorCode.SHARE_SESSION_NOT_FOUND)
        if epoch not in (FINAL_EPOCH, session.epoch):
            raise Refusal(ErrorCode.INVALID_SHARE_SESSION_EPOCH)
        if epoch != FINAL_EPOCH:
            session.epoch = 1 if session.epoch == LAST_EPOCH else session.epoch + 1
        return session

    def change(self, session: ShareSession, added: Iterable[Place], forgotten: Iterable[Place]) -> None:
        session.places.update(dict.fromkeys(added))
        for place in forgotten:
            session.places.pop(place, None)

    def close(self, session: ShareSession) -> None:
        if self._sessions.get(session.key) is session:
            self._end(session.key)

    def _lost(self, connection: Connection) -> None:
        for key in tuple(self._by_connection.pop(connection, ())):
            self._end(key)

    def _end(self, key: SessionKey) -> None:
        session = self._sessions.pop(key, None)
        if session is not None:
            self._by_connection.get(session.connection, set()).discard(key)
            self._ended(key)
