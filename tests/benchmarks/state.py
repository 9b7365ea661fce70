"""State larger than memory: a table on disk of which a worker keeps little at hand.

Every record is a new key of a table with values of 400 bytes that do not compress. The worker's memory is
looked at all the while; what it holds at most stands beside what the table takes on disk in the end.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from confluent_kafka import Producer

from tests.benchmarks import worker
from tests.benchmarks.processes import Rate, resident_bytes
from tests.support.broker_process import BrokerProcess

TOPIC = "wide"
VALUE_BYTES = 400


def fill(bootstrap: str, keys: int) -> None:
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 20,
            "batch.size": 1_000_000,
            "partitioner": "murmur2_random",
            "queue.buffering.max.kbytes": 262_144,
        }
    )
    for number in range(keys):
        producer.produce(TOPIC, os.urandom(VALUE_BYTES), f"page-{number}")
        if number % 1_000 == 0:
            producer.poll(0)
        if number % 100_000 == 0:
            producer.flush(120)
    assert producer.flush(120) == 0


def run(broker: BrokerProcess, keys: int) -> tuple[Rate, int, int]:
    """Input records/s, the most memory that the worker had, and the bytes of its state directory."""
    most = 0

    def look(pid: int) -> None:
        nonlocal most
        most = max(most, resident_bytes(pid))

    with tempfile.TemporaryDirectory() as directory:
        rate = worker.run(broker, "state", keys, "--state-dir", directory, look=look)
        kept = sum(file.stat().st_size for file in Path(directory).rglob("*") if file.is_file())
    return rate, most, kept
