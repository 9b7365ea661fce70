"""P1, P18, P25: kill -9 of workers and of brokers under exactly-once; each record counts once.

Two workers, one with its state in memory and one on disk, count events per window, and per key in a table
that reports every count. A reader of committed records must find each window once with the right count, and
the counts of each key as 1, 2, 3, ... without a gap or a repetition: what a run without a crash gives.

A broker that was killed is started again while workers are killed; the next is killed when it is back.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import IsolationLevel, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from streamkit.errors import BrokerUnreachableError
from streamkit.processing.partitioner import partition_for
from tests.support.broker_cluster import Nodes
from tests.support.worker_process import Outside, WorkerProcess, eventually

JOB = Path(__file__).parents[1] / "processing" / "cluster" / "jobs" / "exact.py"
KEYS = [f"key-{i}" for i in range(20)]
SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.randrange(1, 1 << 32)
END_OF_TIME_S = 10_000_000
STRIDE = 100
AHEAD = 10  # times slower


class Load:
    """Events at a steady pace: their times ascend, so none is late; `sent` counts them.

    While it is ahead of the chaos it is slower, so that the last kills fall into work, too.
    """

    def __init__(self, bootstrap: str, topic: str, total: int, pace: int) -> None:
        self._conf = {"bootstrap.servers": bootstrap, "log_level": 0, "metadata.recovery.strategy": "none"}
        self._producer = Producer(
            {
                **self._conf,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "message.timeout.ms": 300_000,
                "linger.ms": 5,
            }
        )
        self._topic, self._total, self._pace = topic, total, pace
        self.chaos_done = 0.0
        self.sent: dict[str, int] = dict.fromkeys(KEYS, 0)
        self.windows: Counter[tuple[str, int]] = Counter()
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        due = time.monotonic()
        for number in range(self._total):
            key, ts = KEYS[number % 7 * number % len(KEYS)], number / 100
            self.sent[key] += 1
            self.windows[key, int(ts // 60) * 60_000] += 1
            self._send(key, ts)
            if number % STRIDE == 0:
                ahead = number / self._total > self.chaos_done
                due = max(due, time.monotonic()) + STRIDE / self._pace * (AHEAD if ahead else 1)
                time.sleep(max(0.0, due - time.monotonic()))
        for partition in range(2):  # one more key on each partition, so late that everything closes
            key = next(f"end-{n}" for n in range(99) if partition_for(b"end-%d" % n, 2) == partition)
            self._send(key, END_OF_TIME_S)
        assert self._producer.flush(120) == 0

    def _send(self, key: str, ts: float) -> None:
        while True:
            try:
                self._producer.produce(self._topic, json.dumps({"ts": ts}), key=key)
            except BufferError:
                self._producer.poll(0.05)
            else:
                break
        self._producer.poll(0)


def in_transaction(bootstrap: str, places: list[TopicPartition]) -> bool:
    """Is any of these partitions' end past its last stable offset?"""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})  # an old one may know old leaders
    ends = []
    for level in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED):
        answers = admin.list_offsets(
            {place: OffsetSpec.latest() for place in places}, isolation_level=level, request_timeout=5
        )
        try:
            ends.append({(p.topic, p.partition): a.result().offset for p, a in answers.items()})
        except KafkaException:
            return False
    return any(ends[0][place] < ends[1][place] for place in ends[0])


def keep_running(workers: list[WorkerProcess]) -> None:
    """A worker that is started while the broker is away ends; its keeper starts it again."""
    for worker in workers:
        if worker.process is not None and worker.process.poll() is not None:
            assert worker.wait() == BrokerUnreachableError.exit_code
            worker.start()


class Brokers:
    """A cluster in which at most one broker is away."""

    def __init__(self, cluster: Nodes[Any], draw: random.Random) -> None:
        self._cluster = cluster
        self._draw = draw
        self._starting = ThreadPoolExecutor(1)
        self._back: Future[object] | None = None

    def kill_one(self, about_to: Callable[[], None]) -> None:
        self.all_back()
        node_id = self._draw.choice(list(self._cluster.nodes))
        about_to()
        self._cluster[node_id].kill()
        self._back = self._starting.submit(self._cluster.start, node_id)

    def all_back(self) -> None:
        if self._back is not None:
            self._back.result()

    def close(self) -> None:
        self._starting.shutdown()


