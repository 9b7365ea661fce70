"""P17, P18, P20 on real processes: kill -9, and open joins and sessions come back as they were.

At-least-once may repeat a result; a repetition is equal to the first, so sets are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.broker_process import BrokerProcess
from tests.support.worker_process import Outside, WorkerProcess

JOB = Path(__file__).with_name("jobs") / "windowing.py"
KEYS = [f"key-{i}" for i in range(8)]


@pytest.mark.parametrize("where", [(), ("--state-dir", "state")], ids=["in memory", "on disk"])
@pytest.mark.parametrize("right_partitions", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_open_joins_and_sessions_come_back(
    new_broker: Callable[..., BrokerProcess],
    name: str,
    tmp_path: Path,
    right_partitions: int,
    where: tuple[str, ...],
) -> None:
    broker = new_broker("--set", "group.min.session.timeout.ms=1000").start()
    outside = Outside(broker.bootstrap)
    moved = [f"{name}-pairs-right-repartition"] if right_partitions < 2 else []
    tasks = 2 + right_partitions * len(moved)
    worker = WorkerProcess(JOB, broker.bootstrap, *where, cwd=tmp_path, JOB=name, RIGHT=str(right_partitions))

    def send(side: str, n: int, ts: float) -> None:
        values = [{"n": n, "ts": ts, "key": key} for key in KEYS]
        outside.send(f"{name}-{side}", values, key=lambda value: str(value["key"]))

    def restart() -> None:
        for side in ("left", "right"):
            outside.caught_up(name, f"{name}-{side}")
        worker.kill()
        worker.log.clear()
        worker.start().said("task started", times=tasks)

    with worker:
        worker.said("task started", times=tasks)
        send("left", 1, 100)
        send("right", 2, 104)
        send("left", 3, 104)
        restart()
        send("left", 4, 108)  # the session goes on, and meets what the worker that was killed had read
        send("right", 5, 120)
        restart()
        for side in ("left", "right"):
            send(side, 9, 1000)
            send(side, 10, 2000)
            outside.caught_up(name, f"{name}-{side}")
        for topic in moved:
            outside.caught_up(name, topic)
        pairs = _by_key(outside.read(f"{name}-pairs"))
        sessions = _by_key(outside.read(f"{name}-sessions"))
    wanted = {(1, 2), (3, 2), (4, 2), (None, 5), (9, 9), (10, 10)}
    assert {key: {tuple(pair) for pair in found} for key, found in pairs.items()} == dict.fromkeys(
        KEYS, wanted
    )
    for key in KEYS:
        assert {str((s["start_ms"], s["end_ms"], s["ns"], s["most"])) for s in sessions[key]} == {
            str((100_000, 108_000, [1, 3, 4], [4, 3])),
            str((1_000_000, 1_000_000, [9], [9])),
        }


def _by_key(records: list[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for key, value, _ in records:
        found.setdefault(key.decode(), []).append(value)
    return found
