"""P30: idle members hang nobody, and a broker that was away is found again by every partition."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import streamkit as sk
from tests.processing.cluster.members import running, until, until_outside
from tests.support.broker_process import BrokerProcess
from tests.support.worker_process import Outside

OUTAGE_S = 2.0


def doubling(name: str, partitions: int) -> sk.App:
    app = sk.App(name, commit_interval="100ms")
    app.stream(app.topic(f"{name}-in", partitions=partitions)).map(lambda v: 2 * v).to(f"{name}-out")
    return app


async def test_five_workers_and_one_partition(outside: Outside, name: str) -> None:
    outside.create(f"{name}-in")
    async with AsyncExitStack() as stack:
        members = [
            await stack.enter_async_context(running(doubling(name, 1), outside.bootstrap)) for _ in range(5)
        ]
        await until(lambda: sum(len(member.tasks) for member in members) == 1)
        await asyncio.to_thread(outside.send, f"{name}-in", range(100))
        await until_outside(lambda: outside.committed(name, f"{name}-in") == [100])
        owner = next(member for member in members if member.tasks)
        await owner.stop()
        await until(lambda: sum(len(m.tasks) for m in members if m is not owner) == 1)
        await asyncio.to_thread(outside.send, f"{name}-in", range(100))
        await until_outside(lambda: outside.committed(name, f"{name}-in") == [200])
    assert len(outside.read(f"{name}-out")) == 200


async def test_every_partition_resumes_after_an_outage(
    new_broker: Callable[..., BrokerProcess], name: str
) -> None:
    broker = await asyncio.to_thread(new_broker().start)
    outside = Outside(broker.bootstrap)
    outside.create(f"{name}-in", 4)
    async with running(doubling(name, 4), broker.bootstrap) as member:
        await until(lambda: len(member.tasks) == 4)
        await asyncio.to_thread(outside.send, f"{name}-in", range(100), str)
        await asyncio.to_thread(outside.caught_up, name, f"{name}-in")
        await asyncio.to_thread(broker.kill)
        await asyncio.sleep(OUTAGE_S)
        await asyncio.to_thread(broker.start)
        await asyncio.to_thread(outside.send, f"{name}-in", range(100), str)
        await asyncio.to_thread(outside.caught_up, name, f"{name}-in")
        assert len(await asyncio.to_thread(outside.read, f"{name}-out")) >= 200
    assert {value for _, value, _ in outside.read(f"{name}-out")} == {2 * i for i in range(100)}
