"""A topic that is deleted while a worker reads from it ends the worker, and is named; so is one that follows
the assignment of another.
"""

from __future__ import annotations

import asyncio

import pytest

import streamkit as sk
from streamkit.errors import NotFoundError
from streamkit.processing.app import OnLostRecords
from tests.processing.cluster.members import Running, running, until
from tests.support.worker_process import Outside

KEYS = [f"key-{i}" for i in range(8)]
OFTEN = {"topic.metadata.refresh.interval.ms": 200}


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamkit.processing.worker.worker.DELETED_S", 0.2)


def joining(name: str, on_lost_records: OnLostRecords) -> tuple[sk.App, list[str]]:
    """The records of topic a, each with its row of topic b: b follows a's assignment."""
    app = sk.App(name, commit_interval="100ms", kafka=OFTEN, on_lost_records=on_lost_records)
    a, b = (app.topic(f"{name}-{letter}", key=str, value=str, partitions=2) for letter in "ab")
    joined: list[str] = []
    app.stream(a).join(app.table_from(b), lambda left, _: left).peek(joined.append)
    return app, joined


async def ended(one: Running) -> None:
    async with asyncio.timeout(20):
        await asyncio.wait([one.task])


@pytest.mark.parametrize("has_records", [False, True])
@pytest.mark.parametrize(("letter", "on_lost_records"), [("a", "fail"), ("b", "fail"), ("b", "continue")])
async def test_the_worker_ends_and_names_it(
    outside: Outside, name: str, letter: str, on_lost_records: OnLostRecords, has_records: bool
) -> None:
    app, _ = joining(name, on_lost_records)
    with pytest.raises(NotFoundError, match=f"the topic {name}-{letter} was deleted") as error:
        async with running(app, outside.bootstrap) as one:
            await until(lambda: one.tasks == {"0_0", "0_1"})
            if has_records:
                await asyncio.to_thread(outside.send, f"{name}-{letter}", KEYS, str)
                await asyncio.to_thread(outside.caught_up, name, f"{name}-{letter}")
            outside.delete(f"{name}-{letter}")
            await ended(one)
    assert f"streamkit app reset {name}" in error.value.hint


async def test_the_next_worker_goes_on_with_it_made_anew(outside: Outside, name: str) -> None:
    """As the error says."""
    app, _ = joining(name, "fail")
    with pytest.raises(NotFoundError):
        async with running(app, outside.bootstrap) as one:
            await until(lambda: one.tasks == {"0_0", "0_1"})
            await asyncio.to_thread(outside.send, f"{name}-b", KEYS, str)
            await asyncio.to_thread(outside.caught_up, name, f"{name}-b")
            outside.delete(f"{name}-b")
            await ended(one)
    app, joined = joining(name, "fail")
    async with running(app, outside.bootstrap) as one:
        for letter in "ba":
            await asyncio.to_thread(outside.send, f"{name}-{letter}", KEYS, str)
            await asyncio.to_thread(outside.caught_up, name, f"{name}-{letter}")
        assert len(joined) == len(KEYS)


async def test_topics_of_a_pattern_may_go(outside: Outside, name: str) -> None:
    """Also one of which nothing was read yet."""
    app, seen = sk.App(name, commit_interval="100ms", kafka=OFTEN), list[str]()
    app.stream(app.topic(pattern=f"{name}-.", key=str)).peek(seen.append)
    for letter in "ab":
        outside.create(f"{name}-{letter}", 1)
    async with running(app, outside.bootstrap) as one:
        await until(lambda: len(one.tasks) == 2)
        outside.delete(f"{name}-b")
        await until(lambda: len(one.tasks) == 1)
        await asyncio.to_thread(outside.send, f"{name}-a", KEYS, str)
        await until(lambda: seen == KEYS)