@dataclass(frozen=True)
class Play:
    brokers: int
    total: int
    pace: int
    worker_kills: int
    broker_kills: int


@pytest.mark.parametrize(
    "play",
    [
        pytest.param(Play(1, 24_000, 4_000, 2, 1), id="short"),
        pytest.param(Play(3, 24_000, 4_000, 2, 2), id="short-three"),
        pytest.param(Play(1, 1_000_000, 8_000, 24, 10), id="full", marks=pytest.mark.slow),
        pytest.param(Play(3, 1_000_000, 8_000, 24, 12), id="full-three", marks=pytest.mark.slow),
    ],
)
@pytest.mark.timeout(1800)
def test_every_event_counts_once(
    play: Play, new_cluster: Callable[..., Nodes[Any]], name: str, tmp_path: Path
) -> None:
    print(f"CHAOS_SEED={SEED}")
    draw = random.Random(SEED)
    cluster = new_cluster(
        play.brokers,
        *("--set", "group.min.session.timeout.ms=1000", "--set", "offsets.topic.num.partitions=2"),
        *("--set", "transaction.state.log.num.partitions=2"),
    ).start()
    bootstrap = cluster.bootstrap
    outside = Outside(bootstrap)
    outside.create(f"{name}-events", 2)
    outside.create(f"{name}-windows", 1, **{"retention.ms": "-1"})  # the time of these events is long ago
    workers = [
        WorkerProcess(JOB, bootstrap, *options, cwd=tmp_path, JOB=name, SESSION_MS="1500").start()
        for options in (("--slot", "0"), ("--state-dir", "state", "--slot", "1"))
    ]
    outputs = [TopicPartition(f"{name}-totals", 0), TopicPartition(f"{name}-windows", 0)]
    load = Load(bootstrap, f"{name}-events", play.total, play.pace)
    open_at_kill, under_load = Counter[str](), Counter[str]()
    kills = ["worker"] * play.worker_kills + ["broker"] * play.broker_kills
    draw.shuffle(kills)

    def about_to_kill(victim: str) -> None:
        under_load[victim] += load.thread.is_alive()
        open_at_kill[victim] += in_transaction(bootstrap, outputs)

    with ExitStack() as stack:
        for worker in workers:
            stack.callback(worker.kill)
        chaos = Brokers(cluster, draw)
        stack.callback(chaos.close)
        try:
            for worker in workers:
                worker.said("task started")
            load.thread.start()
            for number, victim in enumerate(kills, 1):
                load.chaos_done = number / len(kills)
                keep_running(workers)
                time.sleep(draw.uniform(0.2, 0.8 * play.total / play.pace / len(kills)))
                if victim == "broker":
                    chaos.kill_one(lambda: about_to_kill("broker"))
                else:
                    worker = draw.choice(workers)
                    about_to_kill("worker")
                    worker.kill()
                    worker.start()
            chaos.all_back()
            load.thread.join()

            def all_counted() -> bool:
                keep_running(workers)
                counted = sum(map(len, _totals(outside, name).values()))
                return counted >= play.total and all(worker.at_work for worker in workers)

            eventually(all_counted, patience_s=600)
            assert [worker.stop() for worker in workers] == [0, 0]
        except BaseException:
            for worker in workers:
                print(f"-- slot {worker.command[-1]}", *worker.log[-25:], sep="\n")
            raise
    totals = _totals(outside, name)
    for key in KEYS:
        assert totals[key] == list(range(1, load.sent[key] + 1)), key
    windows = defaultdict[tuple[str, int], list[int]](list)
    for _, result, _ in outside.read(f"{name}-windows"):
        windows[result["key"], result["start_ms"]].append(result["n"])
    assert dict(windows) == {place: [n] for place, n in load.windows.items()}
    aborts = sum(len(worker.lines("rolled back")) for worker in workers)
    print(
        f"{play.total} events, {len(kills)} kills, under load: {dict(under_load)}, "
        f"in an open transaction: {dict(open_at_kill)}; {aborts} aborts"
    )


def _totals(outside: Outside, name: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for key, count, _ in outside.read(f"{name}-totals"):
        if not key.startswith(b"end"):
            found[key.decode()].append(count)
    return found
