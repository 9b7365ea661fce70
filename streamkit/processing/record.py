"""Records as user functions and as the engine see them.

The engine reads the records of a source through `RawRecord`, which is exactly what `confluent_kafka.Message`
offers: no object of ours is made for a record. A user function that declares a second parameter gets a
`Record` beside the value; functions of one argument cost nothing extra.

    stream.map(lambda order: order.amount)
    stream.map(lambda order, record: (record.key, record.offset, order.amount))
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

Headers = list[tuple[str, bytes | None]]
K = TypeVar("K")


class RawRecord(Protocol):
    """A record of a source partition: the methods of `confluent_kafka.Message` that the engine calls."""

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> Headers | None: ...
    def timestamp(self) -> tuple[int, int]:
        """(timestamp type, milliseconds since the epoch)"""
        ...


class Record(Generic[K]):
    """Where a value comes from: its key, event time, headers, and place in the log.

    `topic`, `partition` and `offset` are those of the input record; the result of a window, which comes
    from many records, has None for each.
    """

    __slots__ = ("_headers", "_raw", "key", "timestamp_ms")

    def __init__(self, raw: RawRecord | None, key: K, timestamp_ms: int, headers: Headers | None = None):
        self._raw = raw
        self.key = key
        self.timestamp_ms = timestamp_ms
        self._headers = headers

    @property
    def headers(self) -> Headers:
        """Name and value pairs in the order of the record."""
        if self._headers is None and self._raw is not None:
            self._headers = self._raw.headers()
        return self._headers or []

    @property
    def topic(self) -> str | None:
        return None if self._raw is None else self._raw.topic()

    @property
    def partition(self) -> int | None:
        return None if self._raw is None else self._raw.partition()

    @property
    def offset(self) -> int | None:
        return None if self._raw is None else self._raw.offset()

    def __repr__(self) -> str:
        place = f"{self.topic}-{self.partition}@{self.offset}" if self._raw is not None else "computed"
        return f"Record({place}, key={self.key!r}, timestamp_ms={self.timestamp_ms})"


def wants_record(fn: Callable[..., Any]) -> bool:
    """True when a user function declares a second positional parameter without a default."""
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):  # builtins such as `int` publish no signature
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(1 for p in parameters if p.kind in positional and p.default is inspect.Parameter.empty) > 1
