"""Offsets that a producer commits within its transaction: kept until the marker says whether they count (G7).

Hard state, set by replaying transactional records and markers. A reader that asks for stable offsets is told
to come back (UNSTABLE_OFFSET_COMMIT) while such an offset is open for a partition. If transactions and plain
commits cross, the offset that was written last counts, whichever of them ends last.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import NamedTuple, TypeAlias, TypeVar

from streamkit.broker.coordination.group.records import OffsetChange

Key = TypeVar("Key")
Place: TypeAlias = tuple[str, str, int]
"""Group, topic, partition."""


class Pending(NamedTuple):
    written: int
    """The place of the record among all that were replayed."""
    change: OffsetChange


class TransactionalOffsets:
    """Invariant: `_open` counts, for each place, the producers with a pending offset there."""

    def __init__(self) -> None:
        self._pending: dict[int, dict[Place, Pending]] = {}
        self._open: dict[Place, int] = {}
        self._groups: dict[str, int] = {}
        self._clock = count()

    def keep(self, producer_id: int, change: OffsetChange) -> None:
        """A transactional record was replayed."""
        place = (change.group, change.topic, change.partition)
        pending = self._pending.setdefault(producer_id, {})
        if place not in pending:
            self._count(place, 1)
        pending[place] = Pending(next(self._clock), change)

    def overtaken(self, place: Place, written: int | None = None) -> None:
        """A later offset counts for this place: older pending ones never will."""
        if place not in self._open:
            return
        latest = next(self._clock) if written is None else written
        for producer_id in [one for one, pending in self._pending.items() if place in pending]:
            if self._pending[producer_id][place].written < latest:
                self._forget(producer_id, place)

    def end(self, producer_id: int, *, committed: bool) -> list[OffsetChange]:
        """A marker was replayed: what counts from now on."""
        pending = dict(self._pending.get(producer_id, {}))
        for place in pending:
            self._forget(producer_id, place)
        if not committed:
            return []
        for place, one in pending.items():
            self.overtaken(place, one.written)
        return [one.change for one in pending.values()]

    def is_open(self, group: str, topic: str, partition: int) -> bool:
        return (group, topic, partition) in self._open

    def has_group(self, group: str) -> bool:
        """Whether anything is pending for the group, which is in use then."""
        return group in self._groups

    def groups_of(self, producer_id: int) -> list[str]:
        return list({place[0]: None for place in self._pending.get(producer_id, {})})

    def places_of(self, group: str) -> Iterator[tuple[str, int]]:
        return ((topic, partition) for name, topic, partition in self._open if name == group)

    def _forget(self, producer_id: int, place: Place) -> None:
        pending = self._pending[producer_id]
        del pending[place]
        if not pending:
            del self._pending[producer_id]
        self._count(place, -1)

    def _count(self, place: Place, change: int) -> None:
        _add(self._open, place, change)
        _add(self._groups, place[0], change)


def _add(counts: dict[Key, int], key: Key, change: int) -> None:
    total = counts.get(key, 0) + change
    if total:
        counts[key] = total
    else:
        del counts[key]
