"""State ten times as large as the memory of its worker: rows of a table, and open windows.

A page of some eight thousand bytes is kept for each of many keys, and stays long enough for a fifth of them
to be visited again, at random. The kernel holds the worker to a tenth of what that takes on disk, where it
may be asked to. Then answers are compared: rows as they stand in the store, and windows as they were told
when they closed. Input and results are small, so that the disk is left to the state and its changelog.
"""

from __future__ import annotations

import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from streamkit.processing.partitioner import partition_for
from streamkit.processing.worker.rocksdb import StateDirectory
from tests.benchmarks import worker
from tests.benchmarks.memory_limit import bound
from tests.benchmarks.pages import PAGE_BYTES, page, text
from tests.benchmarks.processes import Rate, cpu_seconds, own_bytes
from tests.benchmarks.worker import Observed
from tests.support.broker_process import BrokerProcess

TOPIC = "visits"
HOUR_MS = 3_600_000
SAMPLE = 2_000
LOOK_S = 0.2
STALLED_S = 120


class Measured(NamedTuple):
    kept_bytes: int
    most_bytes: int  # of the worker's memory, without what it maps of files
    taken: Rate
    closed: Rate | None
    right: int  # answers, of SAMPLE
    bounded: bool  # by the kernel


def keys_within(state_bytes: int) -> int:
    return state_bytes // PAGE_BYTES


def visits(keys: int) -> Iterator[int]:
    """Every key once, in an order of no meaning to the store; then a fifth of as many again."""
    rng = random.Random(7)
    yield from range(keys)
    for _ in range(keys // 5):
        yield rng.randrange(keys)


def an_hour() -> int:
    """The start of one that lies in the past, but within the retention of topics."""
    return (int(time.time() * 1000) // HOUR_MS - 24) * HOUR_MS


def fill(bootstrap: str, keys: int, start_ms: int) -> None:
    """The visits of half an hour."""
    failed: list[object] = []
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 20,
            "partitioner": "murmur2_random",
            "delivery.report.only.error": True,
            "on_delivery": lambda error, _: failed.append(error),
        }
    )
    for place, number in enumerate(visits(keys)):
        key = f"page-{number}"
        producer.produce(TOPIC, key, key, timestamp=start_ms + place * HOUR_MS // (3 * keys))
        if place % 1_000 == 0:
            producer.poll(0)
        if place % 100_000 == 0:
            producer.flush(120)
    assert producer.flush(120) == 0 and not failed, failed[:1]


def run(broker: BrokerProcess, job: str, keys: int, start_ms: int, memory_bytes: int) -> Measured:
    with tempfile.TemporaryDirectory() as directory, bound(memory_bytes) as memory:
        options = ("--state-dir", directory, "--state-memory", f"{memory_bytes // 4 >> 20}MiB")
        with worker.running(
            broker, job, *options, began=memory.hold
        ) as running:  # before it has any to speak of
            look = Look(running)
            taken = look.until(worker.READ, keys + keys // 5)
            kept = sum(file.stat().st_size for file in Path(directory).rglob("*") if file.is_file())
            closed = None
            if job == "large-windows":
                _end_the_hour(broker.bootstrap, start_ms)
                closed = look.until(worker.CLOSED, keys)
        right = _rows(Path(directory), keys) if closed is None else _results(broker.bootstrap, keys)
        return Measured(kept, look.most_bytes, taken, closed, right, memory.kept)


class Look:
    """At what a worker has counted, and at its memory meanwhile."""

    def __init__(self, worker: Observed) -> None:
        self.most_bytes = 0
        self._worker = worker

    def until(self, metric: re.Pattern[str], wanted: int) -> Rate:
        """How fast it comes so far, beginning with the first."""
        began, cpu_began, first, seen = 0.0, 0.0, 0, 0
        moved = time.monotonic()
        for now in self._worker.counts(metric, look_s=LOOK_S, stalled_s=STALLED_S):
            self.most_bytes = max(self.most_bytes, own_bytes(self._worker.pid))
            if now > seen:
                moved = time.monotonic()
                if not seen:
                    began, cpu_began, first = moved, cpu_seconds(self._worker.pid), now
                seen = now
            if seen >= wanted:
                break
        return Rate(
            (seen - first) / max(moved - began, LOOK_S),
            (seen - first) / max(cpu_seconds(self._worker.pid) - cpu_began, 0.01),
        )


def _end_the_hour(bootstrap: str, start_ms: int) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    for partition in range(worker.PARTITIONS):
        producer.produce(TOPIC, "late", "late", partition, timestamp=start_ms + 2 * HOUR_MS)
    assert producer.flush(60) == 0


def _expected(keys: int) -> dict[int, int]:
    """How often some keys were visited."""
    chosen = set(random.Random(8).sample(range(keys), SAMPLE))
    return Counter(number for number in visits(keys) if number in chosen)


def _rows(directory: Path, keys: int) -> int:
    """How many of the sampled rows are right in the worker's stores."""
    [app] = directory.iterdir()
    state = StateDirectory(directory, app.name, 0)
    stores = [state.stores(["pages"], partition)["pages"] for partition in range(worker.PARTITIONS)]
    right = 0
    for number, times in _expected(keys).items():
        key = f"page-{number}"
        store = stores[partition_for(key.encode(), worker.PARTITIONS)]
        right += store.get(key.encode()) == page(key, times)
    for store in stores:
        store.close()
    state.close()
    return right


def _results(bootstrap: str, keys: int) -> int:
    """How many of the sampled windows were told as they should be; every window was told once."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "check", "enable.auto.commit": False})
    topic = next(name for name in consumer.list_topics(timeout=10).topics if name.startswith("results-"))
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(worker.PARTITIONS)])
    expected, told, right = _expected(keys), 0, 0
    while told < keys:
        messages = consumer.consume(10_000, timeout=10)
        assert messages, f"only {told} of {keys} windows were told"
        for message in messages:
            told += 1
            key = (message.key() or b"").decode()
            times = expected.pop(int(key.removeprefix("page-")), None)
            if times is not None:
                right += orjson.loads(message.value() or b"")["page"] == [times, text(key)[:20]]
    assert not consumer.consume(1, timeout=1), "a window was told twice"
    consumer.close()
    return right
