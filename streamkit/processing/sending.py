"""Sending to a topic from outside of its streams: what a value becomes, and who takes it."""

from __future__ import annotations

from typing import Protocol, TypeVar

from streamkit.processing.record import Headers
from streamkit.processing.schemas import ready
from streamkit.processing.serde import UNDECLARED_KEY
from streamkit.processing.topology import TopicSpec

K = TypeVar("K")
V = TypeVar("V")


class Producer(Protocol):
    """What `Topic.send` needs of whatever runs the app."""

    async def send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        *,
        headers: Headers | None,
        timestamp_ms: int | None,
        partition: int | None,
    ) -> None:
        """Produce one record and return when it is acknowledged."""
        ...


async def encoded(
    topic: TopicSpec[K, V], value: V | None, key: K | None
) -> tuple[bytes | None, bytes | None]:
    """Value and key as a record of the topic has them. Waits for the schema registry, where there is one."""
    await ready(topic)
    keys = topic.key or UNDECLARED_KEY
    return (
        None if value is None else topic.value.encode(value),
        None if key is None else keys.encode(key),
    )
