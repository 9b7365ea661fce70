"""Workers that hang past their session and wake up: their last rows never count, whenever they arrive.

Every round, one of two workers is stopped somewhere between two commits, often with rows of the changelog in
its producer's queue; the other one takes over and goes on. Then, with the input at rest, the first wakes up
and sends what it had. The next commit covers that, and the newest row of each key must still be its count.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import pytest
from confluent_kafka import Producer

from streamkit.processing.partitioner import partition_for
from tests.support.broker_process import BrokerProcess
from tests.support.worker_process import Outside, WorkerProcess

JOB = Path(__file__).parents[1] / "processing" / "cluster" / "jobs" / "counting.py"
KEYS = [f"key-{n}" for n in range(500)]
ROUNDS = 10
SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.randrange(1, 1 << 32)


class Load:
    """Words from random keys between `start` and `stop`; `sent` counts them."""

    def __init__(self, bootstrap: str, topic: str, draw: random.Random) -> None:
        self.sent: Counter[str] = Counter()
        self._producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random"})
        self._topic, self._draw = topic, draw
        self._stopped = threading.Event()

    def start(self) -> None:
        self._stopped.clear()
        self._running = threading.Thread(target=self._run)
        self._running.start()

    def stop(self) -> None:
        self._stopped.set()
        self._running.join()

    def send(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._producer.produce(self._topic, json.dumps("word"), key=key)
        assert self._producer.flush(30) == 0
        self.sent.update(keys)

    def _run(self) -> None:
        while not self._stopped.wait(0.01):
            self.send(self._draw.sample(KEYS, 20))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_newest_row_of_each_key_is_its_count(
    new_broker: Callable[..., BrokerProcess], name: str, tmp_path: Path
) -> None:
    print(f"CHAOS_SEED={SEED}")
    draw, broker = random.Random(SEED), new_broker("--set", "group.min.session.timeout.ms=1000").start()
    outside, words = Outside(broker.bootstrap), f"{name}-words"
    workers = [
        WorkerProcess(JOB, broker.bootstrap, cwd=tmp_path, JOB=name, SESSION_MS="1500", LINGER_MS="100")
        for _ in range(2)
    ]
    last = [next(k for n in count() if partition_for((k := f"last-{n}").encode(), 4) == p) for p in range(4)]
    try:
        for worker in workers:
            worker.start().said("task started")
        load = Load(broker.bootstrap, words, draw)
        for _ in range(ROUNDS):
            stopped = draw.choice(workers)
            assert stopped.process is not None
            load.start()
            threading.Event().wait(draw.uniform(1, 1.3))  # anywhere between two commits
            stopped.process.send_signal(signal.SIGSTOP)
            threading.Event().wait(2.5)
            load.stop()
            outside.caught_up(name, words)
            stopped.log.clear()
            stopped.process.send_signal(signal.SIGCONT)
            threading.Event().wait(0.05)  # its rows arrive, and the other one commits before tasks move
            load.send(last)
            outside.caught_up(name, words)
            stopped.said("task started")
            rows = {key.decode(): n for key, n, _ in outside.read(f"{name}-counts-changelog")}
            assert rows == load.sent
        assert [worker.stop() for worker in workers] == [0, 0]
    except BaseException:
        for worker in workers:
            print("-- a worker", *worker.log[-25:], sep="\n")
        raise
    finally:
        for worker in workers:
            worker.kill()
