"""Topics that begin to match a pattern while a worker runs, or are gone: the group is told what to hand out.

Each worker looks for itself and changes its subscription; the group gives the partitions of a topic to those
who know of it. So for a moment the worker that looked first has all of a new topic, and nobody waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import structlog

from streamkit.errors import StreamkitError
from streamkit.processing.patterns import matching
from streamkit.processing.topology import Plan

log = structlog.get_logger("worker.topics")


class Subscriber(Protocol):
    async def follow(self, topics: Collection[str]) -> None:
        """Be given partitions of these topics from now on, besides those that are always read."""
        ...


class NewTopics:
    """`look` gives the partitions of every topic there is; it blocks."""

    def __init__(
        self, plan: Plan, subscriber: Subscriber, look: Callable[[], Mapping[str, int]], interval_s: float
    ) -> None:
        self._plan = plan
        self._subscriber = subscriber
        self._look = look
        self._interval_s = interval_s
        self._followed = set(plan.matched)
        self._missing: set[str] = set()  # at the last look

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self.once()
            except StreamkitError as error:
                log.warning("topics are not looked up now", error=error.message)

    async def once(self) -> None:
        """Look, and follow what is there. A topic is gone when it is missing twice."""
        found = matching(self._plan, await asyncio.to_thread(self._look))
        gone = self._followed - found
        gone, self._missing = gone & self._missing, gone
        wanted = (self._followed | found) - gone
        if wanted != self._followed:
            new = sorted(wanted - self._followed)
            log.info("topics of a pattern", new=new, gone=sorted(gone))
            await self._subscriber.follow(wanted)
            self._followed = wanted
