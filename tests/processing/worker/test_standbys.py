"""Standby copies of a worker that ends while it stops following changelogs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import pytest

import streamkit as sk
from streamkit.processing.record import RawRecord
from streamkit.processing.state import changelog
from streamkit.processing.tasks.inflight import Place
from streamkit.processing.worker import standby
from streamkit.processing.worker.restore import ChangelogReader, Span
from streamkit.processing.worker.roster import Peer, Roster
from streamkit.processing.worker.source import Partition, Position
from streamkit.processing.worker.standby import Standbys
from streamkit.telemetry.instruments import Registry
from tests.processing.lives import Lives, on_disk, undisturbed
from tests.processing.test_joins_larger_than_memory import disordered, joined


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


@pytest.mark.usefixtures("spilling")
def test_a_copy_has_what_its_task_looks_for() -> None:
    """A task goes on in a copy, which knows the changelog: what is due is found, and who meets whom."""
    slices = disordered(3)
    with on_disk() as make_store:
        lives = Lives(joined("outer"), slices, make_store)
        copies = Standbys(lives.plan, 1, cast(Roster, Peers()), cast(ChangelogReader, Slow()), None)
        stores = {name: make_store(name) for name in lives.sub.stores}
        assert copies.adopt((0, 0), stores)
        for at in range(30):
            lives.step()
            if at % 3 == 2:
                lives.commit()
                for name, store in stores.items():
                    records = lives.log.partitions(lives.sub.changelog(name))[0]
                    changelog.apply(store, records, len(records))
        lives.close()
        taken = copies.take((0, 0))
        assert taken is not None
        positions = [store.position for store in taken.values()]
        lives.stores = dict(taken)
        lives.born()
        assert [store.position for store in taken.values()] == positions > [0], "nothing was begun anew"
        assert lives.run(random.Random(3), deaths=0) == undisturbed(joined("outer"), slices)
        lives.close()
