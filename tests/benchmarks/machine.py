"""What this machine and plain Python can do without us: a rate without its machine says nothing.

The plain loops are the shortest that a Python user could write over librdkafka's `consume()` and `produce()`.
What they cost per record a worker cannot save: it makes the same calls.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from typing import Any

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.benchmarks.processes import Rate, Stopwatch

MOST_UNACKNOWLEDGED = 200_000  # records, of the loop that produces


def memory_directory(room_bytes: int) -> str | None:
    """A file system in memory with so much room, where the system has one."""
    path = "/dev/shm"
    return path if os.path.isdir(path) and shutil.disk_usage(path).free >= room_bytes else None


def consume_loop(bootstrap: str, topic: str, partitions: int, count: int, *, decode: bool) -> Rate:
    """Records/s of a plain loop over `consume()`; `decode`: with JSON and a filter in it."""
    rounds = _rounds(bootstrap, topic, partitions, count)
    next(rounds)
    watch = Stopwatch(os.getpid())
    kept = 0
    for messages in rounds:
        for message in messages if decode else ():
            event = orjson.loads(message.value())
            if event["amount"] > 10:
                kept += 1
    return watch.rate(count)


def copy_loop(bootstrap: str, topic: str, partitions: int, count: int, copies: str) -> Rate:
    """Records/s of a plain loop that reads JSON and writes every record to the topic `copies`, with its key
    and time, until all are acknowledged. Its producer is set as a worker's.
    """
    failed: list[object] = []
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "linger.ms": 20,
            "batch.size": 1 << 20,
            "batch.num.messages": 50_000,
            "queue.buffering.max.messages": 500_000,
            "delivery.report.only.error": True,
            "on_delivery": lambda error, _: failed.append(error),
        }
    )
    rounds = _rounds(bootstrap, topic, partitions, count)
    next(rounds)
    watch = Stopwatch(os.getpid())
    for messages in rounds:
        for message in messages:
            event = orjson.loads(message.value())
            if event["amount"] >= 0:
                time_ms = message.timestamp()[1]
                producer.produce(copies, orjson.dumps(event), message.key(), timestamp=time_ms)
        producer.poll(0)
        while len(producer) > MOST_UNACKNOWLEDGED:
            producer.poll(0.01)
    assert producer.flush(60) == 0
    assert not failed, failed[:3]
    return watch.rate(count)


def _rounds(bootstrap: str, topic: str, partitions: int, count: int) -> Iterator[list[Any]]:
    """So many records of a topic: the first one alone, which is there when reading has begun."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "plain-loop",
            "enable.auto.commit": False,
            "queued.min.messages": 200_000,
            "fetch.queue.backoff.ms": 1,
        }
    )
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
    messages = consumer.consume(1, timeout=30)
    seen, deadline = len(messages), time.monotonic() + 120
    yield messages
    while seen < count:
        assert time.monotonic() < deadline, f"only {seen} of {count} records came"
        messages = consumer.consume(min(10_000, count - seen), timeout=5)
        seen += len(messages)
        yield messages
    consumer.close()
