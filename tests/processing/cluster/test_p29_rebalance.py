"""P29: revoked partitions drain, commit and go; the others never pause; what is late writes nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from random import choice

import pytest

import streamkit as sk
from streamkit.processing.partitioner import partition_for
from streamkit.processing.worker import commit_rounds
from tests.processing.cluster.members import Running, running, until, until_outside
from tests.support.worker_process import Outside

PARTITIONS = 4


def slow_app(name: str, pause_s: float = 0.002) -> sk.App:
    app = sk.App(name, commit_interval="100ms")

    @app.agent(app.topic(f"{name}-in", key=str, partitions=PARTITIONS), sink=f"{name}-out", concurrency=4)
    async def work(value: int) -> int:
        await asyncio.sleep(pause_s)
        return value

    return app


async def test_a_clean_rebalance_neither_loses_nor_repeats(outside: Outside, name: str) -> None:
    outside.create(f"{name}-in", PARTITIONS)
    total = 2_000
    async with running(slow_app(name), outside.bootstrap) as first:
        await until(lambda: len(first.tasks) == PARTITIONS)
        sending = asyncio.create_task(asyncio.to_thread(outside.send, f"{name}-in", range(total), str))
        async with running(slow_app(name), outside.bootstrap) as second:
            await until(lambda: len(first.tasks) == 2 and len(second.tasks) == 2)
            await sending
        await until(lambda: len(first.tasks) == PARTITIONS)
        await until_outside(lambda: sum(max(0, o) for o in outside.committed(name, f"{name}-in")) == total)
    values = Counter(value for _, value, _ in outside.read(f"{name}-out"))
    assert values == Counter(range(total))


async def test_past_the_deadline_the_rest_is_cancelled_and_redelivered(
    outside: Outside, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_rounds, "DRAIN_S", 0.3)
    outside.create(f"{name}-in", PARTITIONS)
    outside.send(f"{name}-in", range(40), str)
    gates = {"first": asyncio.Event(), "second": asyncio.Event()}
    gates["second"].set()

    def make(who: str) -> sk.App:
        app = sk.App(name, commit_interval="100ms")

        @app.agent(app.topic(f"{name}-in", key=str, partitions=PARTITIONS), sink=f"{name}-out")
        async def work(value: int) -> list[str]:
            with suppress(asyncio.CancelledError):  # user code that will not be cancelled, and finishes late
                await gates[who].wait()
            return [who, str(value)]

        return app

    async with running(make("first"), outside.bootstrap) as first:
        await until(lambda: len(first.tasks) == PARTITIONS)
        async with running(make("second"), outside.bootstrap) as second:
            await until(lambda: len(second.tasks) == 2)
            gates["first"].set()
            await until_outside(lambda: sum(max(0, o) for o in outside.committed(name, f"{name}-in")) == 40)
    values = Counter(value[1] for _, value, _ in outside.read(f"{name}-out"))
    assert values == Counter(str(i) for i in range(40))


async def test_kept_partitions_never_pause(
    outside: Outside, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the tasks that leave drain, the others go on with what was fetched for them."""
    monkeypatch.setattr(commit_rounds, "DRAIN_S", 2.0)
    app = sk.App(name, commit_interval="100ms")
    stuck, held, done = asyncio.Event(), set[int](), list[tuple[int, bool]]()
    leaving: set[int] = set()

    @app.agent(app.topic(f"{name}-in", key=str, partitions=PARTITIONS), concurrency=2)
    async def work(value: str, record: sk.Record[str]) -> None:
        assert record.partition is not None
        if value == "stuck":
            held.add(record.partition)
            await stuck.wait()
        await asyncio.sleep(0 if stuck.is_set() else 0.05)
        done.append((record.partition, bool(leaving)))

    keys = [f"key-{i}" for i in range(100)]
    one_each = [next(k for k in keys if partition_for(k.encode(), 4) == p) for p in range(PARTITIONS)]
    outside.create(f"{name}-in", PARTITIONS)
    async with running(app, outside.bootstrap) as first:
        await until(lambda: len(first.tasks) == PARTITIONS)
        await asyncio.to_thread(outside.send, f"{name}-in", ["stuck"] * 4, lambda _: one_each.pop())
        await until(lambda: len(held) == PARTITIONS)
        await asyncio.to_thread(outside.send, f"{name}-in", ["go"] * 1_000, lambda _: choice(keys))
        async with running(slow_app(name), outside.bootstrap):
            await until(lambda: bool(leaving.update(_leaving(first)) or leaving))
            await until(lambda: any(during and partition not in leaving for partition, during in done))
            assert _leaving(first) == leaving, "the others went on while these were still draining"
            stuck.set()


def _leaving(running: Running) -> set[int]:
    """Partitions whose tasks drain on their way out."""
    return {r.task.partition for r in running.member.tasks if not r.intake_open}
