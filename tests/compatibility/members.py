"""Members of groups that live in threads of their own, and write down what happens to them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import confluent_kafka
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

DEADLINE_S = 30
SESSION_MS = 6000
PARTITIONS = 3


class Serving(Protocol):
    """A broker, or a cluster of them."""

    @property
    def bootstrap(self) -> str: ...


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.02)


def make_topic(broker: Serving, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(DEADLINE_S)


def produce(broker: Serving, topic: str, values: range) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for value in values:
        producer.produce(topic, value=str(value), partition=value % PARTITIONS)
    assert producer.flush(DEADLINE_S) == 0


class Member:
    """A confluent-kafka consumer that polls in a thread and writes down what happens to it.

    A setting of None is left out. What is owned and revoked is named by partition alone.
    """

    def __init__(self, bootstrap: str, topic: str, group: str, **settings: object) -> None:
        self.owned: set[int] = set()
        self.revoked: list[set[int]] = []
        self.lost = 0
        self.values: list[int] = []
        self.errors: list[Any] = []
        self._wants_commit = threading.Event()
        given = {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": SESSION_MS,
            "heartbeat.interval.ms": 200,
            "enable.auto.commit": False,
            "topic.metadata.refresh.interval.ms": 1000,
            **settings,
        }
        self.consumer = confluent_kafka.Consumer(
            {key: value for key, value in given.items() if value is not None}
        )
        self.consumer.subscribe(
            [topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            message = self.consumer.poll(0.05)
            if message is not None and message.error() is None:
                self.values.append(int(message.value()))
            elif message is not None:
                self.errors.append(message.error())
            if self._wants_commit.is_set():
                self.consumer.commit(asynchronous=False)
                self._wants_commit.clear()
        self.consumer.close()

    def _assigned(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        self.owned |= {partition.partition for partition in partitions}

    def _revoked(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        gone = {partition.partition for partition in partitions}
        self.owned -= gone
        self.revoked.append(gone)

    def _lost(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        self.lost += 1
        self._revoked(consumer, partitions)

    def commit(self) -> None:
        """Commit what was read, in the thread that reads."""
        self._wants_commit.set()
        until(lambda: not self._wants_commit.is_set(), "the commit is answered")

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(DEADLINE_S)


@contextmanager
def member(broker: Serving, topic: str, group: str, **settings: object) -> Iterator[Member]:
    joined = Member(broker.bootstrap, topic, group, **settings)
    try:
        yield joined
    finally:
        joined.stop()


def described(broker: Serving, group: str) -> Any:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    return admin.describe_consumer_groups([group])[group].result(DEADLINE_S)
