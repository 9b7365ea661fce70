"""`uniform`: everybody gets as much as everybody else, and keeps what it had for as long as that is so.

Three steps. Each member keeps what it had and still wants, up to the most that anybody can end with. What
nobody has then goes to the subscriber with the least, topics with few subscribers first. Then, as long as
someone could hand work down to someone with at least two partitions less, perhaps through others in between
(a gives to b, b gives to c), it is handed down along the shortest such chain.

The last step makes the division optimal: no other one has a smaller sum of squares of the members' loads (a
semi-matching without a cost-reducing path, Harvey et al. 2003). Each chain makes that sum smaller, so it
ends. All optimal divisions have the same loads, in some order; so the most that anybody can end with is known
from a division that keeps nothing, which is quickly made. Where all want the same topics it is simply the
even share, and there is nothing to hand down.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from heapq import heapify, heappop, heappush

from streamkit.broker.coordination.group.consumer.assignors.contract import Claimant, Division, Parts
from streamkit.broker.coordination.group.modern.partitions import Partition


def assign(division: Division) -> Parts:
    loads = _Loads(division)
    if loads.is_homogeneous:
        loads.keep(loads.even_shares())
        loads.fill()
    else:
        anew = _Loads(division)
        anew.fill()
        anew.level()
        most = max(map(len, anew.parts.values()))
        loads.keep(dict.fromkeys(loads.parts, most))
        loads.fill()
        loads.level()
    return {member_id: frozenset(part) for member_id, part in loads.parts.items()}


class _Loads:
    """Who has what while it is being divided; all iteration is in sorted order."""

    def __init__(self, division: Division) -> None:
        self.parts: dict[str, set[Partition]] = {c.member_id: set() for c in division.claimants}
        self._claimants = {claimant.member_id: claimant for claimant in division.claimants}
        self._partitions = division.partitions
        self._subscribers: dict[bytes, list[str]] = {
            topic_id: [c.member_id for c in division.claimants if topic_id in c.topics]
            for topic_id in sorted(division.partitions)
        }
        self.is_homogeneous = len({claimant.topics for claimant in division.claimants}) <= 1

    def keep(self, at_most: Mapping[str, int]) -> None:
        taken: set[Partition] = set()
        for member_id, claimant in self._claimants.items():
            kept = [partition for partition in self._still_wanted(claimant) if partition not in taken]
            part = kept[: at_most[member_id]]
            self.parts[member_id].update(part)
            taken.update(part)

    def _still_wanted(self, claimant: Claimant) -> Iterator[Partition]:
        for partition in sorted(claimant.has):
            exists = partition.number < self._partitions.get(partition.topic_id, 0)
            if exists and partition.topic_id in claimant.topics:
                yield partition

    def even_shares(self) -> dict[str, int]:
        """How many each may keep; the odd ones go to those that would lose one otherwise."""
        if not self._claimants:
            return {}
        share, odd = divmod(sum(self._partitions.values()), len(self._claimants))
        have = {member_id: len(list(self._still_wanted(c))) for member_id, c in self._claimants.items()}
        ranked = sorted(self._claimants, key=lambda member_id: (have[member_id] <= share, member_id))
        return {member_id: share + (position < odd) for position, member_id in enumerate(ranked)}

    def fill(self) -> None:
        """Give away what nobody has."""
        owned: set[Partition] = set().union(*self.parts.values())
        for topic_id in sorted(self._subscribers, key=lambda one: (len(self._subscribers[one]), one)):
            heap = [(len(self.parts[member_id]), member_id) for member_id in self._subscribers[topic_id]]
            heapify(heap)
            for index in range(self._partitions[topic_id] if heap else 0):
                partition = Partition(topic_id, index)
                if partition not in owned:
                    load, member_id = heappop(heap)
                    self.parts[member_id].add(partition)
                    heappush(heap, (load + 1, member_id))

    def level(self) -> None:
        """Hand down until nobody has someone below that could take over."""
        while (chain := self._any_chain_down()) is not None:
            for giver, partition, taker in chain:
                self.parts[giver].remove(partition)
                self.parts[taker].add(partition)

    def _any_chain_down(self) -> list[tuple[str, Partition, str]] | None:
        """From whoever has most of those that can hand down."""
        least = min(map(len, self.parts.values()), default=0)
        ranked = sorted(self.parts, key=lambda member_id: (-len(self.parts[member_id]), member_id))
        givers = (member_id for member_id in ranked if len(self.parts[member_id]) >= least + 2)
        return next((chain for giver in givers if (chain := self._chain_down_from(giver))), None)

    def _chain_down_from(self, member_id: str) -> list[tuple[str, Partition, str]] | None:
        """The moves of the shortest chain to a member with at least two partitions less."""
        load = len(self.parts[member_id])
        came_by: dict[str, tuple[str, Partition]] = {}
        queue = deque([member_id])
        while queue:
            giver = queue.popleft()
            for partition, taker in self._possible_moves(giver):
                if taker == member_id or taker in came_by:
                    continue
                came_by[taker] = (giver, partition)
                if len(self.parts[taker]) <= load - 2:
                    return _moves(came_by, taker, member_id)
                queue.append(taker)
        return None

    def _possible_moves(self, giver: str) -> Iterator[tuple[Partition, str]]:
        """One partition of each topic that the member has, to each of the topic's other subscribers."""
        last = {partition.topic_id: partition for partition in sorted(self.parts[giver])}
        for topic_id, partition in last.items():
            for taker in self._subscribers[topic_id]:
                if taker != giver:
                    yield partition, taker


def _moves(
    came_by: dict[str, tuple[str, Partition]], end: str, begin: str
) -> list[tuple[str, Partition, str]]:
    moves = []
    taker = end
    while taker != begin:
        giver, partition = came_by[taker]
        moves.append((giver, partition, taker))
        taker = giver
    return moves
