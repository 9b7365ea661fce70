"""Three real brokers lose one that leads: nothing acknowledged is lost, and it comes back in sync."""

from __future__ import annotations

import time
from collections.abc import Callable

from confluent_kafka import Consumer, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.support.broker_cluster import BrokerCluster

FAST = (
    *("--set", "broker.heartbeat.interval.ms=200"),
    *("--set", "broker.session.timeout.ms=1000"),
)
PARTITIONS = 3


class Writer:
    """An idempotent producer with acks=all, and what it was told."""

    def __init__(self, bootstrap: str) -> None:
        self.acknowledged: dict[tuple[int, int], bytes] = {}
        self.sent = 0
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 1,
                "message.timeout.ms": 60_000,
                "log_level": 3,
            }
        )

    def write(self, topic: str, until: Callable[[], bool], timeout_s: float = 30) -> None:
        deadline = time.monotonic() + timeout_s
        while not until():
            assert time.monotonic() < deadline, "it did not come to that"
            value = b"%d" % self.sent
            self._producer.produce(
                topic, value, partition=self.sent % PARTITIONS, on_delivery=self._delivered
            )
            self.sent += 1
            self._producer.poll(0.002)

    def _delivered(self, error: object, message: Message) -> None:
        assert error is None, error
        partition, offset, value = message.partition(), message.offset(), message.value()
        assert partition is not None and offset is not None and value is not None
        self.acknowledged[partition, offset] = value

    def finish(self) -> None:
        assert self._producer.flush(60) == 0


def test_kill_9_of_a_leader_loses_nothing_and_it_rejoins(new_cluster: Callable[..., BrokerCluster]) -> None:
    cluster = new_cluster(3, *FAST).start()
    bootstrap = cluster.bootstrap
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    for created in admin.create_topics([NewTopic("t", PARTITIONS, 3)]).values():
        created.result(20)

    def in_sync() -> list[int]:
        partitions = admin.list_topics("t", timeout=10).topics["t"].partitions.values()
        return [len(partition.isrs) for partition in partitions]

    def leaders() -> set[int]:
        partitions = admin.list_topics("t", timeout=10).topics["t"].partitions.values()
        return {partition.leader for partition in partitions}

    writer = Writer(bootstrap)
    writer.write("t", until=lambda: len(writer.acknowledged) > 300)
    victim = next(iter(leaders()))
    cluster[victim].kill()
    before = len(writer.acknowledged)
    writer.write("t", until=lambda: len(writer.acknowledged) > before + 1000 and victim not in leaders())
    cluster.start(victim)
    writer.write("t", until=lambda: in_sync() == [3] * PARTITIONS)
    writer.finish()
    assert len(writer.acknowledged) == writer.sent
    assert read(bootstrap, "t", len(writer.acknowledged)) == writer.acknowledged


def read(bootstrap: str, topic: str, count: int) -> dict[tuple[int, int], bytes]:
    """Everything in a topic, through a group whose coordinator may have moved."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "readers",
            "auto.offset.reset": "earliest",
            "log_level": 3,
        }
    )
    consumer.subscribe([topic])
    found: dict[tuple[int, int], bytes] = {}
    deadline = time.monotonic() + 30
    while len(found) < count and time.monotonic() < deadline:
        for message in consumer.consume(1000, 1):
            assert message.error() is None, message.error()
            partition, offset, value = message.partition(), message.offset(), message.value()
            assert partition is not None and offset is not None and value is not None
            found[partition, offset] = value
    consumer.close()
    return found
