"""What this machine and plain Python can do without us: a rate without its machine says nothing.

The plain loops are the shortest that a Python user could write over librdkafka's `consume()`.
"""

from __future__ import annotations

import os
import shutil
import time

import orjson
from confluent_kafka import Consumer, TopicPartition

from tests.benchmarks.processes import Rate, Stopwatch


def memory_directory(room_bytes: int) -> str | None:
    """A file system in memory with so much room, where the system has one."""
    path = "/dev/shm"
    return path if os.path.isdir(path) and shutil.disk_usage(path).free >= room_bytes else None


def consume_loop(bootstrap: str, topic: str, partitions: int, count: int, *, decode: bool) -> Rate:
    """Records/s of a plain loop over `consume()`; `decode`: with JSON and a filter in it."""
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
    seen = len(consumer.consume(1, timeout=30))
    kept, deadline = 0, time.monotonic() + 120
    watch = Stopwatch(os.getpid())
    while seen < count:
        assert time.monotonic() < deadline, f"only {seen} of {count} records came"
        messages = consumer.consume(min(10_000, count - seen), timeout=5)
        seen += len(messages)
        if decode:
            for message in messages:
                event = orjson.loads(message.value())
                if event["amount"] > 10:
                    kept += 1
    rate = watch.rate(count)
    consumer.close()
    return rate
