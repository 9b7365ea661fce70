"""P28: a worker that was stopped past its session is fenced, repeats nothing, and works again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from streamkit.errors import RefusedError
from tests.support.broker_process import BrokerProcess
from tests.support.worker_process import Outside, WorkerProcess, eventually

JOB = Path(__file__).with_name("jobs") / "counting.py"
KEYS = [f"key-{n}" for n in range(40)]


def test_a_stopped_worker_is_fenced_and_rejoins(
    new_broker: Callable[..., BrokerProcess], name: str, tmp_path: Path
) -> None:
    outside = Outside(new_broker("--set", "group.min.session.timeout.ms=1000").start().bootstrap)
    options = "--guarantee", "exactly_once", "--slot"
    first, second = (
        WorkerProcess(JOB, outside.bootstrap, *options, str(slot), cwd=tmp_path, JOB=name, SESSION_MS="1500")
        for slot in range(2)
    )

    def reported(times: int) -> bool:
        return len(outside.read(f"{name}-report")) == times * len(KEYS)

    with first:
        first.said("task started", times=4)
        outside.send(f"{name}-words", KEYS, str)
        eventually(lambda: reported(1))
        assert first.process is not None
        os.kill(first.process.pid, signal.SIGSTOP)
        outside.send(f"{name}-words", KEYS, str)
        with second:
            second.said("task started", times=4)
            eventually(lambda: reported(2))
            os.kill(first.process.pid, signal.SIGCONT)
            first.said("task started", times=6)
            outside.send(f"{name}-words", KEYS, str)
            eventually(lambda: reported(3))
            assert second.stop() == 0
        assert first.stop() == 0
    counts: dict[bytes, list[int]] = {}
    for key, count, _ in outside.read(f"{name}-report"):
        counts.setdefault(key, []).append(count)
    assert list(counts.values()) == [[1, 2, 3]] * len(KEYS)


def test_two_workers_of_one_slot_do_not_fence_each_other_for_ever(
    new_broker: Callable[..., BrokerProcess], name: str, tmp_path: Path
) -> None:
    outside = Outside(new_broker().start().bootstrap)
    options = "--guarantee", "exactly_once"
    workers = [WorkerProcess(JOB, outside.bootstrap, *options, cwd=tmp_path, JOB=name) for _ in range(2)]
    with workers[0], workers[1]:
        workers[1].said("task started")

        def one_ended() -> bool:
            outside.send(f"{name}-words", KEYS, str)
            return any(w.process is not None and w.process.poll() is not None for w in workers)

        eventually(one_ended)
        ended = next(w for w in workers if w.process is not None and w.process.poll() is not None)
        assert ended.wait() == RefusedError.exit_code
        assert "another worker has the transactional id" in "\n".join(ended.log)
