"""One task with a sink, run as a worker runs it, but for the broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

import streamkit as sk
from streamkit.processing.record import Headers
from streamkit.processing.tasks.task import Batch, Task
from streamkit.processing.testing import StoredRecord
from streamkit.processing.worker.agents import AgentRunner

PATIENCE_S = 10.0


class OneTask:
    """The task of partition 0 and its sink's loop."""

    def __init__(self, app: sk.App) -> None:
        plan = app.topology().plan({})
        self.task = Task(plan, plan.subtopologies[0], 0)
        self.topic = plan.subtopologies[0].topics[0]
        self._moved = asyncio.Event()
        self.runner = AgentRunner(self.task, self._moved.set)
        self.letters: list[bytes | None] = []

    def offer(self, values: Iterable[Any], key: bytes | None = b"k", first: int = 0) -> None:
        """Records from offset `first` on, as JSON; bytes and text as they are."""
        records = [
            StoredRecord((self.topic, 0, first + n), (key, _encoded(value)), 1000 + first + n, _headers(n))
            for n, value in enumerate(values)
        ]
        self.task.process(Batch(self.topic, 0, records), 0)
        self.runner.wake()

    async def until_committable(self, offset: int) -> None:
        """Everything below the offset is written, or settled otherwise."""
        async with asyncio.timeout(PATIENCE_S):
            while self.task.committable((self.topic, 0)) != offset and self.task.failure is None:
                await self._moved.wait()
                self._moved.clear()
        for topic, records in self.task.drain().sinks.items():
            assert topic == "dead"
            self.letters += [record[0] for record in records]


@asynccontextmanager
async def one_task(app: sk.App, position: int = 0) -> AsyncIterator[OneTask]:
    """A task that goes on at `position`, until it is left as at a crash."""
    one = OneTask(app)
    one.task.resume((one.topic, 0), None, position)
    one.task.start()
    one.runner.start()
    one.runner.hurry(True)
    try:
        yield one
    finally:
        await one.runner.stop()


def _encoded(value: Any) -> bytes | None:
    if isinstance(value, str):
        return value.encode()
    return value if value is None or isinstance(value, bytes) else msgspec.json.encode(value)


def _headers(number: int) -> Headers | None:
    return [("n", b"%d" % number)] if number == 0 else None
