"""Sources on a real cluster: one worker runs each, and what it acknowledges is in the topic."""

from __future__ import annotations

import asyncio
import socket
import urllib.request
from collections.abc import AsyncIterator, Mapping
from typing import Any

import streamkit as sk
from tests.processing.cluster.members import running, until, until_outside
from tests.support.broker_cluster import free_ports
from tests.support.worker_process import WAIT_S, Outside, eventually


class Ticks(sk.Source):
    """Counts for as long as it runs."""

    async def read(self, position: Mapping[str, Any]) -> AsyncIterator[sk.Portion]:
        n = position.get("next", 0)
        while True:
            yield [sk.Row(n)], {"next": (n := n + 1)}
            await asyncio.sleep(0.01)


def ticking(name: str) -> sk.App:
    app = sk.App(name, commit_interval="100ms")
    app.source(Ticks(), app.topic(f"{name}-ticks", value=int, partitions=1))
    app.stream(f"{name}-ticks").to(f"{name}-out")
    return app


async def test_one_worker_runs_a_source_and_the_next_goes_on(outside: Outside, name: str) -> None:
    async with running(ticking(name), outside.bootstrap) as first:
        await until_outside(lambda: _ticks(outside, name) > 5)
        async with running(ticking(name), outside.bootstrap) as second:
            await until(lambda: bool(first.tasks or second.tasks))
            await first.stop()
            so_far = _ticks(outside, name)
            await until_outside(lambda: _ticks(outside, name) > so_far + 5)
    found = [value for _, value, _ in outside.read(f"{name}-ticks")]
    assert found == list(range(len(found)))


def _ticks(outside: Outside, name: str) -> int:
    return outside.ends(f"{name}-ticks")[0]


async def test_a_request_is_answered_when_its_record_is_in_the_topic(outside: Outside, name: str) -> None:
    (port,) = free_ports(1)
    app = sk.App(name)
    app.source(sk.WebhookSource(port), app.topic(f"{name}-hooks", partitions=1))
    app.stream(f"{name}-hooks").to(f"{name}-out")

    def post(n: int) -> int:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/", data=b"%d" % n, method="POST")
        with urllib.request.urlopen(request, timeout=WAIT_S) as response:
            return int(response.status)

    async with running(app, outside.bootstrap):
        await asyncio.to_thread(eventually, lambda: _listens(port))
        for n in range(3):
            assert await asyncio.to_thread(post, n) == 200
            assert [value for _, value, _ in outside.read(f"{name}-hooks")] == list(range(n + 1))


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
