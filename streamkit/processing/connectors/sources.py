"""`sk.Source`: how records from outside come into a topic, and how to write one's own.

    class Ticks(sk.Source):
        async def read(self, position: Mapping[str, Any]) -> AsyncIterator[sk.Portion]:
            n = position.get("next", 0)
            while True:
                await asyncio.sleep(1)
                n += 1
                yield [sk.Row(n)], {"next": n}

    app.source(Ticks(), "ticks")

One worker of the app at a time runs a source; when it goes, another goes on where it was. The rows that
`read` yields and the entries of the position that it yields with them are written in one transaction: after
any crash the topic has either both or neither. So each row is in the topic once for those who read committed
records, which is what workers and librdkafka's consumers do.

A position is a mapping of names to JSON values; what is yielded changes the entries that it names, None
removes one. `read` is resumed when what it yielded is acknowledged. It may end: then there is nothing more to
read until the worker starts again. If it raises `Unavailable` or an OSError it is begun anew at the last
position, after a pause; anything else ends the worker.

A row that cannot be written (too large for the topic) is raised at the `yield`, as a `BadRow` with its index.
Nothing of the portion is written then. Who catches it yields the portion again, without that row; else the
worker ends.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamkit.errors import StreamkitError
from streamkit.processing.connectors.sinks import Row
from streamkit.processing.record import Headers
from streamkit.processing.serde import UNDECLARED_KEY
from streamkit.processing.topology import TopicSpec

Position = Mapping[str, Any]
Portion = tuple[Sequence[Row], Position]  # rows, and what they change of the position
Encoded = tuple[bytes | None, bytes | None, int | None, Headers]  # value, key, timestamp, headers


class Source(ABC):
    """See the module."""

    @abstractmethod
    def read(self, position: Position) -> AsyncIterator[Portion]:
        """Rows from `position` on, which is empty the first time."""

    @property
    def detail(self) -> str:
        """A few words for `explain`."""
        return type(self).__name__


@dataclass(frozen=True, eq=False, kw_only=True)
class Inflow:
    """A source as an app declares it: what flows into which topic. `key`: of a value, when a row has none."""

    name: str
    app_id: str
    source: Source
    topic: TopicSpec[Any, Any]
    key: Callable[[Any], Any] | None = None

    @property
    def positions(self) -> str:
        """The compacted topic of one partition that keeps the position."""
        return f"{self.app_id}-{self.name}-positions"

    @property
    def asks(self) -> bool:
        """May `encode` ask a schema registry?"""
        return any(
            serde is not None and serde.inner is not None for serde in (self.topic.key, self.topic.value)
        )

    def encode(self, row: Row) -> Encoded:
        """As a record. Bytes are taken for a value that is encoded already."""
        value = row.value
        if value is not None and not isinstance(value, bytes):
            value = self.topic.value.encode(value)
        key: bytes | None = None
        if row.key is not None:
            key = self._encode_key(row.key)
        elif self.key is not None and row.value is not None:
            key = self._key_of(row.value)
        return value, key, row.timestamp_ms, row.headers

    def _key_of(self, value: Any) -> bytes | None:
        """None for what has no key, since anybody may send that: it is judged by the error policy of whoever
        reads the topic.
        """
        assert self.key is not None
        try:
            if isinstance(value, bytes):
                value = self.topic.value.decode(value)
            key = self.key(value)
            return None if key is None else self._encode_key(key)
        except StreamkitError:
            raise
        except Exception:
            return None

    def _encode_key(self, key: Any) -> bytes:
        return (self.topic.key or UNDECLARED_KEY).encode(key)
