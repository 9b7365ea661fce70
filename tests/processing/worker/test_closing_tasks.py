"""The stores of a task are open until its agents have ended: nobody else opens them before."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import cast

import pytest

import streamkit as sk
from streamkit.processing.state.memory import MemoryStore
from streamkit.processing.state.store import Store
from streamkit.processing.testing import StoredRecord
from streamkit.processing.worker import standby
from streamkit.processing.worker.member import Member
from streamkit.processing.worker.restore import ChangelogReader, Span
from streamkit.processing.worker.roster import Peer, Roster
from streamkit.processing.worker.sink import Sink
from streamkit.processing.worker.source import Arrival, Partition, Position, Source
from streamkit.processing.worker.standby import Standbys
from streamkit.runtime.os.clock import SystemClock
from streamkit.telemetry.instruments import Registry
from tests.processing.worker.test_lost_tasks import Unacknowledged
from tests.processing.worker.test_rollbacks import Given


class Group(Given):
    async def member_id(self) -> str:
        return "me"


class Peers:
    """The other member has the task already, and this one is to keep a copy of it."""

    def __init__(self) -> None:
        self.looks = 0
        self.looked = asyncio.Condition()

    async def peers(self) -> Sequence[Peer]:
        async with self.looked:
            self.looks += 1
            self.looked.notify_all()
        return [Peer("me", None, frozenset()), Peer("other", None, frozenset({("in", 0)}))]

    async def committed(self, partitions: Sequence[Partition]) -> Sequence[Position]:
        return []

    async def twice_more(self) -> None:
        """The first of the looks from now on has been acted upon."""
        async with self.looked:
            until = self.looks + 2
            await self.looked.wait_for(lambda: self.looks >= until)


class Changelogs:
    """Nothing is in them."""

    async def spans(self, committed: Mapping[Partition, int]) -> dict[Partition, Span]:
        return dict.fromkeys(committed, (0, 0))

    async def follow(self, *_: object) -> None:
        await asyncio.Event().wait()


async def test_no_copy_is_begun_over_the_stores_of_a_task_that_is_closing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(standby, "LOOK_S", 0.001)
    app, in_hand, peers, opened = sk.App("closing"), asyncio.Event(), Peers(), list[Store]()
    counts = app.table("counts", key=str, default=int)

    @app.agent(app.topic("in", key=str, value=int))
    async def count(n: int, record: sk.Record[str]) -> None:
        counts[record.key] += n
        in_hand.set()
        try:
            await asyncio.Event().wait()
        finally:
            await peers.twice_more()

    def make_stores(index: int, partition: int) -> Mapping[str, Store]:
        opened.append(MemoryStore())
        return {"counts": opened[-1]}

    plan = app.topology().plan({"in": 1})
    roster, reader, source = cast(Roster, peers), cast(ChangelogReader, Changelogs()), Group()
    standbys = Standbys(plan, 1, roster, reader, make_stores)
    member = Member(
        plan,
        cast(Source, source),
        cast(Sink, Unacknowledged()),
        reader,
        clock=SystemClock(),
        registry=Registry(),
        commit_interval_s=60,
        make_stores=make_stores,
        standbys=standbys,
    )
    running = asyncio.create_task(member.run())
    async with asyncio.timeout(20):
        await source.joined.wait()
        assert source.listener is not None
        await source.listener.assigned([Position("in", 0, 0)])
        await source.begun.wait()
        source.listener.received([Arrival("in", 0, [StoredRecord(("in", 0, 0), (b"k", b"1"), 0)])])
        await in_hand.wait()
        await source.listener.lost([("in", 0)])
        assert not list(member.tasks)
        assert len(opened) == 1
        kept = standbys.take((0, 0))
        assert kept is not None and kept["counts"] is opened[0], "its stores became the copy"
        member.stop()
        await running
