"""A new version of a job: rolled in under load without a loss; refused where state would be left behind."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

import streamkit as sk
from streamkit.errors import RefusedError
from streamkit.processing.kafka.topics import Topics
from streamkit.processing.worker.preparation import prepare
from tests.processing.cluster.members import running
from tests.support.broker_process import environment, streamkit
from tests.support.worker_process import Outside, WorkerProcess

PARTITIONS = 4
KEYS = 20
JOB = """
import streamkit as sk

app = sk.App("{name}", commit_interval="100ms", kafka={{"session.timeout.ms": 6000}})
totals = app.table("{table}", default=int)
orders = app.stream(app.topic("{name}-in", value=int, partitions={partitions})){more}


@app.agent(orders.group_by(lambda n: n % {keys}), sink="{name}-out")
def count(n: int, record: sk.Record[int]) -> list[int]:
    totals[record.key] += 1
    return [record.key, totals[record.key]]
"""
MORE = ".filter(lambda n: n >= 0)"


def write(directory: Path, version: int, name: str, *, table: str = "totals", more: str = "") -> str:
    text = JOB.format(name=name, table=table, more=more, partitions=PARTITIONS, keys=KEYS)
    (directory / f"version_{version}.py").write_text(text)
    return f"version_{version}.py"


class Load(threading.Thread):
    """Sends until `end()`."""

    def __init__(self, outside: Outside, topic: str) -> None:
        super().__init__(daemon=True)
        self.sent = 0
        self._outside, self._topic = outside, topic
        self._ending = threading.Event()

    def run(self) -> None:
        while not self._ending.wait(0.02):
            self._outside.send(self._topic, range(self.sent, self.sent + 50), str)
            self.sent += 50

    def end(self) -> int:
        self._ending.set()
        self.join()
        return self.sent


def counts(outside: Outside, name: str) -> Counter[int]:
    """The last count of each key."""
    found: Counter[int] = Counter()
    for _, (key, count), _ in outside.read(f"{name}-out"):
        found[key] = max(found[key], count)
    return found


def test_two_workers_are_upgraded_one_after_the_other(outside: Outside, name: str, tmp_path: Path) -> None:
    old, new = write(tmp_path, 1, name), write(tmp_path, 2, name, more=MORE)
    outside.create(f"{name}-in", PARTITIONS)
    load = Load(outside, f"{name}-in")
    with ExitStack() as running:
        workers = [
            running.enter_context(WorkerProcess(old, outside.bootstrap, cwd=tmp_path)) for _ in range(2)
        ]
        for worker in workers:
            worker.said("task started")
        load.start()
        for worker in workers:
            before = load.sent
            running.enter_context(WorkerProcess(new, outside.bootstrap, cwd=tmp_path)).said("task started")
            assert worker.stop() == 0
            assert load.sent > before
        sent = load.end()
        outside.caught_up(name, f"{name}-in")
        outside.caught_up(name, f"{name}-{name}-in-group-by-repartition")
    assert counts(outside, name) == Counter(n % KEYS for n in range(sent))


def start(words: list[str], cwd: Path) -> tuple[int, list[str]]:
    """Exit code and stderr of a worker that must not start."""
    done = subprocess.run(
        streamkit("worker", *words),
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr.splitlines()


def test_a_version_that_would_leave_state_behind_does_not_start(
    outside: Outside, name: str, tmp_path: Path
) -> None:
    old, renamed = write(tmp_path, 1, name), write(tmp_path, 2, name, table="sums")
    outside.create(f"{name}-in", PARTITIONS)
    outside.send(f"{name}-in", range(40), str)
    with WorkerProcess(old, outside.bootstrap, cwd=tmp_path) as worker:
        outside.caught_up(name, f"{name}-in")
        outside.caught_up(name, f"{name}-{name}-in-group-by-repartition")
        assert worker.stop() == 0
    for workers in ("1", "2"):
        code, lines = start([renamed, "--bootstrap", outside.bootstrap, "-w", workers], tmp_path)
        said = [line for line in lines if not line.startswith("{")]
        assert code == 5
        assert said[-2] == (
            f"error: {name} has state of totals, which is declared no more; "
            "by its input, it is called sums now"
        )
        assert said[-1].startswith("next:  ") and "--abandon totals" in said[-1]
        assert len(lines) <= 3 or workers == "2"
    assert f"{name}-sums-changelog" not in outside.topics(), "nothing was made before the refusal"
    with WorkerProcess(renamed, outside.bootstrap, "--abandon", "totals", cwd=tmp_path) as worker:
        worker.said("task started", times=PARTITIONS)
        outside.send(f"{name}-in", range(40), str)
        outside.caught_up(name, f"{name}-in")
        outside.caught_up(name, f"{name}-{name}-in-group-by-repartition")
        assert worker.stop() == 0
    assert set(counts(outside, name).values()) == {2}, "counted anew"
    with WorkerProcess(renamed, outside.bootstrap, cwd=tmp_path) as worker:
        worker.said("task started", times=PARTITIONS)


async def test_a_repartition_topic_holds_up_a_new_version_until_it_is_read_to_its_end(
    outside: Outside, name: str
) -> None:
    def version(by: str) -> sk.App:
        app = sk.App(name, commit_interval="100ms")
        app.stream(app.topic(f"{name}-in", value=int)).group_by(lambda n: n % 3, name=by).to(f"{name}-out")
        return app

    def prepared(by: str) -> None:
        prepare(version(by).topology(), Topics(outside.bootstrap, {}), 100)

    former = f"{name}-former-repartition"
    outside.create(f"{name}-in", 2)
    outside.send(f"{name}-in", range(20), str)
    async with running(version("former"), outside.bootstrap):
        await asyncio.to_thread(outside.caught_up, name, f"{name}-in")
        await asyncio.to_thread(outside.caught_up, name, former)
    await asyncio.to_thread(prepared, "later")
    outside.send(former, [7], str)
    with pytest.raises(RefusedError, match=f"nothing reads {former} any more"):
        await asyncio.to_thread(prepared, "later")
