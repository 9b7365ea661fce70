"""kill -9 of a worker under load, again and again: nothing is lost, tables come back whole.

The job counts each key in a table and reports each count. At-least-once allows repeats after a kill, and
nothing else: every record is reported, and since state is never ahead of its commit, the counts of a key
never skip one and end at the number of its records.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.broker_process import BrokerProcess
from tests.support.worker_process import Outside, WorkerProcess

JOB = Path(__file__).parents[1] / "processing" / "cluster" / "jobs" / "counting.py"
KEYS = [f"key-{i}" for i in range(50)]
SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.randrange(1, 1 << 32)


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.timeout(900)
def test_a_killed_worker_loses_nothing(
    kills: int, new_broker: Callable[..., BrokerProcess], name: str, tmp_path: Path
) -> None:
    draw = random.Random(SEED)
    print(f"CHAOS_SEED={SEED}")
    broker = new_broker("--set", "group.min.session.timeout.ms=1000").start()
    outside = Outside(broker.bootstrap)
    worker = WorkerProcess(JOB, broker.bootstrap, cwd=tmp_path, JOB=name, SESSION_MS="1500")
    sent: dict[str, int] = dict.fromkeys(KEYS, 0)
    done = threading.Event()

    def load() -> None:
        while not done.wait(0.02):
            keys = draw_keys.choices(KEYS, k=50)
            outside.send(f"{name}-words", keys, str)
            for key in keys:
                sent[key] += 1

    draw_keys = random.Random(SEED + 1)
    with worker:
        worker.said("task started", times=4)
        loading = threading.Thread(target=load)
        loading.start()
        try:
            for _ in range(kills):
                threading.Event().wait(draw.uniform(0.05, 1.0))  # anywhere between two commits
                worker.kill()
                worker.log.clear()
                worker.start().said("task started", times=4)
        finally:
            done.set()
            loading.join()
        outside.caught_up(name, f"{name}-words")
        assert worker.stop() == 0
    reported: dict[str, list[int]] = {key: [] for key in KEYS}
    for key, count, _ in outside.read(f"{name}-report"):
        reported[key.decode()].append(count)
    for key in KEYS:
        assert set(reported[key]) == set(range(1, sent[key] + 1)), key
        assert reported[key][-1] == sent[key], key
        steps = {b - a for a, b in zip(reported[key], reported[key][1:], strict=False)}
        assert all(step <= 1 for step in steps), f"{key} skipped a count: {reported[key]}"
    repeats = sum(len(counts) for counts in reported.values()) - sum(sent.values())
    print(f"{kills} kills, {sum(sent.values())} records, {repeats} repeated, none lost")
