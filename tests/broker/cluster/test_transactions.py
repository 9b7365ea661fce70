"""Transactions over three real brokers: their partitions and coordinators are spread over all of them.

What crosses brokers here: the markers at the end of a transaction, the question of a partition's leader
whether a batch belongs to one (KIP-890), offsets that join it at the group's coordinator, and, when a broker
is killed, the shard that the next leader of its partition loads.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator

import aiokafka
import pytest
from aiokafka.errors import KafkaError, ProducerFenced
from confluent_kafka import Consumer, IsolationLevel, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from streamkit.broker.coordination.placement import partition_for
from tests.support.broker_cluster import BrokerCluster

PARTITIONS = 6
DEADLINE_S = 30
FAST = (
    *("--set", "broker.heartbeat.interval.ms=200"),
    *("--set", "broker.session.timeout.ms=1000"),
    *("--set", "offsets.topic.num.partitions=6"),
    *("--set", "transaction.state.log.num.partitions=6"),
)
TRANSACTION_STATE = "__transaction_state"
CONSUMER_OFFSETS = "__consumer_offsets"
QUIET = {"log_level": 0, "reconnect.backoff.max.ms": 200}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerCluster]:
    """Brokers that soon notice when one of them is gone; a test that kills one starts it again."""
    brokers = BrokerCluster(tmp_path_factory.mktemp("three"), 3, *FAST).start()
    yield brokers
    brokers.kill()


@pytest.fixture
def topic(three: BrokerCluster, name: str) -> str:
    make_topic(three, name)
    return name


def make_topic(cluster: BrokerCluster, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    new = NewTopic(topic, PARTITIONS, 3, config={"min.insync.replicas": "2"})
    admin.create_topics([new])[topic].result(DEADLINE_S)
    assert set(leaders(cluster, topic).values()) == {1, 2, 3}


def leaders(cluster: BrokerCluster, topic: str) -> dict[int, int]:
    """Partition → the broker that leads it."""
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
    found = admin.list_topics(topic, timeout=10).topics[topic].partitions
    return {index: partition.leader for index, partition in found.items()}


def producer_of(cluster: BrokerCluster, transactional_id: str, timeout_ms: int = 60_000) -> Producer:
    producer = Producer(
        {
            **QUIET,
            "bootstrap.servers": cluster.bootstrap,
            "transactional.id": transactional_id,
            "transaction.timeout.ms": timeout_ms,
        }
    )
    producer.init_transactions(DEADLINE_S)
    return producer


def spread(producer: Producer, topic: str, text: str) -> None:
    """One record to every partition, acknowledged."""
    for partition in range(PARTITIONS):
        producer.produce(topic, value=text, partition=partition)
    assert producer.flush(DEADLINE_S) == 0


def stable_ends(cluster: BrokerCluster, topic: str) -> list[int]:
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
    places = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in range(PARTITIONS)}
    asked = admin.list_offsets(places, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=1)
    return [future.result(DEADLINE_S).offset for future in asked.values()]


def wait_for_stable_ends(
    cluster: BrokerCluster, topic: str, offset: int, seconds: float = DEADLINE_S
) -> float:
    """G6: until nothing below `offset` is open in any partition; how long that took."""
    began_s, found = time.monotonic(), []
    while time.monotonic() < began_s + seconds:
        try:
            found = stable_ends(cluster, topic)
        except KafkaException as error:
            found = [error]
        else:
            if all(end >= offset for end in found):
                return time.monotonic() - began_s
        time.sleep(0.05)
    raise AssertionError(f"still open after {seconds} s: {found}, not {offset}")


def read(cluster: BrokerCluster, topic: str) -> list[list[str]]:
    """What a reader of committed transactions finds in each partition."""
    consumer = Consumer(
        {
            **QUIET,
            "bootstrap.servers": cluster.bootstrap,
            "group.id": "judge",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,
        }
    )
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    found: list[list[str]] = [[] for _ in range(PARTITIONS)]
    ended: set[int | None] = set()
    give_up_s = time.monotonic() + DEADLINE_S
    while len(ended) < PARTITIONS:
        assert time.monotonic() < give_up_s, f"only {ended} were read to their end"
        message = consumer.poll(1)
        if message is not None and message.error() is not None:
            ended.add(message.partition())
        elif message is not None:
            found[message.partition() or 0].append((message.value() or b"").decode())
    consumer.close()
    return found


def coordinator_of(cluster: BrokerCluster, key: str, topic: str = TRANSACTION_STATE) -> int:
    found = leaders(cluster, topic)
    return found[partition_for(key, len(found))]


def an_id(cluster: BrokerCluster, name: str, coordinator: int) -> str:
    """A transactional id that this broker coordinates."""
    candidates = (f"{name}-{number}" for number in range(1000))
    return next(one for one in candidates if coordinator_of(cluster, one) == coordinator)


def test_confluent_kafka_commits_and_aborts_in_all_partitions(three: BrokerCluster, topic: str) -> None:
    producer = producer_of(three, topic)
    for number, commits in enumerate([True, False, True, False, True]):
        producer.begin_transaction()
        spread(producer, topic, str(number))
        if commits:
            producer.commit_transaction(DEADLINE_S)
        else:
            producer.abort_transaction(DEADLINE_S)
    wait_for_stable_ends(three, topic, 10)
    assert read(three, topic) == [["0", "2", "4"]] * PARTITIONS


async def test_aiokafka_commits_and_aborts_in_all_partitions(three: BrokerCluster, topic: str) -> None:
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=three.bootstrap, transactional_id=topic)
    await producer.start()
    try:
        for number, commits in enumerate([True, False, True]):
            await producer.begin_transaction()
            for partition in range(PARTITIONS):
                await producer.send_and_wait(topic, b"%d" % number, partition=partition)
            await (producer.commit_transaction() if commits else producer.abort_transaction())
        async with producer.transaction():
            await producer.send_offsets_to_transaction({aiokafka.TopicPartition(topic, 5): 3}, topic)
    finally:
        await producer.stop()
    wait_for_stable_ends(three, topic, 6)
    assert read(three, topic) == [["0", "2"]] * PARTITIONS
    assert committed_offset(three, topic, TopicPartition(topic, 5)) == 3


def committed_offset(cluster: BrokerCluster, group: str, place: TopicPartition) -> int:
    reader = Consumer(
        {
            **QUIET,
            "bootstrap.servers": cluster.bootstrap,
            "group.id": group,
            "isolation.level": "read_committed",
        }
    )
    try:
        (found,) = reader.committed([place], DEADLINE_S)
    finally:
        reader.close()
    return int(found.offset)


def test_g5_a_successor_fences_in_all_partitions(three: BrokerCluster, topic: str) -> None:
    zombie = producer_of(three, topic)
    zombie.begin_transaction()
    spread(zombie, topic, "zombie")
    successor = producer_of(three, topic)
    with pytest.raises(KafkaException) as fenced:
        zombie.commit_transaction(DEADLINE_S)
    assert fenced.value.args[0].fatal()
    successor.begin_transaction()
    spread(successor, topic, "successor")
    successor.commit_transaction(DEADLINE_S)
    wait_for_stable_ends(three, topic, 4)
    assert read(three, topic) == [["successor"]] * PARTITIONS


async def test_g5_aiokafka_is_fenced_in_all_partitions(three: BrokerCluster, topic: str) -> None:
    settings = {"bootstrap_servers": three.bootstrap, "transactional_id": topic}
    zombie = aiokafka.AIOKafkaProducer(**settings)
    await zombie.start()
    await zombie.begin_transaction()
    for partition in range(PARTITIONS):
        await zombie.send_and_wait(topic, b"zombie", partition=partition)
    successor = aiokafka.AIOKafkaProducer(**settings)
    await successor.start()
    try:
        with pytest.raises((ProducerFenced, KafkaError)):
            await zombie.commit_transaction()
        async with successor.transaction():
            sends = [
                await successor.send(topic, b"successor", partition=partition)
                for partition in range(PARTITIONS)
            ]
            await asyncio.gather(*sends)
    finally:
        await successor.stop()
        await zombie.stop()
    wait_for_stable_ends(three, topic, 4)
    assert read(three, topic) == [["successor"]] * PARTITIONS


def test_g6_what_takes_too_long_is_aborted_in_all_partitions(three: BrokerCluster, topic: str) -> None:
    producer = producer_of(three, topic, timeout_ms=1_000)
    producer.begin_transaction()
    spread(producer, topic, "late")
    wait_for_stable_ends(three, topic, 2, seconds=11)
    assert read(three, topic) == [[]] * PARTITIONS
    with pytest.raises(KafkaException):
        producer.commit_transaction(DEADLINE_S)


@pytest.mark.parametrize("coordinator", [1, 2, 3])
def test_g7_offsets_join_a_transaction_whoever_coordinates_it(
    three: BrokerCluster, topic: str, coordinator: int
) -> None:
    """The group's coordinator asks that of the transaction, and is sent its markers."""
    producer = producer_of(three, an_id(three, topic, coordinator))
    groups = [f"{topic}-{number}" for number in range(6)]
    for offset, commits in ((5, True), (9, False)):
        producer.begin_transaction()
        spread(producer, topic, str(offset))
        for group in groups:
            consumer = Consumer({**QUIET, "bootstrap.servers": three.bootstrap, "group.id": group})
            place = [TopicPartition(topic, 0, offset)]
            producer.send_offsets_to_transaction(place, consumer.consumer_group_metadata(), DEADLINE_S)
            consumer.close()
        if commits:
            producer.commit_transaction(DEADLINE_S)
        else:
            producer.abort_transaction(DEADLINE_S)
        found = [committed_offset(three, group, TopicPartition(topic, 0)) for group in groups]
        assert found == [5] * len(groups)
    assert read(three, topic) == [["5"]] * PARTITIONS


