"""Transactions as real clients make and read them: commit, abort, fencing, timeouts, offsets within."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import aiokafka
import pytest
from aiokafka.errors import KafkaError, ProducerFenced
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.support.broker_process import BrokerProcess

DEADLINE_S = 20


def confluent_producer(bootstrap: str, transactional_id: str, timeout_ms: int = 60_000) -> Producer:
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "transactional.id": transactional_id,
            "transaction.timeout.ms": timeout_ms,
            "log_level": 0,
        }
    )
    producer.init_transactions(DEADLINE_S)
    return producer


def made(bootstrap: str, *topics: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(topic, 1, 1) for topic in topics]).values():
        future.result(DEADLINE_S)


def confluent_read(bootstrap: str, topic: str, isolation: str = "read_committed") -> list[bytes]:
    """Everything up to the end that this isolation level sees."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "reader",
            "enable.auto.commit": False,
            "isolation.level": isolation,
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    values: list[bytes] = []
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        message = consumer.poll(1)
        if message is not None and message.error() is not None:
            break
        if message is not None:
            values.append(message.value() or b"")
    consumer.close()
    return values


async def aiokafka_read(bootstrap: str, topic: str, count: int) -> list[bytes]:
    consumer = aiokafka.AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    await consumer.start()
    values: list[bytes] = []
    try:
        async with asyncio.timeout(DEADLINE_S):
            while len(values) < count:
                for rows in (await consumer.getmany(timeout_ms=500)).values():
                    values += [row.value for row in rows]
    finally:
        await consumer.stop()
    return values


def test_confluent_kafka_commits_and_aborts(broker: BrokerProcess, name: str) -> None:
    made(broker.bootstrap, name)
    producer = confluent_producer(broker.bootstrap, name)
    for number, commits in enumerate([True, False, True]):
        producer.begin_transaction()
        for part in range(3):
            producer.produce(name, b"%d-%d" % (number, part))
        if commits:
            producer.commit_transaction(DEADLINE_S)
        else:
            producer.flush(DEADLINE_S)
            producer.abort_transaction(DEADLINE_S)
    committed = [b"0-0", b"0-1", b"0-2", b"2-0", b"2-1", b"2-2"]
    assert confluent_read(broker.bootstrap, name) == committed
    assert len(confluent_read(broker.bootstrap, name, "read_uncommitted")) == 9
    assert asyncio.run(aiokafka_read(broker.bootstrap, name, 6)) == committed


def test_g4_an_open_transaction_is_not_read(broker: BrokerProcess, name: str) -> None:
    made(broker.bootstrap, name)
    plain = Producer({"bootstrap.servers": broker.bootstrap})
    open_one = confluent_producer(broker.bootstrap, name)
    plain.produce(name, b"before")
    assert plain.flush(DEADLINE_S) == 0
    open_one.begin_transaction()
    open_one.produce(name, b"open")
    assert open_one.flush(DEADLINE_S) == 0
    plain.produce(name, b"after")
    assert plain.flush(DEADLINE_S) == 0
    assert confluent_read(broker.bootstrap, name) == [b"before"]
    open_one.commit_transaction(DEADLINE_S)
    assert confluent_read(broker.bootstrap, name) == [b"before", b"open", b"after"]


def test_g5_confluent_kafka_is_fenced_by_its_successor(broker: BrokerProcess, name: str) -> None:
    made(broker.bootstrap, name)
    zombie = confluent_producer(broker.bootstrap, name)
    zombie.begin_transaction()
    zombie.produce(name, b"zombie")
    assert zombie.flush(DEADLINE_S) == 0
    successor = confluent_producer(broker.bootstrap, name)
    with pytest.raises(KafkaException) as fenced:
        zombie.commit_transaction(DEADLINE_S)
    assert fenced.value.args[0].fatal()
    successor.begin_transaction()
    successor.produce(name, b"successor")
    successor.commit_transaction(DEADLINE_S)
    assert confluent_read(broker.bootstrap, name) == [b"successor"]


