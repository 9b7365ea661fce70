"""State before records: a task's stores are replayed from their changelogs, then it starts.

A store takes from its changelog what lies between its own position (0 for a new one) and the position that
stands in the metadata of the last commit. A store past that commit, or before the changelog's start, begins
anew. What lies past the commit was never committed: its input will be processed again. A task whose
offsets were never committed starts with empty state. The keys of those orphaned records, up to the present
end of the changelog, are noted all the same: the task's first commit repairs them (`state.changelog`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from time import perf_counter
from typing import Protocol

import structlog

from streamkit.processing.record import RawRecord
from streamkit.processing.state.store import Store
from streamkit.processing.tasks.inflight import Place
from streamkit.processing.tasks.task import Task
from streamkit.processing.worker.progress import Progress

MANY = 10_000  # records, from which on a store is loaded rather than written

Span = tuple[int, int]  # offsets: from, to (exclusive)
log = structlog.get_logger("worker.restore")


class ChangelogReader(Protocol):
    async def spans(self, committed: Mapping[Place, int]) -> dict[Place, Span]:
        """Start and end of each partition. Raises RefusedError for one that lacks what was committed."""
        ...

    async def read(
        self, spans: Mapping[Place, Span], apply: Callable[[Place, Sequence[RawRecord]], None]
    ) -> None:
        """`apply` every record of its partition's span, in order."""
        ...

    async def follow(
        self,
        starts: Mapping[Place, int],
        apply: Callable[[Place, Sequence[RawRecord]], None],
        caught_up: Callable[[], None],
    ) -> None:
        """`apply` every record from these offsets on (0: from the first that is left), until cancelled; call
        `caught_up` once, at the end of all of them.
        """
        ...


async def restore(
    task: Task, positions: Mapping[Place, int], reader: ChangelogReader, progress: Progress
) -> dict[Place, int]:
    """Fill the task's stores up to `positions` (by changelog partition); returns the ends of its changelogs,
    below which it has seen every row that is not committed.
    """
    stores = {(task.sub.changelog(store), task.partition): store for store in task.sub.stores}
    if not stores:
        return {}
    committed = {place: positions.get(place, 0) for place in stores}
    spans, ends = {}, {}
    for place, (first, end) in (await reader.spans(committed)).items():
        ends[place] = end
        start = usable_from(task.stores[stores[place]], place, first, committed[place])
        if end > start:
            spans[place] = start, end
    if not spans:
        return ends
    began, applied = perf_counter(), 0
    total = sum(end - start for start, end in spans.values())
    log.info("restoring", task=task.id, stores=sorted({stores[place] for place in spans}), records=total)

    def apply(place: Place, records: Sequence[RawRecord]) -> None:
        nonlocal applied
        applied += task.restore(stores[place], records, committed[place])
        if records:
            progress.left(stores[place], task.partition, spans[place][1] - records[-1].offset() - 1)

    with ExitStack() as loading:
        for place, (start, end) in spans.items():
            progress.began(stores[place], task.partition, end - start)
            loading.callback(progress.ended, stores[place], task.partition)
            if end - start >= MANY:
                loading.enter_context(task.stores[stores[place]].loading())
        await reader.read(spans, apply)
    seconds = round(perf_counter() - began, 3)
    log.info("restored", task=task.id, records=applied, orphans=task.orphans, seconds=seconds)
    return ends


def usable_from(store: Store, place: Place, first: int, committed: int) -> int:
    """The offset from which the store lacks changes. One that cannot be brought to the commit begins anew."""
    behind = 0 < store.position < first  # deletes may be among what the changelog has dropped
    if store.position > committed or behind:
        log.warning("store discarded", changelog=place[0], partition=place[1], position=store.position)
        store.clear()
    return store.position
