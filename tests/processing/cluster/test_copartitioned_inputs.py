"""Equal partitions of inputs that meet in one state are always one worker's: each task has one owner."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import combinations
from typing import Any

import pytest

import streamkit as sk
from streamkit.errors import StreamkitError
from streamkit.processing.worker.source import Position
from tests.processing.cluster.members import Running, running, until
from tests.support.worker_process import Outside

PARTITIONS = 4
KEYS = [f"key-{i}" for i in range(24)]


def merging(name: str) -> tuple[sk.App, sk.Table[str, int]]:
    """Counts the records of two topics together; reads a third, which has nothing to do with them."""
    app = sk.App(name, commit_interval="100ms")
    a, b, c = (app.topic(f"{name}-{letter}", key=str, partitions=PARTITIONS) for letter in "abc")
    counts = app.table("counts", key=str, default=int)

    def count(value: Any, record: sk.Record[str]) -> None:
        counts[record.key] += 1

    app.agent(a, name="from_a")(count)
    app.agent(b, name="from_b")(count)
    app.stream(c).to(app.topic(f"{name}-copies", partitions=1))
    return app, counts


def places(member: Running) -> set[tuple[str, int]]:
    return {place for runner in member.member.tasks for place in runner.task.places}


async def test_every_task_has_one_owner_and_the_table_is_right(outside: Outside, name: str) -> None:
    for letter in "abc":
        outside.create(f"{name}-{letter}", PARTITIONS)

    async def send(rounds: int) -> None:
        for letter in "ab":
            for _ in range(rounds):
                await asyncio.to_thread(outside.send, f"{name}-{letter}", KEYS, str)

    def one_owner(*members: Running) -> bool:
        owned = [(member.tasks, places(member)) for member in members]
        for (tasks, its), (others, theirs) in combinations(owned, 2):
            assert not tasks & others and not its & theirs
        return sum(len(tasks) for tasks, _ in owned) == 2 * PARTITIONS and all(tasks for tasks, _ in owned)

    def committed() -> bool:
        topics = [f"{name}-{letter}" for letter in "ab"]
        return all(outside.committed(name, topic) == outside.ends(topic) for topic in topics)

    (first_app, first_counts), (second_app, second_counts) = merging(name), merging(name)
    async with running(first_app, outside.bootstrap) as first:
        await until(lambda: one_owner(first))
        sending = asyncio.create_task(send(10))
        async with running(second_app, outside.bootstrap) as second:
            await until(lambda: one_owner(first, second))
            await sending
            await until(committed)
            assert not set(first_counts) & set(second_counts)
            assert {**first_counts, **second_counts} == dict.fromkeys(KEYS, 20)
        await until(lambda: one_owner(first))
        await send(1)
        await until(committed)
        assert dict(first_counts) == dict.fromkeys(KEYS, 22)
    changelog = Counter({key.decode(): value for key, value, _ in outside.read(f"{name}-counts-changelog")})
    assert changelog == dict.fromkeys(KEYS, 22)


async def test_an_assignment_that_splits_a_task_is_refused(outside: Outside, name: str) -> None:
    app, _ = merging(name)
    async with running(app, outside.bootstrap) as one:
        await until(lambda: len(one.tasks) == 2 * PARTITIONS)
    with pytest.raises(StreamkitError, match=f"without {name}-b-0"):
        await one.member.assigned([Position(f"{name}-a", 0, None)])
