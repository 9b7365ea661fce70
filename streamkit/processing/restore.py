"""State before records: a task's stores are replayed from their changelogs, then it starts.

A store in memory is read from the beginning of its changelog, up to the position that stands in the metadata
of the last commit. What lies past it was never committed: its input will be processed again. A task whose
offsets were never committed starts with empty state. The keys of those orphaned records, up to the present
end of the changelog, are noted all the same: the task's first commit repairs them (`state.changelog`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Protocol

import structlog

from streamkit.processing.inflight import Place
from streamkit.processing.record import RawRecord
from streamkit.processing.task import Task
from streamkit.telemetry.instruments import Family, Gauge

log = structlog.get_logger("worker.restore")


class ChangelogReader(Protocol):
    async def ends(self, committed: Mapping[Place, int]) -> dict[Place, int]:
        """The end of each partition. Raises RefusedError for one that lacks what was committed."""
        ...

    async def read(
        self, ends: Mapping[Place, int], apply: Callable[[Place, Sequence[RawRecord]], None]
    ) -> None:
        """`apply` every record below its partition's (exclusive) end, in order."""
        ...

    async def follow(
        self,
        places: Sequence[Place],
        apply: Callable[[Place, Sequence[RawRecord]], None],
        caught_up: Callable[[], None],
    ) -> None:
        """`apply` every record from the beginning on, until cancelled; call `caught_up` once, at the end of
        all of them.
        """
        ...


async def restore(
    task: Task, positions: Mapping[Place, int], reader: ChangelogReader, remaining: Family[Gauge]
) -> None:
    """Fill the task's stores up to `positions` (by changelog partition)."""
    stores = {(task.sub.changelog(store), task.partition): store for store in task.sub.stores}
    if not stores:
        return
    committed = {place: positions.get(place, 0) for place in stores}
    ends = {place: end for place, end in (await reader.ends(committed)).items() if end > 0}
    if not ends:
        return
    began, applied = perf_counter(), 0
    gauges = {place: remaining.labels(stores[place], str(task.partition)) for place in ends}
    for place, gauge in gauges.items():
        gauge.value = ends[place]
    log.info("restoring", task=task.id, stores=sorted(stores.values()), records=sum(ends.values()))

    def apply(place: Place, records: Sequence[RawRecord]) -> None:
        nonlocal applied
        applied += task.restore(stores[place], records, committed[place])
        if records:
            gauges[place].value = ends[place] - records[-1].offset() - 1

    try:
        await reader.read(ends, apply)
    finally:
        for place in ends:
            remaining.forget(stores[place], str(task.partition))
    seconds = round(perf_counter() - began, 3)
    log.info("restored", task=task.id, records=applied, orphans=task.orphans, seconds=seconds)
