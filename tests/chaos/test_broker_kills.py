"""kill -9 of the broker under load: nothing acknowledged is lost, nothing is written twice, groups resume.

An idempotent producer and a committing group member run through every kill. Afterwards the partitions are
read by a client that saw none of it, and compared with what was acknowledged.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from itertools import count

import pytest
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.support.broker_process import BrokerProcess

PARTITIONS = 3
KEYS = 8


class Load:
    """One idempotent producer; `acknowledged[value] = (partition, offset)`."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.topic = topic
        self.acknowledged: dict[bytes, tuple[int, int]] = {}
        self.failed: list[object] = []
        self.stopping = threading.Event()
        self.producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "linger.ms": 2,
                "message.timeout.ms": 120_000,
                "reconnect.backoff.max.ms": 200,
            }
        )
        self.thread = threading.Thread(target=self._run)

    def _delivered(self, error: object, message: Message) -> None:
        if error is not None:
            self.failed.append(error)
            return
        value = message.value()
        assert value is not None
        self.acknowledged[value] = (message.partition(), message.offset())

    def _run(self) -> None:
        for number in count():
            if self.stopping.is_set():
                break
            key = b"k%d" % (number % KEYS)
            while True:
                try:
                    self.producer.produce(
                        self.topic, key=key, value=b"%d" % number, on_delivery=self._delivered
                    )
                    break
                except BufferError:
                    self.producer.poll(0.05)
            self.producer.poll(0)
            if number % 20 == 0:
                time.sleep(0.002)

    def finish(self) -> None:
        self.stopping.set()
        self.thread.join()
        assert self.producer.flush(120) == 0
        assert not self.failed, self.failed[:3]


class Group:
    """One group member that commits synchronously; `committed[partition]` is what the broker acknowledged."""

    def __init__(self, bootstrap: str, topic: str, group: str) -> None:
        self.topic = topic
        self.settings = {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6_000,
            "reconnect.backoff.max.ms": 200,
        }
        self.committed: dict[int, int] = {}
        self.consumed = 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        consumer = Consumer(self.settings)
        consumer.subscribe([self.topic])
        while not self.stopping.is_set():
            batch = [m for m in consumer.consume(500, timeout=0.1) if m.error() is None]
            if not batch:
                continue
            self.consumed += len(batch)
            try:
                done = consumer.commit(asynchronous=False)
            except KafkaException:
                continue
            for entry in done or []:
                if entry.error is None and entry.offset >= 0:
                    self.committed[entry.partition] = max(
                        self.committed.get(entry.partition, 0), entry.offset
                    )
        consumer.close()

    def finish(self) -> None:
        self.stopping.set()
        self.thread.join()


def read_all(bootstrap: str, topic: str) -> dict[int, list[Message]]:
    """Every record of every partition, as a client that was not there sees them."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "judge", "enable.auto.commit": False})
    found: dict[int, list[Message]] = {}
    for partition in range(PARTITIONS):
        place = TopicPartition(topic, partition, 0)
        low, high = consumer.get_watermark_offsets(place, timeout=30)
        assert low == 0
        consumer.assign([place])
        rows: list[Message] = []
        while not rows or rows[-1].offset() < high - 1:
            batch = consumer.consume(10_000, timeout=10)
            assert batch, f"partition {partition} gave {len(rows)} of {high} records"
            assert all(m.error() is None for m in batch)
            rows += batch
        found[partition] = rows
    consumer.close()
    return found


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.02)


@pytest.mark.parametrize(
    "kills", [pytest.param(3, id="3-kills"), pytest.param(20, id="20-kills", marks=pytest.mark.slow)]
)
@pytest.mark.timeout(600)
def test_kill_9_of_the_broker_loses_and_duplicates_nothing(
    new_broker: Callable[..., BrokerProcess], name: str, kills: int
) -> None:
    seed = int(os.environ.get("STREAMKIT_CHAOS_SEED", random.randrange(2**32)))
    print(f"seed {seed}")
    moments = random.Random(seed)
    broker = new_broker().start()
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result(30)
    load = Load(broker.bootstrap, name)
    group = Group(broker.bootstrap, name, f"g-{name}")
    load.thread.start()
    group.thread.start()
    try:
        for kill in range(kills):
            acknowledged, consumed = len(load.acknowledged), group.consumed
            wait_for(
                lambda a=acknowledged: len(load.acknowledged) > a + 100,  # type: ignore[misc]
                f"writes go on before kill {kill + 1}",
            )
            if kill % 4 == 3:
                wait_for(lambda c=consumed: group.consumed > c, "the group goes on")  # type: ignore[misc]
            time.sleep(moments.uniform(0, 1))
            broker.kill()
            broker.start()
    finally:
        load.stopping.set()
        group.stopping.set()
    load.finish()
    wait_for(lambda: not group.thread.is_alive(), "the group member leaves")
    group.finish()

    rows = read_all(broker.bootstrap, name)
    where = {(p, m.offset()): m.value() for p, messages in rows.items() for m in messages}
    lost = [v for v, place in load.acknowledged.items() if where.get(place) != v]
    assert not lost, f"{len(lost)} acknowledged records are not where they were acknowledged: {lost[:5]}"
    values = [m.value() for messages in rows.values() for m in messages]
    assert len(values) == len(set(values)), "a record was written twice"
    for messages in rows.values():
        for key in {m.key() for m in messages}:
            numbers = [int(m.value() or b"") for m in messages if m.key() == key]
            assert numbers == sorted(numbers), "an idempotent producer's records keep their order"

    assert group.committed, "the group committed during the run"
    survivor = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": f"g-{name}"})
    places = [TopicPartition(name, p) for p in group.committed]
    for entry in survivor.committed(places, timeout=30):
        assert entry.offset >= group.committed[entry.partition], "a commit was acknowledged and lost"
    survivor.close()
    print(
        f"{kills} kills: {len(load.acknowledged)} acknowledged, {len(values)} stored, 0 lost, 0 duplicated; "
        f"the group consumed {group.consumed}, commits {sorted(group.committed.items())}"
    )
