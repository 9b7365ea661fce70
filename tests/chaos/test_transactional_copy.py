"""Exactly-once copy while the broker is killed: each record of the input has one committed copy, in order.

A copier reads the input under read_committed, writes what it read to the output and commits its offsets with
it, in transactions. The broker is killed at any moment of that; a copier that cannot go on gives way to the
next one, which takes over the transactional id. What a read_committed reader finds at the end is the judge.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.support.broker_process import BrokerProcess

PARTITIONS = 2
BATCH = 75
TIMEOUT_S = 20
CLIENT = {
    "reconnect.backoff.max.ms": 200,
    "log_level": 0,
    # librdkafka 2.16 forgets a single broker that is down and then waits for ever for its group coordinator.
    "metadata.recovery.strategy": "none",
}


class Copier:
    """Copies until it is told to stop; each life is a fresh consumer and a fresh producer."""

    def __init__(self, bootstrap: str, source: str, target: str) -> None:
        self.bootstrap, self.source, self.target = bootstrap, source, target
        self.stopping = threading.Event()
        self.committed = 0
        self.aborted = 0
        self.lives = 0
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self.stopping.is_set():
            self.lives += 1
            consumer = Consumer(
                {
                    **CLIENT,
                    "bootstrap.servers": self.bootstrap,
                    "group.id": f"copy-{self.target}",
                    "auto.offset.reset": "earliest",
                    "enable.auto.commit": False,
                    "isolation.level": "read_committed",
                    "session.timeout.ms": 6_000,
                }
            )
            try:
                self._live(consumer)
            except KafkaException:
                self.aborted += 1
            finally:
                consumer.close()

    def _live(self, consumer: Consumer) -> None:
        producer = Producer(
            {
                **CLIENT,
                "bootstrap.servers": self.bootstrap,
                "transactional.id": f"copier-{self.target}",
                "transaction.timeout.ms": 10_000,
                "linger.ms": 2,
            }
        )
        producer.init_transactions(TIMEOUT_S)
        consumer.subscribe([self.source])
        while not self.stopping.is_set():
            batch = [m for m in consumer.consume(BATCH, timeout=0.2) if m.error() is None]
            if not batch:
                continue
            producer.begin_transaction()
            positions: dict[int, int] = {}
            for message in batch:
                value, partition, offset = message.value(), message.partition(), message.offset()
                assert partition is not None and offset is not None
                producer.produce(self.target, value=value, partition=partition)
                positions[partition] = offset + 1
            places = [TopicPartition(self.source, p, o) for p, o in positions.items()]
            producer.send_offsets_to_transaction(places, consumer.consumer_group_metadata(), TIMEOUT_S)
            producer.commit_transaction(TIMEOUT_S)
            self.committed += len(batch)


def read_committed(bootstrap: str, topic: str) -> dict[int, list[bytes]]:
    """What a reader of committed transactions finds, to the last stable offset."""
    found: dict[int, list[bytes]] = {}
    for partition in range(PARTITIONS):
        consumer = Consumer(
            {
                **CLIENT,
                "bootstrap.servers": bootstrap,
                "group.id": "judge",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
            }
        )
        consumer.assign([TopicPartition(topic, partition, 0)])
        rows: list[bytes] = []
        end = time.monotonic() + 30
        while time.monotonic() < end:
            message = consumer.poll(1)
            if message is None:
                continue
            if message.error() is not None:
                break  # the end of the partition
            rows.append(message.value() or b"")
        consumer.close()
        found[partition] = rows
    return found


@pytest.mark.parametrize(
    "kills", [pytest.param(2, id="2-kills"), pytest.param(20, id="20-kills", marks=pytest.mark.slow)]
)
@pytest.mark.timeout(600)
def test_every_record_has_exactly_one_committed_copy(
    new_broker: Callable[..., BrokerProcess], name: str, kills: int
) -> None:
    seed = int(os.environ.get("STREAMKIT_CHAOS_SEED", random.randrange(2**32)))
    print(f"seed {seed}")
    moments = random.Random(seed)
    broker = new_broker(
        *("--set", "offsets.topic.num.partitions=2", "--set", "transaction.state.log.num.partitions=2")
    ).start()
    source, target = f"{name}-in", f"{name}-out"
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    for made in admin.create_topics([NewTopic(one, PARTITIONS, 1) for one in (source, target)]).values():
        made.result(30)
    total = 1_500 * (kills + 1)
    loader = Producer({**CLIENT, "bootstrap.servers": broker.bootstrap})
    for number in range(total):
        loader.produce(source, value=b"%d" % number, partition=number % PARTITIONS)
        loader.poll(0)
    assert loader.flush(30) == 0
    copier = Copier(broker.bootstrap, source, target)
    copier.thread.start()
    try:
        for _ in range(kills):
            before = copier.committed
            end = time.monotonic() + 60
            while copier.committed <= before and time.monotonic() < end:
                time.sleep(0.005)
            time.sleep(moments.uniform(0, 0.3))
            broker.kill()
            broker.start()
        end = time.monotonic() + 120
        while copier.committed < total and time.monotonic() < end:
            time.sleep(0.1)
            if sum(map(len, read_committed(broker.bootstrap, target).values())) >= total:
                break
    finally:
        copier.stopping.set()
        copier.thread.join()
    copies = read_committed(broker.bootstrap, target)
    for partition in range(PARTITIONS):
        expected = [b"%d" % number for number in range(total) if number % PARTITIONS == partition]
        assert copies[partition] == expected, f"partition {partition}: {len(copies[partition])} copies"
    print(f"{kills} kills, {total} records, {copier.lives} lives of the copier, {copier.aborted} gave up")
