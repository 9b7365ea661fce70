"""P4 on real processes: fail never commits past the record; a dead letter carries its story."""

from __future__ import annotations

from pathlib import Path

import streamkit as sk
from tests.processing.cluster.members import running, until_outside
from tests.support.worker_process import Outside, WorkerProcess

JOB = Path(__file__).with_name("jobs") / "counting.py"


def test_fail_ends_the_worker_and_never_commits_past(outside: Outside, name: str, tmp_path: Path) -> None:
    outside.create(f"{name}-words", 4)
    outside.send(f"{name}-words", ["a"] * 5 + ["poison"] + ["a"] * 5, key=lambda _: "a")
    with WorkerProcess(JOB, outside.bootstrap, cwd=tmp_path, JOB=name) as worker:
        assert worker.wait() == 1
    assert worker.log[-2].startswith("error: count failed at") and "poison" in worker.log[-2]
    assert worker.log[-1].startswith("next:  ")
    assert max(outside.committed(name, f"{name}-words")) <= 5  # less: what failed may have touched the state


async def test_a_dead_letter_carries_its_story(outside: Outside, name: str) -> None:
    app = sk.App(name, commit_interval="100ms")

    @app.agent(app.topic(f"{name}-in"), sink=f"{name}-out", on_error=sk.DeadLetter(f"{name}-dlq"))
    def check(value: int) -> int:
        if value == 3:
            raise ValueError("no threes")
        return value

    outside.create(f"{name}-in")
    outside.send(f"{name}-in", range(6))
    async with running(app, outside.bootstrap):
        await until_outside(lambda: outside.committed(name, f"{name}-in") == [6])
    assert [value for _, value, _ in outside.read(f"{name}-out")] == [0, 1, 2, 4, 5]
    ((_, value, headers),) = outside.read(f"{name}-dlq")
    story = dict(headers)
    assert value == 3
    assert story["streamkit.dlq.topic"] == f"{name}-in".encode()
    assert story["streamkit.dlq.offset"] == b"3"
    assert story["streamkit.dlq.error"] == b"ValueError"
    assert story["streamkit.dlq.message"] == b"no threes"
