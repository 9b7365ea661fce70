"""Standby copies of a worker that ends while it stops following changelogs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import pytest

import streamkit as sk
from streamkit.processing.record import RawRecord
from streamkit.processing.tasks.inflight import Place
from streamkit.processing.worker import standby
from streamkit.processing.worker.restore import ChangelogReader, Span
from streamkit.processing.worker.roster import Peer, Roster
from streamkit.processing.worker.source import Partition, Position
from streamkit.processing.worker.standby import Standbys
from streamkit.telemetry.instruments import Registry


class Peers:
    """Two members, of whom the other has the task, until it has left."""

    def __init__(self) -> None:
        self.other = frozenset({("in", 0)})

    async def peers(self) -> Sequence[Peer]:
        return [Peer("me", None, frozenset()), Peer("other", None, self.other)]

    async def committed(self, partitions: Sequence[Partition]) -> Sequence[Position]:
        return []


class Slow:
    """Follows until it is cancelled, and then takes its time, as a consumer that is closed does."""

    def __init__(self) -> None:
        self.following = asyncio.Event()
        self.ending = asyncio.Event()
        self.may_end = asyncio.Event()

    async def spans(self, committed: Mapping[Place, int]) -> dict[Place, Span]:
        return dict.fromkeys(committed, (0, 0))

    async def follow(
        self,
        starts: Mapping[Place, int],
        apply: Callable[[Place, Sequence[RawRecord]], None],
        caught_up: Callable[[], None],
    ) -> None:
        self.following.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ending.set()
            await self.may_end.wait()


async def test_who_is_cancelled_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standby, "LOOK_S", 0.001)
    app = sk.App("standbys")
    counts = app.table("counts", default=int, key=str)

    @app.agent(app.topic("in", key=str, value=int))
    def count(n: int, record: sk.Record[str]) -> None:
        counts[record.key] += n

    async def me() -> str:
        return "me"

    peers, reader = Peers(), Slow()
    copies = Standbys(app.topology().plan({}), 1, cast(Roster, peers), cast(ChangelogReader, reader), None)
    remaining = Registry().gauge("remaining", "", ["store", "partition"])
    async with asyncio.timeout(20):
        running = asyncio.create_task(copies.run(me, lambda _: False, remaining))
        await reader.following.wait()
        peers.other = frozenset()
        await reader.ending.wait()
        running.cancel()
        await asyncio.sleep(0)
        reader.may_end.set()
        await asyncio.wait([running], timeout=2)
        assert running.cancelled()
        await copies.close()
