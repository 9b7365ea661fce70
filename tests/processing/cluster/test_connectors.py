"""Sources and sinks on real workers that are killed: nothing is lost, and nothing is there twice."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import sqlite3
import threading
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import streamkit as sk
from tests.processing.cluster.members import running, until
from tests.support.broker_cluster import free_ports
from tests.support.broker_process import BrokerProcess
from tests.support.worker_process import WAIT_S, Outside, WorkerProcess, eventually

JOB = Path(__file__).parent / "jobs" / "connecting.py"
SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.randrange(1, 1 << 32)


class Load:
    """Lines that are appended to one file after the other, here and there half a line at a time."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self._draw = random.Random(SEED)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.written = 0

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        for number in range(1000):
            name = f"{self._draw.choice('azm')}-{number}.ndjson"  # in no order of names
            with open(self._directory / name, "ab", buffering=0) as file:
                for _ in range(5):
                    lines = [
                        json.dumps({"n": n}).encode() + b"\n" for n in range(self.written, self.written + 100)
                    ]
                    data = b"".join(lines)
                    cut = self._draw.randrange(len(data))
                    file.write(data[:cut])
                    self._done.wait(0.03)
                    file.write(data[cut:])
                    self.written += 100
                    if self._done.is_set():
                        return


def in_database(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as database:
        return [n for (n,) in database.execute("select n from numbers")]


def in_files(directory: Path) -> list[int]:
    return [json.loads(line)["n"] for path in directory.glob("*.ndjson") for line in path.open()]


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.timeout(600)
def test_killed_workers_lose_nothing_and_repeat_nothing(
    kills: int, new_broker: Callable[..., BrokerProcess], name: str, tmp_path: Path
) -> None:
    draw = random.Random(SEED)
    print(f"CHAOS_SEED={SEED}")
    broker = new_broker("--set", "group.min.session.timeout.ms=1000").start()
    outside = Outside(broker.bootstrap)
    worker = WorkerProcess(
        JOB, broker.bootstrap, cwd=tmp_path, JOB=name, FILES=str(tmp_path), SESSION_MS="1500"
    )
    with Load(tmp_path / "in") as load, worker:
        worker.said("source started")
        for _ in range(kills):
            threading.Event().wait(draw.uniform(0.2, 1.0))  # anywhere
            worker.kill()
            worker.log.clear()
            worker.start().said("source started").said("task started", times=2)
        load.__exit__()
        topic = f"{name}-numbers"
        eventually(lambda: len(in_database(tmp_path / "db")) >= load.written)
        outside.caught_up(name, topic)
        assert worker.stop() == 0
    wanted = list(range(load.written))
    assert sorted(value["n"] for _, value, _ in outside.read(topic)) == wanted
    assert sorted(in_database(tmp_path / "db")) == wanted
    assert sorted(in_files(tmp_path / "out")) == wanted
    files = len(os.listdir(tmp_path / "out"))
    print(f"{kills} kills, {load.written} records, {files} files, each record once")


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
        await until(lambda: _ticks(outside, name) > 5)
        async with running(ticking(name), outside.bootstrap) as second:
            await until(lambda: bool(first.tasks or second.tasks))
            await first.stop()
            so_far = _ticks(outside, name)
            await until(lambda: _ticks(outside, name) > so_far + 5)
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
