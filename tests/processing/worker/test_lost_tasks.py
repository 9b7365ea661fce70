"""A worker that hears that others own its tasks throws away what it still had to send for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import cast

import streamkit as sk
from streamkit.processing.tasks.fuse import SinkRecord
from streamkit.processing.worker.member import Member
from streamkit.processing.worker.restore import ChangelogReader
from streamkit.processing.worker.source import Position, Source
from streamkit.runtime.os.clock import SystemClock
from streamkit.telemetry.instruments import Registry
from tests.processing.worker.test_rollbacks import Given


class Unacknowledged:
    """Nothing arrives."""

    full = False

    def __init__(self) -> None:
        self.discarded = 0

    def send(self, topic: str, records: Sequence[SinkRecord]) -> None: ...

    def serve(self) -> None: ...

    async def flush(self) -> None:
        await asyncio.Event().wait()

    def discard(self) -> None:
        self.discarded += 1

    async def close(self) -> None: ...


async def test_what_lost_tasks_have_in_the_queue_is_dropped_with_the_last_of_them() -> None:
    app = sk.App("lost")
    app.stream(app.topic("in", key=str, value=int)).to("out")
    source, sink = Given(), Unacknowledged()
    member = Member(
        app.topology().plan({"in": 2}),
        cast(Source, source),
        sink,
        cast(ChangelogReader, None),
        clock=SystemClock(),
        registry=Registry(),
        commit_interval_s=60,
    )
    running = asyncio.create_task(member.run())
    async with asyncio.timeout(20):
        await source.joined.wait()
        assert source.listener is not None
        await source.listener.assigned([Position("in", number, 0) for number in range(2)])
        await source.listener.lost([("in", 0)])
        assert sink.discarded == 0, "the other task's records are among them"
        await source.listener.lost([("in", 1)])
        assert sink.discarded == 1
        member.stop()
        with suppress(asyncio.CancelledError):
            await running
