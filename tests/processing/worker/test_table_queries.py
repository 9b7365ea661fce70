"""Queries for rows that are elsewhere, while the coordinator of the group takes its time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import streamkit as sk
from streamkit.processing.worker.queries import TableQueries
from streamkit.processing.worker.roster import Peer, Roster

QUERIES = 4


class Waiting:
    """Answers when the test has seen enough."""

    def __init__(self) -> None:
        self.asked = 0
        self.answering = asyncio.Event()

    async def peers(self) -> Sequence[Peer] | None:
        self.asked += 1
        await self.answering.wait()
        return None


async def test_the_coordinator_is_asked_once_for_all_who_wait() -> None:
    app = sk.App("rows")
    counts = app.table("counts", default=int, key=str)

    @app.agent(app.topic("in", key=str, value=int))
    def count(n: int, record: sk.Record[str]) -> None:
        counts[record.key] += n

    roster = Waiting()
    queries = TableQueries(app.topology().plan({}), ["in"], cast(Roster, roster), lambda _: None)
    asking = [asyncio.to_thread(queries.reply, f"/tables/counts/{n}", {}) for n in range(QUERIES)]
    answers = asyncio.gather(*asking)
    async with asyncio.timeout(10):
        while len([task for task in asyncio.all_tasks() if "_ask" in repr(task)]) < QUERIES:
            await asyncio.sleep(0.01)
        roster.answering.set()
        assert {status for status, _, _ in await answers} == {503}
    assert roster.asked == 1
