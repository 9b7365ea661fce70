"""Sources and sinks on real workers that are killed: nothing is lost, and nothing is there twice."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.broker_process import BrokerProcess
from tests.support.worker_process import Outside, WorkerProcess, eventually

JOB = Path(__file__).parents[1] / "processing" / "cluster" / "jobs" / "connecting.py"
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


@pytest.mark.parametrize(
    ("guarantee", "kills"),
    [
        ("at_least_once", 2),
        pytest.param("at_least_once", 20, marks=pytest.mark.slow),
        pytest.param("exactly_once", 10, marks=pytest.mark.slow),
    ],
)
@pytest.mark.timeout(600)
def test_killed_workers_lose_nothing_and_repeat_nothing(
    guarantee: str, kills: int, new_broker: Callable[..., BrokerProcess], name: str, tmp_path: Path
) -> None:
    draw = random.Random(SEED)
    print(f"CHAOS_SEED={SEED}")
    broker = new_broker("--set", "group.min.session.timeout.ms=1000").start()
    outside = Outside(broker.bootstrap)
    told = {"JOB": name, "FILES": str(tmp_path), "SESSION_MS": "1500", "GUARANTEE": guarantee}
    worker = WorkerProcess(JOB, broker.bootstrap, cwd=tmp_path, **told)
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