@pytest.mark.parametrize(
    "commits", [pytest.param(True, id="commit"), pytest.param(False, id="abort", marks=pytest.mark.slow)]
)
def test_an_open_transaction_outlives_its_coordinator(
    three: BrokerCluster, topic: str, commits: bool
) -> None:
    producer = producer_of(three, topic)
    producer.begin_transaction()
    spread(producer, topic, "open")
    victim = three[coordinator_of(three, topic)]
    victim.kill()
    try:
        if commits:
            producer.commit_transaction(DEADLINE_S)
        else:
            producer.abort_transaction(DEADLINE_S)
        took_s = wait_for_stable_ends(three, topic, 2)
        print(f"decided within {took_s:.1f} s")
    finally:
        victim.start()
    assert read(three, topic) == [["open"] if commits else []] * PARTITIONS


def test_g6_holds_for_a_transaction_that_nobody_ends_while_its_coordinator_is_killed(
    three: BrokerCluster, topic: str
) -> None:
    producer = producer_of(three, topic, timeout_ms=2_000)
    producer.begin_transaction()
    spread(producer, topic, "open")
    victim = three[coordinator_of(three, topic)]
    victim.kill()
    try:
        took_s = wait_for_stable_ends(three, topic, 2, seconds=12)
        print(f"aborted after {took_s:.1f} s")
    finally:
        victim.start()
    assert read(three, topic) == [[]] * PARTITIONS


@pytest.mark.slow
def test_g6_holds_while_the_leader_of_a_partition_is_stopped(three: BrokerCluster, topic: str) -> None:
    """Whoever was asked to write markers and neither does nor refuses must not hold up its successor."""
    producer_of(three, topic)
    stopped = next(node for node in (1, 2, 3) if node != asyncio.run(three.leader()).node_id)
    coordinator = next(node for node in (1, 2, 3) if node != stopped)
    producer = producer_of(three, an_id(three, topic, coordinator), timeout_ms=2_000)
    producer.begin_transaction()
    spread(producer, topic, "open")
    time.sleep(1.5)  # the transaction times out before its partition's leader is found missing
    process = three[stopped].process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        took_s = wait_for_stable_ends(three, topic, 2, seconds=12)
        print(f"aborted after {took_s:.1f} s")
    finally:
        process.send_signal(signal.SIGCONT)
    assert read(three, topic) == [[]] * PARTITIONS
