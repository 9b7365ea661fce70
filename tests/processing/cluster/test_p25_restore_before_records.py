"""P25: a lost store is restored wholly before any source record is processed."""

from __future__ import annotations

import json
import signal
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tests.support.broker_process import BrokerProcess
from tests.support.worker_process import Outside, WorkerProcess

JOB = Path(__file__).with_name("jobs") / "counting.py"
WORDS = [f"word-{i}" for i in range(40)]


def test_the_first_count_after_kill_9_is_prior_plus_one(
    new_broker: Callable[..., BrokerProcess], name: str, tmp_path: Path
) -> None:
    broker = new_broker("--set", "group.min.session.timeout.ms=1000").start()
    outside = Outside(broker.bootstrap)
    options = ("--http", "127.0.0.1:0")
    worker = WorkerProcess(JOB, broker.bootstrap, *options, cwd=tmp_path, JOB=name, SESSION_MS="1500")
    with worker:
        worker.said("task started", times=4)
        outside.send(f"{name}-words", WORDS * 3, key=str)
        outside.caught_up(name, f"{name}-words")
        worker.kill()
        outside.send(f"{name}-words", WORDS, key=str)
        before = len(outside.read(f"{name}-report"))
        assert before == 3 * len(WORDS)

        worker.log.clear()
        worker.start().said("task started", times=4)
        outside.caught_up(name, f"{name}-words")
        after = {key.decode(): value for key, value, _ in outside.read(f"{name}-report")[before:]}
        assert after == dict.fromkeys(WORDS, 4)
        for partition in range(4):
            task = f'"task":"0_{partition}"'
            assert worker.lines('"restored"', task) < worker.lines('"task started"', task)
        url = json.loads(worker.log[worker.lines('"telemetry"')[0]])["url"]
        with urllib.request.urlopen(f"{url}/metrics") as metrics:
            text = metrics.read().decode()
        assert "# TYPE streamkit_store_restore_remaining_records gauge" in text
        assert "streamkit_store_keys{" in text
        with urllib.request.urlopen(f"{url}/readyz") as ready:
            assert json.load(ready)["ready"] is True
        assert worker.stop(signal.SIGTERM) == 0
