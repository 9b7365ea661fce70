"""One loop of a sink: collect rows, write them, and find those that cannot be written.

As in any batch loop a row is in hand until it is written, so a commit never passes it and the task is given
no more than a few batches. A batch never ends between two rows of one record: a sink that knows rows by
offsets must find them together when they come again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import structlog

from streamkit.errors import UsageError
from streamkit.processing.connectors.sinks import BadRow, Row, Sink, Unavailable
from streamkit.processing.tasks.assembly import AgentPort
from streamkit.processing.tasks.inflight import KEY, RAW, TIME, VALUE, Item, Lane, record_of
from streamkit.processing.worker.batches import BatchLoop, Made

if TYPE_CHECKING:
    from streamkit.processing.worker.agents import AgentRunner

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 30.0

log = structlog.get_logger("worker")


class OutflowLoop(BatchLoop):
    """Works through the rows of one task for its copy of a sink."""

    def __init__(self, runner: AgentRunner, port: AgentPort, lane: Lane, sink: Sink) -> None:
        super().__init__(runner, port, lane)
        self._sink = sink

    async def run(self) -> None:
        await self._patiently(self._sink.open)
        try:
            await super().run()
        finally:
            await self._sink.close()

    def _items(self) -> list[Item]:
        items = self._lane.first(self._batch.max_size)
        last = items[-1][RAW]
        while last is not None and len(items) < len(self._lane.queue):
            following = self._lane.queue[len(items)]
            if following[RAW] is not last:
                break
            items.append(following)
        return items

    async def _made_of(self, items: Sequence[Item]) -> Made:
        await self._write(items)
        return []  # nothing goes on from here

    async def _write(self, items: Sequence[Item], *, retries: bool = True) -> None:
        """Write them all but those at fault, which are settled one by one."""
        attempt = 0
        while items and self._runner.working:
            attempt += 1
            try:
                rows = [_row(item) for item in items]
                await self._patiently(partial(self._sink.write, rows))
                return
            except BadRow as bad:
                self._runner.task.settle(self._port, items[bad.index], bad.cause)
                items = [*items[: bad.index], *items[bad.index + 1 :]]
                attempt -= 1
                continue
            except UsageError:
                raise
            except Exception as error:
                pause_ms = self._runner.task.pause_ms(self._port, attempt) if retries else None
                if pause_ms is None and len(items) == 1:
                    self._runner.task.settle(self._port, items[0], error)
                    return
            if pause_ms is None:
                half = _half(items)
                await self._write(items[:half], retries=False)
                await self._write(items[half:], retries=False)
                return
            await asyncio.sleep(pause_ms / 1000)

    async def _patiently(self, call: Callable[[], Awaitable[None]]) -> None:
        """Again and again, for as long as nobody could."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return await call()
            except Unavailable as error:
                log.warning(
                    "sink unavailable", sink=self._port.node.name, error=error.message, again_s=pause_s
                )
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


def _half(items: Sequence[Item]) -> int:
    """About; between two rows of one record only where there is no other place."""
    places = range(1, len(items))
    between = [n for n in places if items[n][RAW] is None or items[n][RAW] is not items[n - 1][RAW]]
    return min(between or places, key=lambda n: abs(2 * n - len(items)))


def _row(item: Item) -> Row:
    record = record_of(item)
    return Row(
        value=item[VALUE],
        key=item[KEY],
        timestamp_ms=item[TIME],
        headers=record.headers,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
    )
