"""`Topic`: what `app.topic(...)` declares, a place to read from, to write to, and to send to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from streamkit.processing.error_policy import OnError
from streamkit.processing.topology import TopicSpec

if TYPE_CHECKING:
    from streamkit.processing.app import App
    from streamkit.processing.stream import Stream

K = TypeVar("K")
K2 = TypeVar("K2")
V = TypeVar("V")


@dataclass(frozen=True, eq=False, kw_only=True)
class Topic(TopicSpec[K, V]):
    """A topic of an app."""

    app: App = field(repr=False)

    def stream(
        self, *, time: Callable[[V], Any] | None = None, on_error: OnError | None = None
    ) -> Stream[K, V]:
        """`app.stream(topic, …)`."""
        return self.app.stream(self, time=time, on_error=on_error)

    def by(self, function: Callable[[V], K2 | None], *, key: type[K2] | None = None) -> Stream[K2, V]:
        """The topic's records partitioned by another key: a stream with a `group_by`."""
        return self.app.stream(self).group_by(function, key=key)

    async def send(
        self,
        value: V,
        *,
        key: K | None = None,
        headers: list[tuple[str, bytes | None]] | None = None,
        timestamp_ms: int | None = None,
        partition: int | None = None,
    ) -> None:
        """Produce one record; returns when the broker has acknowledged it. The app must be running."""
        await self.app.send(
            self, value, key=key, headers=headers, timestamp_ms=timestamp_ms, partition=partition
        )
