"""Topics that begin to match a pattern while workers run are read, shared out, and resumed later."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import streamkit as sk
from tests.processing.cluster.members import Running, running, until
from tests.support.worker_process import Outside, eventually

KEYS = [f"key-{i}" for i in range(12)]


def places(member: Running) -> set[tuple[str, int]]:
    return {place for runner in member.member.tasks for place in runner.task.places}


@pytest.mark.parametrize("guarantee", [pytest.param("at_least_once", marks=pytest.mark.slow), "exactly_once"])
async def test_topics_come_and_go_while_workers_run(outside: Outside, name: str, guarantee: Any) -> None:
    outside.create(f"{name}-out", 1)
    seen: list[str] = []

    def make() -> sk.App:
        refresh = {"topic.metadata.refresh.interval.ms": 200}
        app = sk.App(name, commit_interval="100ms", guarantee=guarantee, kafka=refresh)
        topics = app.topic("many", pattern=f"{name}-in-.*", key=str)
        stream = app.stream(topics).peek(lambda key, record: seen.append(f"{record.topic} {key}"))
        stream.repartition(2).map(lambda key: f"{key}!").to(f"{name}-out")
        return app

    async def results(*rounds: str) -> None:
        """Each of these rounds of keys has come out, once."""
        expected = sorted(f"{key}!" for _ in rounds for key in KEYS)
        await asyncio.to_thread(
            eventually,
            lambda: sorted(value for _, value, _ in outside.read(f"{name}-out")) == expected,
            lambda: f"{len(outside.read(f'{name}-out'))} results, {len(expected)} expected",
        )

    async def send(topic: str) -> None:
        await asyncio.to_thread(outside.send, f"{name}-in-{topic}", KEYS, str)

    async with running(make(), outside.bootstrap) as first:  # nothing matches yet
        outside.create(f"{name}-in-b", 3)
        await send("b")
        await results("b")
        before = first.member.tasks.named("1_0")
        outside.create(f"{name}-in-a", 2)
        await send("a")
        await results("b", "a")
        assert before is not None and first.member.tasks.named("1_0") is before, (
            "nothing of the old one stopped"
        )

    # while nobody runs, too; and what is done is not done again
    outside.create(f"{name}-in-c", 1)
    await send("c")
    await send("a")
    async with running(make(), outside.bootstrap) as first:
        await results("b", "a", "c", "a")
        wanted = {
            (f"{name}-in-{topic}", p) for topic, count in (("b", 3), ("a", 2), ("c", 1)) for p in range(count)
        }
        await until(lambda: wanted <= places(first))
        outside.delete(f"{name}-in-c")
        await until(lambda: (f"{name}-in-c", 0) not in places(first))
        await send("b")
        await results("b", "a", "c", "a", "b")
        outside.create(f"{name}-in-c", 1)
        await send("c")
        await results("b", "a", "c", "a", "b", "c")
    assert sorted(seen) == sorted(f"{name}-in-{topic} {key}" for topic in "bacabc" for key in KEYS)


async def test_workers_share_the_topics_of_a_pattern_and_new_partitions(outside: Outside, name: str) -> None:
    seen: list[str] = []

    def make() -> sk.App:
        refresh = {"topic.metadata.refresh.interval.ms": 200}
        app = sk.App(name, commit_interval="100ms", kafka=refresh)
        app.stream(app.topic(pattern=f"{name}-.*", key=str)).peek(seen.append)
        return app

    def shared(count: int) -> bool:
        mine, theirs = places(first), places(second)
        return not mine & theirs and len(mine | theirs) == count and bool(mine) and bool(theirs)

    async with (
        running(make(), outside.bootstrap) as first,
        running(make(), outside.bootstrap) as second,
    ):  # nothing to read yet
        outside.create(f"{name}-a", 2)
        outside.create(f"{name}-b", 3)
        await until(lambda: shared(5))
        outside.grow(f"{name}-b", 6)
        await until(lambda: shared(8))
        await asyncio.to_thread(outside.send, f"{name}-b", KEYS, str)
        await until(lambda: len(seen) >= len(KEYS))
        await second.stop()
        await until(lambda: len(places(first)) == 8)
        await asyncio.to_thread(outside.send, f"{name}-a", KEYS, str)
        await until(lambda: len(seen) >= 2 * len(KEYS))
    assert sorted(seen) == sorted(2 * KEYS)
