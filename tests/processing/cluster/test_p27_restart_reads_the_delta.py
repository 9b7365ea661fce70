"""P27, P32 on real processes: state on disk is found again, and only what it lacks is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamkit.errors import RefusedError
from tests.support.worker_process import Outside, WorkerProcess, eventually

JOB = Path(__file__).with_name("jobs") / "counting.py"
KEYS = [f"key-{n}" for n in range(2_000)]


def restored(worker: WorkerProcess) -> tuple[int, int]:
    """Changelog records read, and applied, over all tasks."""
    lines = [json.loads(line) for line in worker.log if line.startswith("{")]
    read = sum(line["records"] for line in lines if line["event"] == "restoring")
    return read, sum(line["records"] for line in lines if line["event"] == "restored")


def restart(worker: WorkerProcess) -> tuple[int, int]:
    worker.kill()
    worker.log.clear()
    worker.start().said("task started", times=4)
    return restored(worker)


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
def test_a_restart_reads_only_what_the_store_lacks(
    guarantee: str, outside: Outside, name: str, tmp_path: Path
) -> None:
    options = "--guarantee", guarantee, "--state-dir", "state"
    worker = WorkerProcess(JOB, outside.bootstrap, *options, cwd=tmp_path, JOB=name, SESSION_MS="6000")
    with worker:
        worker.said("task started", times=4)
        outside.send(f"{name}-words", KEYS, str)
        eventually(lambda: len(outside.read(f"{name}-report")) == len(KEYS))
        outside.caught_up(name, f"{name}-words")
        assert worker.stop() == 0
        worker.start().said("task started", times=4)
        assert restart(worker)[1] == 0, "everything committed is in the store"
        outside.send(f"{name}-words", KEYS[:10], str)
        eventually(lambda: len(outside.read(f"{name}-report")) >= len(KEYS) + 10)
        read, applied = restart(worker)
        assert applied <= 10 and read <= 100
        outside.send(f"{name}-words", KEYS[:10], str)
        eventually(lambda: {count for _, count, _ in outside.read(f"{name}-report")} == {1, 2, 3})
        for file in (tmp_path / "state").glob("*/slot-0/counts/*/MANIFEST-*"):
            file.write_bytes(b"\xff" * 100)
        outside.caught_up(name, f"{name}-words")
        assert restart(worker)[1] >= len(KEYS), "rebuilt from the changelog"
        worker.said("store cannot be opened, rebuilding", times=4)
        outside.send(f"{name}-words", KEYS[:1], str)
        eventually(lambda: 4 in {count for _, count, _ in outside.read(f"{name}-report")})
        other = WorkerProcess(JOB, outside.bootstrap, *options, cwd=tmp_path, JOB=name)
        with other:
            assert other.wait() == RefusedError.exit_code
        assert "in use by another worker (pid" in "\n".join(other.log)
