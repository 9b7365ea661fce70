"""Global tables of a worker: their topics are read to the end, and followed from there on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from streamkit.processing.record import RawRecord
from streamkit.processing.tasks.inflight import Place
from streamkit.processing.topology import Plan
from streamkit.processing.worker.restore import ChangelogReader


async def follow_globals(plan: Plan, reader: ChangelogReader, caught_up: Callable[[], None]) -> None:
    """Until cancelled, if there are any; `caught_up` is called at the ends of all of them."""
    tables = plan.topology.global_tables
    topics = dict.fromkeys(table.topic.name for table in tables)
    places = [(topic, partition) for topic in topics for partition in range(plan.partition_counts[topic])]
    if not places:
        caught_up()
        return

    def apply(place: Place, records: Sequence[RawRecord]) -> None:
        for table in tables:
            if table.topic.name == place[0]:
                table.apply(records)

    await reader.follow(dict.fromkeys(places, 0), apply, caught_up)
