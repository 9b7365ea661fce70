"""P1, P29, P33, P34 with 64 records in hand: kill -9 and rebalances lose nothing that agents work on.

Two workers share four partitions. They are killed, leave, hang past their session and come back while agents
await, some of them for much longer than a commit interval: whoever commits past a record in hand loses it.
Every input must be in the output of each order and in the table. And orders must hold up to repetition: what
comes after a restart may go back, but never skips what has not been said yet.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest
from confluent_kafka import Producer

from tests.support.broker_process import BrokerProcess
from tests.support.worker_process import Outside, WorkerProcess

JOB = Path(__file__).parents[1] / "processing" / "cluster" / "jobs" / "enriching.py"
KEYS = 100
SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.randrange(1, 1 << 32)
STALL_S = 2.5  # longer than a session
STUCK_S = 60.0


def load(bootstrap: str, topic: str, numbers: range, until: threading.Event) -> None:
    """Numbers, a hundred at a time, each hundred a little after the one before."""
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0, "partitioner": "murmur2_random"})
    for number in numbers:
        producer.produce(topic, json.dumps(number), key=str(number % KEYS))
        if number % KEYS == 0:
            producer.poll(0)
            if until.wait(0.02):
                return
    assert producer.flush(60) == 0


def disturb(kind: str, worker: WorkerProcess) -> None:
    if kind == "kill":
        worker.kill()
    elif kind == "leave":
        assert worker.said("worker started").stop() == 0
    else:
        assert worker.process is not None
        worker.process.send_signal(signal.SIGSTOP)
        threading.Event().wait(STALL_S)
        worker.process.send_signal(signal.SIGCONT)
        return
    worker.log.clear()
    worker.start()


def commits_go_on(outside: Outside, group: str, topic: str) -> None:
    """Wait until everything is committed: on a busy machine that may take long, but not without progress."""
    ends, before, since_s = outside.ends(topic), list[int](), monotonic()
    while (committed := [max(0, offset) for offset in outside.committed(group, topic)]) != ends:
        if committed != before:
            before, since_s = committed, monotonic()
        assert monotonic() - since_s < STUCK_S, f"{topic}: {committed} of {ends}"
        threading.Event().wait(0.2)


@pytest.mark.parametrize(
    ("total", "disturbances"),
    [
        pytest.param(20_000, {"kill": 3, "leave": 2}, id="short"),
        pytest.param(200_000, {"kill": 20, "leave": 10, "stall": 5}, id="full", marks=pytest.mark.slow),
    ],
)
@pytest.mark.timeout(900)
def test_every_record_in_hand_is_reflected(
    total: int,
    disturbances: dict[str, int],
    new_broker: Callable[..., BrokerProcess],
    name: str,
    tmp_path: Path,
) -> None:
    print(f"CHAOS_SEED={SEED}")
    draw = random.Random(SEED)
    broker = new_broker(
        *("--set", "group.min.session.timeout.ms=1000", "--set", "offsets.topic.num.partitions=2")
    ).start()
    outside = Outside(broker.bootstrap)
    outside.create(f"{name}-in", 4)
    events = [kind for kind, times in disturbances.items() for _ in range(times)]
    draw.shuffle(events)
    workers = [
        WorkerProcess(JOB, broker.bootstrap, cwd=tmp_path, JOB=name, SESSION_MS="1500").start()
        for _ in range(2)
    ]
    given_up = threading.Event()
    loading = threading.Thread(target=load, args=(broker.bootstrap, f"{name}-in", range(total), given_up))
    try:
        workers[0].said("task started", times=2)
        loading.start()
        for kind in events:
            threading.Event().wait(draw.uniform(0.1, 0.8))  # anywhere between two commits
            disturb(kind, draw.choice(workers))
        loading.join()
        for topic in ("in", "key"):
            commits_go_on(outside, name, f"{name}-{topic}")
        assert [worker.stop() for worker in workers] == [0, 0]
    except BaseException:
        for worker in workers:
            print("-- a worker", *worker.log[-25:], sep="\n")
        raise
    finally:
        given_up.set()
        for worker in workers:
            worker.kill()
    repeats = {order: _check(outside, name, order, total) for order in ("key", "input", "none", "batch")}
    _check_table(outside, name, total)
    print(f"{total} records, {events}: none lost; repeated {repeats}")


def _check(outside: Outside, name: str, order: str, total: int) -> int:
    """Every number is there, and no order skips; how many are repeated."""
    numbers = list[int]()
    offsets: dict[int, int] = defaultdict(lambda: -1)  # source partition → the furthest that was said
    furthest: dict[bytes, int] = {}
    for key, (number, partition, offset), _ in outside.read(f"{name}-{order}"):
        numbers.append(number)
        if order == "input":
            assert offset <= offsets[partition] + 1, f"{partition}@{offset} after {offsets[partition]}"
            offsets[partition] = max(offsets[partition], offset)
        if order != "none":
            assert number <= furthest.get(key, number % KEYS - KEYS) + KEYS, f"{key} skipped to {number}"
            furthest[key] = max(furthest.get(key, -1), number)
    missing = set(range(total)) - set(numbers)
    assert not missing, f"order={order}: {len(missing)} lost, {sorted(missing)[:10]}"
    return len(numbers) - total


def _check_table(outside: Outside, name: str, total: int) -> None:
    rows = {key: value for key, value, _ in outside.read(f"{name}-seen-changelog")}
    for key in range(KEYS):
        everything = (1 << len(range(key, total, KEYS))) - 1
        assert int(rows[str(key).encode()], 16) == everything, f"the table lacks records of {key}"
