"""Compaction of a running broker, as Kafka's clients see it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.support.broker_process import BrokerProcess

DEADLINE_S = 60


def make_topic(address: str, topic: str, **config: str) -> None:
    config = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1"} | {
        key.replace("_", "."): value for key, value in config.items()
    }
    admin = AdminClient({"bootstrap.servers": address})
    made = admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1, config=config)])
    made[topic].result(30)


def read_all(address: str, topic: str) -> list[tuple[int, bytes, bytes | None]]:
    consumer = Consumer({"bootstrap.servers": address, "group.id": "readers", "enable.partition.eof": True})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        found = []
        while True:
            message = consumer.poll(30)
            assert message is not None, "no record and no end within 30 s"
            if message.error():
                return found
            found.append((message.offset(), message.key(), message.value()))
    finally:
        consumer.close()


def cleaned_up_to(directory: Path, topic: str) -> int:
    for line in (directory / "cleaner-offset-checkpoint").read_text().splitlines():
        if line.startswith(f"{topic} 0 "):
            return int(line.split()[2])
    return 0


def wait_until_cleaned(directory: Path, topic: str) -> None:
    """Until all but the active segment is clean."""
    deadline = time.monotonic() + DEADLINE_S
    while cleaned_up_to(directory, topic) < max(
        int(path.stem) for path in (directory / f"{topic}-0").glob("*.log")
    ):
        assert time.monotonic() < deadline, f"{topic} is not compacted within {DEADLINE_S} s"
        time.sleep(0.05)


def test_a_consumer_reads_the_newest_of_each_key(
    new_broker: Callable[..., BrokerProcess], name: str, tmp_path: Path
) -> None:
    broker = new_broker("--set", "log.cleaner.backoff.ms=100").start()
    make_topic(broker.bootstrap, name, segment_bytes="20000", delete_retention_ms="0")
    producer = Producer(
        {"bootstrap.servers": broker.bootstrap, "compression.type": "zstd", "batch.num.messages": 100,
         "enable.idempotence": True}
    )  # fmt: skip
    for number in range(10_000):
        value = None if number % 50 == 49 else b"%d" % number * 20
        producer.produce(name, key=b"k%d" % (number % 50), value=value)
        if number % 100 == 99:
            producer.flush()
    wait_until_cleaned(broker.data_dir, name)
    found = read_all(broker.bootstrap, name)
    offsets = [offset for offset, _, _ in found]
    assert offsets == sorted(set(offsets)) and len(found) < 3000
    newest = {key: value for _, key, value in found if value is not None}
    assert newest == {b"k%d" % (n % 50): b"%d" % n * 20 for n in range(9950, 9999)}
    broker.kill()
    broker.start()
    assert read_all(broker.bootstrap, name)[-50:] == found[-50:]


@pytest.mark.slow
def test_a_million_updates_of_ten_thousand_keys(
    new_broker: Callable[..., BrokerProcess], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Keeps the newest of each, and no produce waits for more than 50 ms while the cleaner works."""
    broker = new_broker("--set", "log.cleaner.enable=false").start()
    make_topic(broker.bootstrap, name, segment_bytes=str(8 << 20))
    make_topic(broker.bootstrap, f"{name}-probe", cleanup_policy="delete")
    bulk = Producer(
        {"bootstrap.servers": broker.bootstrap, "linger.ms": 5, "queue.buffering.max.messages": 10**6}
    )
    for number in range(1_000_000):
        bulk.produce(name, key=b"key-%05d" % (number % 10_000), value=b"%d" % number * 5)
        if number % 20_000 == 0:
            bulk.flush()
    bulk.flush()
    assert broker.stop() == 0
    broker.options = ("--set", "log.cleaner.backoff.ms=1000")
    broker.start()
    probe = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 0})
    probe.produce(f"{name}-probe", b"connected")
    probe.flush()
    latencies = []
    began = time.monotonic()
    deadline = time.monotonic() + DEADLINE_S
    log = broker.data_dir / f"{name}-0"
    while cleaned_up_to(broker.data_dir, name) < max(int(path.stem) for path in log.glob("*.log")):
        assert time.monotonic() < deadline, f"not compacted within {DEADLINE_S} s"
        started = time.perf_counter()
        probe.produce(f"{name}-probe", b"x")
        probe.flush()
        latencies.append(time.perf_counter() - started)
    latencies.sort()
    cleaning_s = time.monotonic() - began
    with capsys.disabled():
        print(
            f"\n{len(latencies)} produces in {cleaning_s:.1f} s of cleaning: "
            f"longest {latencies[-1] * 1000:.1f} ms, median {latencies[len(latencies) // 2] * 1000:.1f} ms"
        )
    found = read_all(broker.bootstrap, name)
    newest = {key: value for _, key, value in found}
    assert newest == {b"key-%05d" % (n % 10_000): b"%d" % n * 5 for n in range(990_000, 1_000_000)}
    assert len(found) < 300_000
    assert latencies[-1] < 0.05
