"""Words that many scenes use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, KafkaError, TopicPartition
from confluent_kafka import Consumer as Subscriber

from streamkit.protocol.error_codes import ErrorCode
from tests.compatibility.clients import Confluent
from tests.compatibility.contract import DEADLINE_S, Client, Consumer, Record, Refused, Row, read

needs = pytest.mark.needs
COMPRESSIONS = (
    "none",
    "gzip",
    *(pytest.param(codec, marks=needs(codec)) for codec in ("snappy", "lz4", "zstd")),
)


def numbered(count: int, first: int = 0) -> list[Record]:
    """Records under seven keys, each with its number in its value."""
    return [Record(b"k%d" % (n % 7), b"value-%05d" % n) for n in range(first, first + count)]


def values(rows: Iterable[Row | Record]) -> list[bytes]:
    return sorted(row.value or b"" for row in rows)


def next_offsets(rows: Sequence[Row]) -> dict[int, int]:
    """Where a reader of these goes on, by partition."""
    return {row.partition: row.offset + 1 for row in sorted(rows, key=lambda row: row.offset)}


@contextmanager
def reading(client: Client, topic: str, **settings: Any) -> Iterator[Consumer]:
    consumer = client.consumer(topic, **settings)
    try:
        yield consumer
    finally:
        consumer.close()


@contextmanager
def writing(client: Client, **settings: Any) -> Iterator[Any]:
    producer = client.producer(**settings)
    try:
        yield producer
    finally:
        producer.close()


def write(client: Client, topic: str, records: Sequence[Record], **settings: Any) -> list[tuple[int, int]]:
    with writing(client, **settings) as producer:
        return producer.send(topic, records)


def read_all(client: Client, topic: str, count: int, **settings: Any) -> list[Row]:
    with reading(client, topic, **settings) as consumer:
        return read(consumer, count)


def content(judge: Confluent, topic: str, isolation: str = "read_committed") -> list[bytes]:
    """The values of a topic of one partition, in order, as far as they may be read now."""
    consumer = judge_of(judge.bootstrap, isolation)
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    found: list[bytes] = []
    while (message := consumer.poll(DEADLINE_S)) is not None and message.error() is None:
        found.append(message.value())
    consumer.unassign()
    assert message is not None and message.error().code() == KafkaError._PARTITION_EOF
    return found


@cache
def judge_of(bootstrap: str, isolation: str) -> Subscriber:
    settings = {
        "bootstrap.servers": bootstrap,
        "group.id": "judge",
        "isolation.level": isolation,
        "enable.partition.eof": True,
        "enable.auto.commit": False,
        "fetch.wait.max.ms": 50,
        "log_level": 0,
    }
    return Subscriber(settings)


@contextmanager
def refused(*codes: ErrorCode) -> Iterator[None]:
    """The client must say no; with one of these codes, if it tells codes."""
    with pytest.raises(Refused) as said:
        yield
    if codes and said.value.code is not None:
        assert said.value.code in codes, said.value
