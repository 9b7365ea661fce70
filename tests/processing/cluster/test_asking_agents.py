"""Agents of a running worker are asked by another program, and the topics for replies come and go."""

from __future__ import annotations

import asyncio

import pytest

import streamkit as sk
from streamkit.processing.replies import TOKEN_BYTES, Asked, reply_topic, request_headers
from tests.processing.cluster.members import running, until_outside
from tests.support.worker_process import Outside


class Shop:
    """The app, as each of two programs makes it."""

    def __init__(self, name: str, outside: Outside, **options: str) -> None:
        self.app = sk.App(name, outside.bootstrap, commit_interval="100ms", **options)  # type: ignore[arg-type]
        asked = self.app.topic(f"{name}-asked", key=str, value=int, partitions=4)
        self.inverse = self.app.agent(asked, sink=f"{name}-out", concurrency=16)(inverse)
        self.total = self.app.agent(name="total", concurrency=4)(self._total)

    async def _total(self, numbers: list[int]) -> float:
        return sum([x async for x in self.inverse.map(numbers, key=str)])


async def inverse(n: int) -> float:
    await asyncio.sleep(0.001)
    return 1 / n


def reply_topics(outside: Outside, name: str) -> list[str]:
    found = outside._admin.list_topics(timeout=10).topics
    return [topic for topic in found if topic.startswith(f"{name}-replies-")]


async def test_a_worker_is_asked(outside: Outside, name: str) -> None:
    worker, client = Shop(name, outside), Shop(name, outside)
    async with running(worker.app, outside.bootstrap):
        async with client.app:
            assert not reply_topics(outside, name), "made on demand"
            assert await client.inverse.ask(4, key="a", timeout="30s") == 0.25
            assert len(reply_topics(outside, name)) == 1
            replies = [x async for x in client.inverse.map(range(1, 301), key=str)]
            assert replies == [1 / n for n in range(1, 301)]
            with pytest.raises(sk.AgentError, match="inverse raised ZeroDivisionError: division by zero"):
                await client.inverse.ask(0)
            assert await client.total.ask([1, 2, 4], timeout="30s") == 1.75, "agents ask agents"
            await client.inverse.cast(5)
        await until_outside(lambda: len(outside.read(f"{name}-out")) == 1 + 300 + 3 + 1)
        await until_outside(lambda: len(reply_topics(outside, name)) == 1, "the worker's own")
    await until_outside(lambda: not reply_topics(outside, name), "removed at the end")


async def test_no_worker_is_a_timeout(outside: Outside, name: str) -> None:
    client = Shop(name, outside)
    async with client.app:
        with pytest.raises(TimeoutError, match=r"no reply from inverse within 0\.5 s"):
            await client.inverse.ask(1, timeout="500ms")


async def test_an_asker_who_is_gone_harms_nobody(outside: Outside, name: str) -> None:
    worker, client = Shop(name, outside), Shop(name, outside)
    async with running(worker.app, outside.bootstrap) as member, client.app:
        topic = reply_topic(name, bytes(TOKEN_BYTES))
        gone = Asked(f"{name}/inverse", topic, b"1")
        await client.inverse.cast(2, headers=request_headers(gone))
        assert await client.inverse.ask(4, timeout="30s") == 0.25
        await until_outside(lambda: sum(max(0, o) for o in outside.committed(name, f"{name}-asked")) == 2)
        assert not member.task.done()
        assert topic not in reply_topics(outside, name), "its topic is not made again"


async def test_under_exactly_once_a_reply_follows_the_commit(outside: Outside, name: str) -> None:
    worker = Shop(name, outside, guarantee="exactly_once")
    client = Shop(name, outside, guarantee="exactly_once")
    async with running(worker.app, outside.bootstrap), client.app:
        assert await client.inverse.ask(4, key="a", timeout="30s") == 0.25
        assert [value for _, value, _ in outside.read(f"{name}-out")] == [0.25]
        with pytest.raises(sk.AgentError, match=r"RefusedError.* a reply leaves after a commit"):
            await client.total.ask([1], timeout="30s")
