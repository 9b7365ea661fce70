"""A worker that is killed leaves its state warm: where its tasks go, only the last second is restored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.worker_process import Outside, WorkerProcess, eventually

JOB = Path(__file__).with_name("jobs") / "counting.py"
KEYS = [f"key-{n}" for n in range(2_000)]
HANDOVER_S = 1.0


def said(worker: WorkerProcess, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in worker.log if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def counted(outside: Outside, name: str, times: int) -> bool:
    """Each key was counted so often, and never twice at one number: nothing of the state was lost."""
    seen = {(key, count) for key, count, _ in outside.read(f"{name}-report")}
    return seen == {(key.encode(), n + 1) for key in KEYS for n in range(times)}


@pytest.mark.parametrize(
    ("guarantee", "state"),
    [("at_least_once", "memory"), pytest.param("exactly_once", "disk", marks=pytest.mark.slow)],
)
def test_a_killed_workers_tasks_go_on_at_once(
    guarantee: str, state: str, outside: Outside, name: str, tmp_path: Path
) -> None:
    options = ["--guarantee", guarantee, "--standby-replicas", "1"]
    options += ["--state-dir", "state"] if state == "disk" else []
    first, second = (
        WorkerProcess(JOB, outside.bootstrap, *options, "--slot", slot, cwd=tmp_path, JOB=name)
        for slot in ("0", "1")
    )
    with first:
        first.said("task started", times=4)
        outside.send(f"{name}-words", KEYS, str)
        outside.caught_up(name, f"{name}-words")
        with second:
            second.said("task started", times=2)
            second.said("standby copies caught up")
            outside.send(f"{name}-words", KEYS, str)
            eventually(lambda: counted(outside, name, 2))
            outside.caught_up(name, f"{name}-words")
            second.log.clear()
            first.kill()
            outside.send(f"{name}-words", KEYS, str)
            second.said("task started", times=2)
            assert len(said(second, "task had a standby copy")) == 2
            assert sum(line["records"] for line in said(second, "restored")) < len(KEYS) / 10
            seconds = [line["seconds"] for line in said(second, "task started")]
            print(f"handed over in {seconds} s")
            assert max(seconds) <= HANDOVER_S
            eventually(lambda: counted(outside, name, 3))
            assert second.stop() == 0