def test_g6_a_transaction_that_takes_too_long_is_aborted(broker: BrokerProcess, name: str) -> None:
    made(broker.bootstrap, name)
    producer = confluent_producer(broker.bootstrap, name, timeout_ms=1_000)
    producer.begin_transaction()
    producer.produce(name, b"late")
    producer.flush(DEADLINE_S)
    plain = Producer({"bootstrap.servers": broker.bootstrap})
    plain.produce(name, b"after")
    assert plain.flush(DEADLINE_S) == 0
    end = time.monotonic() + 10
    while not (values := confluent_read(broker.bootstrap, name)) and time.monotonic() < end:
        pass
    assert values == [b"after"]
    with pytest.raises(KafkaException):
        producer.commit_transaction(DEADLINE_S)


def test_g7_offsets_are_committed_with_the_transaction(broker: BrokerProcess, name: str) -> None:
    source, target = f"{name}-in", f"{name}-out"
    made(broker.bootstrap, source, target)
    producer = confluent_producer(broker.bootstrap, name)
    settings = {"bootstrap.servers": broker.bootstrap, "group.id": name, "enable.auto.commit": False}
    consumer = Consumer(settings)
    place = TopicPartition(source, 0)
    for offset, commits in ((5, True), (9, False)):
        producer.begin_transaction()
        producer.produce(target, b"%d" % offset)
        position = [TopicPartition(source, 0, offset)]
        producer.send_offsets_to_transaction(position, consumer.consumer_group_metadata(), DEADLINE_S)
        if commits:
            producer.commit_transaction(DEADLINE_S)
        else:
            producer.abort_transaction(DEADLINE_S)
        (found,) = consumer.committed([place], DEADLINE_S)
        assert found.offset == 5
    consumer.close()
    assert confluent_read(broker.bootstrap, target) == [b"5"]


async def test_aiokafka_commits_aborts_and_sends_offsets(broker: BrokerProcess, name: str) -> None:
    made(broker.bootstrap, name)
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=broker.bootstrap, transactional_id=name)
    await producer.start()
    try:
        async with producer.transaction():
            await producer.send_and_wait(name, b"kept")
            place = aiokafka.TopicPartition(name, 0)
            await producer.send_offsets_to_transaction({place: 7}, f"g-{name}")
        with pytest.raises(ZeroDivisionError):
            async with producer.transaction():
                await producer.send_and_wait(name, b"dropped")
                raise ZeroDivisionError
        async with producer.transaction():
            await producer.send_and_wait(name, b"kept too")
    finally:
        await producer.stop()
    assert await aiokafka_read(broker.bootstrap, name, 2) == [b"kept", b"kept too"]
    settings = {"bootstrap.servers": broker.bootstrap, "group.id": f"g-{name}"}
    judge = Consumer(settings)
    (found,) = judge.committed([TopicPartition(name, 0)], DEADLINE_S)
    judge.close()
    assert found.offset == 7


async def test_g5_aiokafka_is_fenced_by_its_successor(broker: BrokerProcess, name: str) -> None:
    made(broker.bootstrap, name)
    settings = {"bootstrap_servers": broker.bootstrap, "transactional_id": name}
    zombie = aiokafka.AIOKafkaProducer(**settings)
    await zombie.start()
    await zombie.begin_transaction()
    await zombie.send_and_wait(name, b"zombie")
    successor = aiokafka.AIOKafkaProducer(**settings)
    await successor.start()
    try:
        with pytest.raises((ProducerFenced, KafkaError)):
            await zombie.commit_transaction()
        async with successor.transaction():
            await successor.send_and_wait(name, b"successor")
    finally:
        await successor.stop()
        await zombie.stop()
    assert confluent_read(broker.bootstrap, name) == [b"successor"]


def test_a_commit_survives_a_crash_right_after_it(
    new_broker: Callable[..., BrokerProcess], name: str
) -> None:
    """Its markers may not be written yet: whoever starts next writes them."""
    broker = new_broker().start()
    made(broker.bootstrap, name)
    producer = confluent_producer(broker.bootstrap, name)
    producer.begin_transaction()
    producer.produce(name, b"kept")
    producer.commit_transaction(DEADLINE_S)
    broker.kill()
    broker.start()
    end = time.monotonic() + 10
    while not (values := confluent_read(broker.bootstrap, name)) and time.monotonic() < end:
        pass
    assert values == [b"kept"]
