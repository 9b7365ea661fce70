"""`simple`: every partition is looked into by somebody, and everybody has something to look into.

Where there are more members than partitions, several share one; the others are not disturbed. Each partition
of a topic gets the same number of members (its *shares*), just so many that everybody has one; members get as
many partitions as each other, and keep what they had as long as that is so.

Three steps, all in sorted order, so that the same input gives the same output. Members keep what they had and
still want, up to the even share. What shares are left go to the members with the least. Then, as long as
someone has two partitions more than another who could take over one of them, it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple, TypeAlias

from streamkit.broker.coordination.group.modern.partitions import Partition

NAME: Final = "simple"


class Claimant(NamedTuple):
    """A member as the assignor sees it."""

    member_id: str
    topics: frozenset[bytes]
    """The ids of the topics that it wants."""
    has: frozenset[Partition]
    """Its part of the division before this one."""


Parts: TypeAlias = dict[str, frozenset[Partition]]
"""What each member shall look into."""


def assign(claimants: Iterable[Claimant], partitions: Iterable[Partition]) -> Parts:
    """Divide these partitions; those of a topic that nobody wants go to nobody."""
    division = _Division(sorted(claimants), sorted(partitions))
    division.keep()
    division.fill()
    division.level()
    return {member_id: frozenset(part) for member_id, part in division.parts.items()}


class _Division:
    def __init__(self, claimants: list[Claimant], partitions: list[Partition]) -> None:
        self.parts: dict[str, set[Partition]] = {one.member_id: set() for one in claimants}
        self._claimants = claimants
        self._partitions = partitions
        self._wants = {one.member_id: one.topics for one in claimants}
        self._subscribers = _subscribers(claimants, partitions)
        self._shares = _shares(claimants, partitions, self._subscribers)
        self._given = dict.fromkeys(partitions, 0)

    def keep(self) -> None:
        """Where all want the same, nobody keeps more than the even share."""
        limits = self._even_shares() if self._is_homogeneous() else {}
        for claimant in self._claimants:
            kept = 0
            for partition in self._still_wanted(claimant):
                if kept == limits.get(claimant.member_id, -1):
                    break
                if self._given[partition] < self._shares[partition.topic_id]:
                    self._give(claimant.member_id, partition)
                    kept += 1

    def _is_homogeneous(self) -> bool:
        return len(set(self._wants.values())) <= 1

    def _even_shares(self) -> dict[str, int]:
        if not self._claimants:
            return {}
        total = sum(self._shares[partition.topic_id] for partition in self._partitions)
        even, odd = divmod(total, len(self._claimants))
        have = {one.member_id: len(self._still_wanted(one)) for one in self._claimants}
        ranked = sorted(have, key=lambda member_id: (have[member_id] <= even, member_id))
        return {member_id: even + (position < odd) for position, member_id in enumerate(ranked)}

    def _still_wanted(self, claimant: Claimant) -> list[Partition]:
        return sorted(one for one in claimant.has if one in self._given and one.topic_id in claimant.topics)

    def fill(self) -> None:
        """Give away the shares that nobody has; topics with few subscribers first."""
        ranked = sorted(
            self._partitions, key=lambda one: (len(self._subscribers[one.topic_id]), one.topic_id, one.number)
        )
        heap: list[tuple[int, str]] = []
        topic_id = None
        for partition in ranked:
            if partition.topic_id != topic_id:
                topic_id = partition.topic_id
                heap = [(len(self.parts[member_id]), member_id) for member_id in self._subscribers[topic_id]]
                heapify(heap)
            self._fill(partition, heap)

    def _fill(self, partition: Partition, heap: list[tuple[int, str]]) -> None:
        passed_over = []
        while heap and self._given[partition] < self._shares[partition.topic_id]:
            load, member_id = heappop(heap)
            if partition not in self.parts[member_id]:
                self._give(member_id, partition)
                load += 1
            passed_over.append((load, member_id))
        for entry in passed_over:
            heappush(heap, entry)

    def level(self) -> None:
        """Hand over one partition at a time, from whoever has most of those that can hand over."""
        while (move := self._any_move()) is not None:
            giver, partition, taker = move
            self.parts[giver].remove(partition)
            self.parts[taker].add(partition)

    def _any_move(self) -> tuple[str, Partition, str] | None:
        loads = {member_id: len(part) for member_id, part in self.parts.items()}
        least = min(loads.values(), default=0)
        ranked = sorted(loads, key=lambda member_id: (loads[member_id], member_id))
        for giver in reversed(ranked):
            if loads[giver] < least + 2:
                break
            for taker in ranked:
                if loads[taker] > loads[giver] - 2:
                    break
                for partition in sorted(self.parts[giver] - self.parts[taker]):
                    if partition.topic_id in self._wants[taker]:
                        return giver, partition, taker
        return None

    def _give(self, member_id: str, partition: Partition) -> None:
        self.parts[member_id].add(partition)
        self._given[partition] += 1


def _subscribers(claimants: list[Claimant], partitions: list[Partition]) -> dict[bytes, list[str]]:
    topics = dict.fromkeys(partition.topic_id for partition in partitions)
    return {topic_id: [one.member_id for one in claimants if topic_id in one.topics] for topic_id in topics}


def _shares(
    claimants: list[Claimant], partitions: list[Partition], subscribers: Mapping[bytes, list[str]]
) -> dict[bytes, int]:
    """How many members each partition of a topic gets: enough for the subscriber with the fewest partitions
    to look into, were all his topics' subscribers as badly off.
    """
    sizes: dict[bytes, int] = {}
    for partition in partitions:
        sizes[partition.topic_id] = sizes.get(partition.topic_id, 0) + 1
    reach = {one.member_id: sum(sizes.get(topic_id, 0) for topic_id in one.topics) for one in claimants}
    return {
        topic_id: -(-len(members) // min(reach[member_id] for member_id in members)) if members else 0
        for topic_id, members in subscribers.items()
    }
