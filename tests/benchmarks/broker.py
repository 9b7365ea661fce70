"""The broker's figures: records through librdkafka, single requests, start-up and memory.

Each function measures one thing once, against a broker that runs; what is repeated and compared is up to
`__main__`. Functions that act as the client are called in processes of their own.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.benchmarks.processes import Rate, Stopwatch, apart, resident_bytes
from tests.benchmarks.requests import first_acknowledged
from tests.support.broker_process import BrokerProcess


@contextmanager
def running(*options: str, below: str | None = None) -> Iterator[BrokerProcess]:
    """A broker in an empty directory `below` (default: among temporary files), while the block runs."""
    with tempfile.TemporaryDirectory(dir=below) as directory:
        broker = BrokerProcess(Path(directory) / "data", *options).start()
        try:
            yield broker
        finally:
            broker.kill()


def pid_of(broker: BrokerProcess) -> int:
    assert broker.process is not None
    return broker.process.pid


def create(
    broker: BrokerProcess, topic: str, partitions: int = 1, config: dict[str, str] | None = None
) -> str:
    """The name of the new topic."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(topic, partitions, 1, config=config or {})])[topic].result(60)
    return topic


def produce(bootstrap: str, pid: int, topic: str, size: int, count: int) -> Rate:
    """Records/s: `count` of `size` bytes through one librdkafka producer, acks=all, all acknowledged."""
    failed: list[object] = []
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 5,
            "batch.size": 1_000_000,
            "batch.num.messages": 50_000,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 1_048_576,
            "delivery.report.only.error": True,
            "on_delivery": lambda error, _: failed.append(error),
        }
    )
    value = os.urandom(size)
    watch = Stopwatch(pid)
    for number in range(count):
        producer.produce(topic, value)
        if number % 10_000 == 0:
            producer.poll(0)
    assert producer.flush(120) == 0
    assert not failed, failed[:3]
    return watch.rate(count)


def fetch(bootstrap: str, pid: int, topic: str, count: int) -> Rate:
    """Records/s: `count` of partition 0 through one librdkafka consumer."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench",
            "enable.auto.commit": False,
            "queued.min.messages": 1_000_000,
            "queued.max.messages.kbytes": 262_144,
            "fetch.queue.backoff.ms": 1,
        }
    )
    watch = Stopwatch(pid)
    consumer.assign([TopicPartition(topic, 0, 0)])
    seen = 0
    while seen < count:
        batch = consumer.consume(min(10_000, count - seen), timeout=10)
        assert batch, f"only {seen} of {count}"
        seen += len(batch)
    rate = watch.rate(count)
    consumer.close()
    return rate


def cold_start_s() -> float:
    """From the command to the first acknowledged record of a topic that exists, on an existing directory."""
    with running() as broker:
        topic = create(broker, "first")
        broker.stop()
        began = time.perf_counter()
        broker.start()
        first_acknowledged(broker.port, topic)
        return time.perf_counter() - began


def idle_bytes(partitions: int) -> tuple[int, float]:
    """Resident memory of an empty broker, and what each of `partitions` adds."""
    with running() as broker:
        apart(_describe, broker.bootstrap)
        empty = resident_bytes(pid_of(broker))
        create(broker, "many", partitions)
        return empty, (resident_bytes(pid_of(broker)) - empty) / partitions


def _describe(bootstrap: str) -> None:
    AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=10)
