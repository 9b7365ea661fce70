"""Topics that a worker reads and that are deleted meanwhile: it ends, and says which.

The group would take the partitions away without a word, and a topic that only follows another's assignment
(see `kafka/source.py`) would not even be missed: a worker that waits for records looks like one that has none
to wait for. Topics of patterns may come and go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from streamkit.errors import NotFoundError
from streamkit.processing.topology import Plan


class DeletedTopics:
    """`look` gives those of the topics named to it that the cluster says do not exist; it blocks."""

    def __init__(
        self, plan: Plan, look: Callable[[Collection[str]], Collection[str]], interval_s: float
    ) -> None:
        read = (topic for sub in plan.subtopologies for topic in sub.topics)
        followed = (table.topic.name for table in plan.topology.global_tables)
        self._app_id = plan.topology.app_id
        self._topics = sorted({*read, *followed} - {*plan.matched})
        self._look = look
        self._interval_s = interval_s
        self._missing: set[str] = set()  # at the last look

    async def run(self) -> None:
        """Until cancelled; raises NotFoundError."""
        while self._topics:
            await asyncio.sleep(self._interval_s)
            await self.once()

    async def once(self) -> None:
        """A topic is deleted when it is missing twice: a broker that has just started may not know it yet."""
        missing = set(await asyncio.to_thread(self._look, self._topics))
        gone, self._missing = missing & self._missing, missing
        if gone:
            raise deleted(sorted(gone), self._app_id)


def deleted(topics: Collection[str], app_id: str) -> NotFoundError:
    what = (
        f"the topic {', '.join(topics)} was" if len(topics) == 1 else f"the topics {', '.join(topics)} were"
    )
    return NotFoundError(
        f"{what} deleted while the app reads from there",
        hint="start the worker again to go on with what is missing made anew, empty; first "
        f"streamkit app reset {app_id}, to begin anew altogether",
    )
