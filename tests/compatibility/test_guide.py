"""The example producer and consumer that every Kafka beginner types, unmodified.

They name `localhost:9092`, so each scene runs in a network namespace of its own, where that port is free.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.compatibility.contract import until
from tests.support.broker_process import BrokerProcess, environment, streamkit

GUIDE = Path(__file__).parent / "guide"
SCENE = f"""
set -e
ip link set lo up
{" ".join(streamkit("broker", "start"))} --data-dir "$1" 2> "$2" &
broker=$!
trap 'kill -9 $broker $consumer' EXIT
until grep -q ready "$2"; do kill -0 $broker; sleep 0.05; done
{sys.executable} {GUIDE / "producer.py"}
exec 3< <(exec {sys.executable} {GUIDE / "consumer.py"})
consumer=$!
head -n 1 <&3
"""


def test_the_guides_producer_and_consumer_run_unmodified(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            "unshare",
            "-rnpf",
            "--kill-child",
            "bash",
            "-c",
            SCENE,
            "scene",
            str(tmp_path / "data"),
            str(tmp_path / "log"),
        ],
        env=environment(),
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == 'Received: {"order_id": 101, "product": "Laptop"}\n', done.stderr


def orders(broker: BrokerProcess, topic: str) -> list[bytes]:
    """30 orders under 10 keys in a topic of three partitions; the values in the order they were sent."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(topic, 3, 1)])[topic].result(30)
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    values = [b"%d" % n for n in range(30)]
    for n, value in enumerate(values):
        producer.produce(topic, key=b"customer-%d" % (n % 10), value=value)
    assert producer.flush(30) == 0
    return values


class Reader:
    """A consumer as in the guide, polled step by step."""

    def __init__(self, broker: BrokerProcess, topic: str, group: str) -> None:
        self.consumer = Consumer(
            {"bootstrap.servers": broker.bootstrap, "group.id": group, "auto.offset.reset": "earliest"}
        )
        self.consumer.subscribe([topic])
        self.seen: list[tuple[int, bytes | None, bytes | None]] = []

    def step(self) -> Reader:
        message = self.consumer.poll(0.05)
        if message is not None and message.error() is None:
            self.seen.append((message.partition(), message.key(), message.value()))
        return self

    def owned(self) -> list[TopicPartition]:
        return list(self.consumer.assignment())


def drain(readers: list[Reader], done: Callable[[], bool]) -> None:
    def step() -> bool:
        for reader in readers:
            reader.step()
        return done()

    until(step, "the readers see what was sent")


def test_keys_keep_their_partition_and_order(broker: BrokerProcess, name: str) -> None:
    orders(broker, name)
    reader = Reader(broker, name, name)
    drain([reader], lambda: len(reader.seen) == 30)
    for key in {key for _, key, _ in reader.seen}:
        mine = [(partition, int(value or b"")) for partition, k, value in reader.seen if k == key]
        assert len({partition for partition, _ in mine}) == 1
        assert mine == sorted(mine)
    reader.consumer.close()


def test_two_consumers_of_one_group_share_three_partitions(broker: BrokerProcess, name: str) -> None:
    readers = [Reader(broker, name, name) for _ in range(2)]
    sent: list[bytes] = []

    def shared() -> bool:
        return sorted(len(reader.owned()) for reader in readers) == [1, 2]

    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(name, 3, 1)])[name].result(30)
    drain(readers, shared)
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for n in range(30):
        sent.append(b"%d" % n)
        producer.produce(name, key=b"customer-%d" % (n % 10), value=sent[-1])
    assert producer.flush(30) == 0
    drain(readers, lambda: sum(len(reader.seen) for reader in readers) >= 30)
    seen = [value for reader in readers for _, _, value in reader.seen]
    assert sorted(seen) == sorted(sent), "each record goes to exactly one of the two"
    assert all(reader.seen for reader in readers), "both have work"
    for reader in readers:
        reader.consumer.close()


def test_two_groups_each_see_all(broker: BrokerProcess, name: str) -> None:
    sent = orders(broker, name)
    readers = [Reader(broker, name, f"{name}-{group}") for group in ("billing", "shipping")]
    drain(readers, lambda: all(len(reader.seen) == 30 for reader in readers))
    for reader in readers:
        assert sorted(value for _, _, value in reader.seen) == sorted(sent)
        reader.consumer.close()
