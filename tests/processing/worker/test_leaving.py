"""Whatever goes wrong as a worker ends, it leaves its group: else the others wait for its session to end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

import streamkit as sk
from streamkit.processing.tasks.fuse import SinkRecord
from streamkit.processing.testing import StoredRecord
from streamkit.processing.worker.member import Member
from streamkit.processing.worker.restore import ChangelogReader
from streamkit.processing.worker.source import Arrival, Position, Source
from streamkit.runtime.os.clock import SystemClock
from streamkit.telemetry.instruments import Registry
from tests.processing.worker.test_rollbacks import Given


class Group(Given):
    def __init__(self, closed: list[str]) -> None:
        super().__init__()
        self._closed = closed

    async def close(self) -> None:
        self._closed.append("source")
        raise RuntimeError("this one, too")


class Broken:
    """A sink that fails as no sink should."""

    full = False

    def __init__(self, closed: list[str]) -> None:
        self.sent = asyncio.Event()
        self._closed = closed

    def send(self, topic: str, records: Sequence[SinkRecord]) -> None:
        self.sent.set()

    def serve(self) -> None: ...

    def discard(self) -> None: ...

    async def flush(self) -> None:
        raise RuntimeError("unforeseen")

    async def close(self) -> None:
        self._closed.append("sink")


async def test_an_unforeseen_error_in_the_last_commit_keeps_nothing_open() -> None:
    app = sk.App("leaving")
    app.stream(app.topic("in", key=str, value=int)).to("out")
    closed: list[str] = []
    source, sink = Group(closed), Broken(closed)
    member = Member(
        app.topology().plan({"in": 1}),
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
        await source.listener.assigned([Position("in", 0, 0)])
        await source.begun.wait()
        source.listener.received([Arrival("in", 0, [StoredRecord(("in", 0, 0), (b"k", b"1"), 0)])])
        await sink.sent.wait()
        member.stop()
        with pytest.raises(RuntimeError, match="this one, too") as error:
            await running
    assert str(error.value.__context__) == "unforeseen"
    assert closed == ["source", "sink"]
    assert not list(member.tasks)
