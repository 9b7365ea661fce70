"""Partitions in the words of a command, and positions in them as offsets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from streamkit.errors import UsageError

if TYPE_CHECKING:
    from streamkit.cli.admin import Cluster
    from streamkit.cli.offsets import Position

Offsets: TypeAlias = Mapping[tuple[str, int], int]


def parse_place(word: str) -> tuple[str, int | None]:
    """TOPIC or TOPIC:PARTITION."""
    topic, colon, index = word.rpartition(":")
    if not colon:
        return word, None
    if not topic or not index.isdecimal():
        raise UsageError(f"{word!r} is not TOPIC or TOPIC:PARTITION", hint="for example orders:0")
    return topic, int(index)


def resolved(cluster: Cluster, position: Position, low: Offsets, high: Offsets) -> dict[tuple[str, int], int]:
    """The position in each partition, moved into what the log holds: from `low` to `high`."""
    from confluent_kafka.admin import OffsetSpec

    if position.kind == "time":
        found = cluster.offsets(low, OffsetSpec.for_timestamp(position.value))
        return {place: offset if offset >= 0 else high[place] for place, offset in found.items()}
    value = position.value
    by_kind: dict[str, Callable[[tuple[str, int]], int]] = {
        "offset": lambda place: value,
        "start": lambda place: low[place] + value,
        "end": lambda place: high[place] - value,
    }
    return {place: min(max(by_kind[position.kind](place), low[place]), high[place]) for place in low}
