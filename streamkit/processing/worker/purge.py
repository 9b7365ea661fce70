"""Repartition topics keep their records until their readers have committed them, and not much longer.

Nothing ages in them (a group that is away for a month finds all of its records), so what the group has
committed is deleted. The commits are read from the group, hence a worker may delete whoever's records: below
a commit nobody reads again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from streamkit.processing.topology import Border, Plan
from streamkit.processing.worker.roster import Roster
from streamkit.processing.worker.source import Partition

INTERVAL_S = 30.0


class Purge:
    """`delete(before)` deletes the records of partitions that come before these offsets; it blocks."""

    def __init__(self, plan: Plan, roster: Roster, delete: Callable[[Mapping[Partition, int]], None]) -> None:
        self._topics = {node.reads for node in plan.topology.nodes if isinstance(node, Border)}
        self._roster = roster
        self._delete = delete
        self._deleted: dict[Partition, int] = {}

    async def run(self, places: Callable[[], Sequence[Partition]]) -> None:
        """Until cancelled, for those of `places()`, the partitions that are read here, that are ours."""
        while self._topics:
            await asyncio.sleep(INTERVAL_S)
            await self.once(places())

    async def once(self, places: Sequence[Partition]) -> None:
        """Delete what is committed by now."""
        ours = [place for place in places if place[0] in self._topics]
        positions = await self._roster.committed(ours) if ours else None
        committed = {(p.topic, p.partition): p.offset for p in positions or () if p.offset}
        due = {place: at for place, at in committed.items() if at > self._deleted.get(place, 0)}
        if due:
            await asyncio.to_thread(self._delete, due)
            self._deleted |= due
