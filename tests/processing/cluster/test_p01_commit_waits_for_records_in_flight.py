"""P1: nothing at or past a record that is still running is committed, and a restart sees it again."""

from __future__ import annotations

import asyncio

import streamkit as sk
from tests.processing.cluster.members import commits_tried, running, until, until_outside
from tests.support.worker_process import Outside


async def test_committed_stays_at_the_record_in_flight(
    outside: Outside, name: str, monkeypatch: object
) -> None:
    stuck, seen, finished = asyncio.Event(), list[int](), list[int]()

    def make() -> sk.App:
        app = sk.App(name, commit_interval="50ms")

        @app.agent(app.topic(f"{name}-in"), concurrency=2)
        async def work(value: int) -> None:
            seen.append(value)
            if value == 10:
                await stuck.wait()
            finished.append(value)

        return app

    outside.create(f"{name}-in")
    outside.send(f"{name}-in", range(15))
    async with running(make(), outside.bootstrap) as first:
        await until(lambda: len(finished) == 14)
        await until_outside(lambda: outside.committed(name, f"{name}-in") == [10])
        await until(lambda: bool(first.member.metrics.commits._last.value))
        await commits_tried(first)
        assert outside.committed(name, f"{name}-in") == [10]
        stuck.set()
    seen.clear()
    await asyncio.to_thread(outside.send, f"{name}-in", [15])
    async with running(make(), outside.bootstrap):
        await until(lambda: 15 in seen)
    assert outside.committed(name, f"{name}-in") == [16]
