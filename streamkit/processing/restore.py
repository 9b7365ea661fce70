"""State before records: a task's stores are replayed from their changelogs, then it starts.

A store in memory is read from the beginning of its changelog, up to the position that stands in the metadata
of the last commit. What lies past it was never committed: its input will be processed again. A task whose
offsets were never committed starts with empty state, whatever an earlier crash left in the changelog.
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
    async def read(
        self, ends: Mapping[Place, int], apply: Callable[[Place, Sequence[RawRecord]], None]
    ) -> None:
        """`apply` every record below its partition's (exclusive) end, in order."""
        ...


async def restore(
    task: Task, positions: Mapping[Place, int], reader: ChangelogReader, remaining: Family[Gauge]
) -> None:
    """Fill the task's stores up to `positions` (by changelog partition)."""
    stores = {(task.sub.changelog(store), task.partition): store for store in task.sub.stores}
    ends = {place: positions[place] for place in stores if positions.get(place, 0) > 0}
    if not ends:
        return
    began, applied = perf_counter(), 0
    gauges = {place: remaining.labels(stores[place], str(task.partition)) for place in ends}
    for place, gauge in gauges.items():
        gauge.value = ends[place]
    log.info("restoring", task=task.id, stores=sorted(stores.values()), records=sum(ends.values()))

    def apply(place: Place, records: Sequence[RawRecord]) -> None:
        nonlocal applied
        applied += task.restore(stores[place], records, ends[place])
        if records:
            gauges[place].value = ends[place] - records[-1].offset() - 1

    try:
        await reader.read(ends, apply)
    finally:
        for place in ends:
            remaining.forget(stores[place], str(task.partition))
    seconds = perf_counter() - began
    log.info("restored", task=task.id, records=applied, seconds=round(seconds, 3))
