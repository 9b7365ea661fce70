"""P1 under exactly-once: nothing of later records is visible without an earlier one that still runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

import streamkit as sk
from streamkit.errors import StreamkitError
from tests.processing.cluster.members import commits_tried, running, until, until_outside
from tests.support.worker_process import Outside


async def at_once(outside: Outside, topic: str, values: Iterable[int]) -> None:
    """Before the worker begins. A due commit stops the intake until nothing is in hand: of values that come
    one by one, later ones might wait for an earlier one that waits for them.
    """
    await asyncio.to_thread(outside.send, topic, values, str)


async def test_nothing_is_visible_before_all_in_flight_is_done(outside: Outside, name: str) -> None:
    outside.create(f"{name}-in", 1)
    held, done = asyncio.Event(), list[int]()
    app = sk.App(name, commit_interval="100ms", guarantee="exactly_once")

    @app.agent(app.topic(f"{name}-in", key=str), sink=f"{name}-out", concurrency=2)
    async def work(value: int) -> int:
        if value == 0:
            await held.wait()
        done.append(value)
        return value

    await at_once(outside, f"{name}-in", range(5))
    async with running(app, outside.bootstrap) as worker:
        await until(lambda: {1, 2, 3, 4} <= set(done), "those beside it are done")
        await commits_tried(worker)
        assert outside.read(f"{name}-out") == []
        assert outside.committed(name, f"{name}-in") == [-1001]
        held.set()
        await until_outside(lambda: len(outside.read(f"{name}-out")) == 5)
    assert sorted(value for _, value, _ in outside.read(f"{name}-out")) == [0, 1, 2, 3, 4]


async def test_a_doomed_transaction_takes_state_back(outside: Outside, name: str) -> None:
    """In flight for most of the transaction's timeout: aborted, taken back to the commit, done again."""
    outside.create(f"{name}-in", 1)
    kafka = {"transaction.timeout.ms": 5_000}
    app = sk.App(name, commit_interval="100ms", guarantee="exactly_once", kafka=kafka)
    counts = app.table("counts", key=str, default=int)
    tries: list[int] = []

    @app.agent(app.topic(f"{name}-in", key=str), sink=f"{name}-out", tables=[counts])
    async def work(value: int, record: sk.Record[str]) -> list[int]:
        counts[record.key] += 1
        if value == 3:
            tries.append(value)
            if len(tries) == 1:
                await asyncio.sleep(60)
        return [value, counts[record.key]]

    async with running(app, outside.bootstrap) as worker:
        await until(lambda: bool(worker.tasks))
        await asyncio.to_thread(outside.send, f"{name}-in", range(6), lambda _: "k")
        await until_outside(lambda: len(outside.read(f"{name}-out")) == 6)
    assert [value for _, value, _ in outside.read(f"{name}-out")] == [[n, n + 1] for n in range(6)]
    assert len(tries) >= 2


async def test_a_failure_commits_nothing_of_its_transaction(outside: Outside, name: str) -> None:
    outside.create(f"{name}-in", 1)
    app = sk.App(name, commit_interval="100ms", guarantee="exactly_once")
    seen = asyncio.Event()

    @app.agent(app.topic(f"{name}-in", key=str), sink=f"{name}-out", concurrency=2)
    async def work(value: int) -> int:
        if value == 0:
            await seen.wait()
            raise ValueError(value)
        seen.set()
        return value

    await at_once(outside, f"{name}-in", range(2))
    with pytest.raises(StreamkitError, match="ValueError: 0"):
        async with running(app, outside.bootstrap) as worker:
            await until(worker.task.done)
    assert outside.read(f"{name}-out") == []
    assert outside.committed(name, f"{name}-in")[0] in (-1001, 0)
