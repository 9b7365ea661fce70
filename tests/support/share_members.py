"""Members of share groups, played by confluent-kafka's ShareConsumer, and what they need around them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import AcknowledgeType, KafkaError, KafkaException, Producer, ShareConsumer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

PATIENCE_S = 30
ACCEPT, RELEASE, REJECT = AcknowledgeType.ACCEPT, AcknowledgeType.RELEASE, AcknowledgeType.REJECT


class Queue:
    """A topic, and the group of the same name that reads it from its beginning."""

    def __init__(
        self, bootstrap: str, name: str, *, partitions: int = 1, replicas: int = 1, **settings: str
    ) -> None:
        """`settings` are the group's, written with `_` for `.`."""
        self.bootstrap = bootstrap
        self.name = name
        self._producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0, "linger.ms": 0})
        admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        admin.create_topics([NewTopic(name, partitions, replicas)])[name].result(PATIENCE_S)
        entries = [
            ConfigEntry(key.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
            for key, value in {"share_auto_offset_reset": "earliest", **settings}.items()
        ]
        group = ConfigResource(ResourceType.GROUP, name, incremental_configs=entries)
        admin.incremental_alter_configs([group])[group].result(PATIENCE_S)

    def put(self, *values: str) -> None:
        """Each value is a batch of its own."""
        for value in values:
            self._producer.produce(self.name, value)
            assert self._producer.flush(PATIENCE_S) == 0

    @contextmanager
    def member(self, **config: Any) -> Iterator[Member]:
        """One consumer, which says what becomes of each record."""
        member = Member(self, config)
        try:
            yield member
        finally:
            member.close()


class Member:
    def __init__(self, queue: Queue, config: dict[str, Any]) -> None:
        self._consumer = ShareConsumer(
            {
                "bootstrap.servers": queue.bootstrap,
                "group.id": queue.name,
                "share.acknowledgement.mode": "explicit",
                "log_level": 0,
                **config,
            }
        )
        self._consumer.subscribe([queue.name])
        self._is_open = True

    def poll(self, timeout_s: float = 1) -> list[Any]:
        """What is delivered now; passing errors are nothing."""
        return [one for one in self._consumer.poll(timeout_s) if one.error() is None]

    def take(
        self, count: int, *, then: AcknowledgeType | None = ACCEPT, timeout_s: float = PATIENCE_S
    ) -> list[str]:
        """The values of the next records, at least so many, all acknowledged alike (None: not yet)."""
        values: list[str] = []
        deadline_s = time.monotonic() + timeout_s
        while len(values) < count and time.monotonic() < deadline_s:
            for message in self.poll():
                values.append(message.value().decode())
                if then is not None:
                    self._consumer.acknowledge(message, then)
            if then is not None and values:
                self.commit()
        return values

    def acknowledge(self, message: Any, kind: AcknowledgeType = ACCEPT) -> None:
        self._consumer.acknowledge(message, kind)

    def commit(self) -> dict[Any, KafkaError | None]:
        """Send what was acknowledged; what became of it, by partition."""
        try:
            return dict(self._consumer.commit_sync(PATIENCE_S))
        except KafkaException as error:
            if error.args[0].code() == KafkaError._NO_OFFSET:
                return {}
            raise

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._consumer.close()


def until(what: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline_s, "it did not happen in time"
