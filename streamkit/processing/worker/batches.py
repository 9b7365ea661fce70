"""One loop of a batch agent: collect records, call the user's function, let the results leave.

    wait for a record ─► wait for more (`max_wait`, unless in a hurry) ─► call ─► results leave ─► done

A record is in hand from its arrival until the results of its batch have left: nothing past it is committed. A
batch that fails after its retries is taken apart: each of its records is tried alone, once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from streamkit.processing.record import Record, wants_record
from streamkit.processing.tasks.assembly import AgentPort
from streamkit.processing.tasks.inflight import STREAM_TIME, VALUE, Item, Lane, record_of
from streamkit.processing.worker.in_time import in_time

if TYPE_CHECKING:
    from streamkit.processing.worker.agents import AgentRunner

Made = list[tuple[Item, Any]]  # records and what became of them


class BatchLoop:
    """Works through the batches of one lane."""

    def __init__(self, runner: AgentRunner, port: AgentPort, lane: Lane) -> None:
        assert port.node.batch is not None
        self._runner = runner
        self._port = port
        self._lane = lane
        self._batch = port.node.batch
        self._scope = port.new_scope()
        self._with_records = wants_record(port.node.function)

    async def run(self) -> None:
        while self._runner.working:
            await self._collect()
            items = self._items()
            await self._leave(await self._made_of(items))
            if self._runner.working:
                self._lane.drop(len(items))
            self._runner.on_output()
            await asyncio.sleep(0)

    async def _collect(self) -> None:
        """Until a batch is full, has waited long enough, or must not wait any more."""
        lane, event, loop = self._lane, self._runner.event(self._port), asyncio.get_running_loop()
        until: float | None = None
        while len(lane.queue) < self._batch.max_size:
            if lane.queue and self._runner.hurried:
                return
            if lane.queue and until is None:
                until = loop.time() + self._batch.max_wait_ms / 1000
            event.clear()
            try:
                async with asyncio.timeout_at(until):
                    await event.wait()
            except TimeoutError:
                return

    def _items(self) -> list[Item]:
        """The next batch."""
        return self._lane.first(self._batch.max_size)

    async def _made_of(self, items: Sequence[Item]) -> Made:
        """The results of the whole, again where the policy says so, else of each alone."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._call(items)
            except Exception as error:
                pause_ms = self._runner.task.pause_ms(self._port, attempt)
                if pause_ms is None and len(items) == 1:
                    self._runner.task.settle(self._port, items[0], error)
                    return []
            if pause_ms is None:
                return await self._one_by_one(items)
            await asyncio.sleep(pause_ms / 1000)

    async def _one_by_one(self, items: Sequence[Item]) -> Made:
        made: Made = []
        for item in items:
            try:
                made += await self._call([item])
            except Exception as error:
                self._runner.task.settle(self._port, item, error)
                if not self._runner.working:
                    break
        return made

    async def _call(self, items: Sequence[Item]) -> Made:
        node, batch, records = self._port.node, self._batch, list[Record[Any]]()
        if self._with_records or batch.frame is not None:
            records = [record_of(item) for item in items]
        arguments = [batch.taken([item[VALUE] for item in items], records)]
        if self._with_records:
            arguments.append(records)
        self._scope.time_ms = items[-1][STREAM_TIME]
        call = self._runner.lend(node.function(*arguments), self._scope)
        returned = await (call if node.timeout_ms is None else in_time(call, node.timeout_ms))
        return list(zip(items, batch.results(len(items), returned, records), strict=True))

    async def _leave(self, made: Made) -> None:
        for item, value in made:
            if self._runner.working:
                await self._runner.leave(self._port, item, value, self._scope)
