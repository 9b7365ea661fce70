"""Members of share groups that take what they are given when they are asked to poll."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from confluent_kafka import Message, ShareConsumer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from tests.compatibility.members import DEADLINE_S, Serving


@dataclass
class Taker:
    """`values` is what it took; what one poll brings is acknowledged by the next."""

    consumer: ShareConsumer
    values: list[int] = field(default_factory=list)

    def poll(self, seconds: float = 0.1) -> None:
        records: list[Message] = self.consumer.poll(seconds) or []
        for record in records:
            assert record.error() is None, record.error()
            value = record.value()
            assert value is not None
            self.values.append(int(value))


@contextmanager
def taker(broker: Serving, topic: str, group: str) -> Iterator[Taker]:
    settings = {"bootstrap.servers": broker.bootstrap, "group.id": group, "log_level": 0}
    consumer = ShareConsumer(settings)
    consumer.subscribe([topic])
    try:
        yield Taker(consumer)
    finally:
        consumer.close()


def poll_until(condition: Callable[[], bool], *takers: Taker) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, [one.values for one in takers]
        for one in takers:
            one.poll()


def configure(broker: Serving, group: str, **settings: str) -> None:
    entries = [
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in settings.items()
    ]
    resource = ConfigResource(ResourceType.GROUP, group, incremental_configs=entries)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.incremental_alter_configs([resource])[resource].result(DEADLINE_S)
