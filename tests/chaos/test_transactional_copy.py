"""Exactly-once copy under kill -9 of brokers and copiers: each record of the input has one committed copy.

Copiers read the input under read_committed, write what they read to the output and commit their offsets with
it, in transactions. Whoever is killed, and at whatever moment of that: what a read_committed reader finds at
the end is the input, once and in order.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.chaos.copier import CLIENT, Copier
from tests.support.broker_cluster import BrokerCluster
from tests.support.broker_process import BrokerProcess

PARTITIONS = 3
FAST = ("--set", "broker.heartbeat.interval.ms=200", "--set", "broker.session.timeout.ms=1000")
FEW_SHARDS = (
    *("--set", "offsets.topic.num.partitions=3"),
    *("--set", "transaction.state.log.num.partitions=3"),
)
STALL_S = 60
"""A transaction times out after 10 s, and a copier that got stuck is noticed after 25 s."""


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


def make_topics(bootstrap: str, topics: Sequence[str], replicas: int) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    config = {"min.insync.replicas": "2"} if replicas > 2 else {}
    new = [NewTopic(topic, PARTITIONS, replicas, config=config) for topic in topics]
    for made in admin.create_topics(new).values():
        made.result(30)


class Loader:
    """Writes `total` records to the input, share by share, so that copiers have work between all kills."""

    def __init__(self, bootstrap: str, topic: str, total: int, shares: int) -> None:
        self.total = total
        self._topic = topic
        self._numbers = iter(range(total))
        self._share_records = -(-total // shares)
        self._producer = Producer({**CLIENT, "bootstrap.servers": bootstrap, "enable.idempotence": True})

    def write_share(self) -> None:
        for number in islice(self._numbers, self._share_records):
            self._producer.produce(self._topic, value=b"%d" % number, partition=number % PARTITIONS)
            self._producer.poll(0)
        assert self._producer.flush(60) == 0


def nothing_copied_twice_or_never(bootstrap: str, target: str, total: int) -> None:
    copies = read_committed(bootstrap, target)
    for partition in range(PARTITIONS):
        expected = [b"%d" % number for number in range(total) if number % PARTITIONS == partition]
        assert copies[partition] == expected, f"partition {partition}: {len(copies[partition])} copies"


class Copying:
    """Copiers of one topic into another, and how long they stood still at most."""

    def __init__(self, bootstrap: str, source: str, target: str, copiers: int, batch_records: int) -> None:
        self.copiers = [Copier(bootstrap, source, target, n, batch_records) for n in range(copiers)]
        self.longest_stall_s = 0.0

    @property
    def committed(self) -> int:
        return sum(copier.committed for copier in self.copiers)

    def wait_until_some_more(self) -> None:
        before, began_s = self.committed, time.monotonic()
        while self.committed <= before:
            stalled_s = time.monotonic() - began_s
            self.longest_stall_s = max(self.longest_stall_s, stalled_s)
            assert stalled_s < STALL_S, f"stalled after {before} records: {self.gave_up[-5:]}"
            time.sleep(0.005)

    def wait_until_whole(self, bootstrap: str, target: str, total: int) -> None:
        """A commit whose copier was killed before it told of it is in nobody's count."""
        end = time.monotonic() + 120
        while self.committed < total and time.monotonic() < end:
            time.sleep(0.1)
            missing = total - self.committed
            if missing < total // 10 and sum(map(len, read_committed(bootstrap, target).values())) >= total:
                break

    @property
    def gave_up(self) -> list[str]:
        return [reason for copier in self.copiers for reason in copier.gave_up]

    @property
    def story(self) -> str:
        stuck = sum(copier.stuck for copier in self.copiers)
        return (
            f"{len(self.gave_up)} lives gave up, {stuck} got stuck, "
            f"at most {self.longest_stall_s:.1f} s without a commit"
        )


@contextmanager
def copying(
    bootstrap: str, source: str, target: str, *, copiers: int, batch_records: int
) -> Iterator[Copying]:
    work = Copying(bootstrap, source, target, copiers, batch_records)
    try:
        yield work
    finally:
        for copier in work.copiers:
            copier.kill()


def seeded() -> random.Random:
    seed = int(os.environ.get("STREAMKIT_CHAOS_SEED", random.randrange(2**32)))
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.mark.parametrize(
    "kills", [pytest.param(2, id="2-kills"), pytest.param(20, id="20-kills", marks=pytest.mark.slow)]
)
@pytest.mark.timeout(600)
def test_every_record_has_exactly_one_committed_copy(
    new_broker: Callable[..., BrokerProcess], name: str, kills: int
) -> None:
    moments = seeded()
    broker = new_broker(*FEW_SHARDS).start()
    source, target = f"{name}-in", f"{name}-out"
    total = 1_500 * (kills + 1)
    make_topics(broker.bootstrap, (source, target), replicas=1)
    loader = Loader(broker.bootstrap, source, total, shares=kills + 1)
    with copying(broker.bootstrap, source, target, copiers=1, batch_records=75) as work:
        for _ in range(kills):
            loader.write_share()
            work.wait_until_some_more()
            time.sleep(moments.uniform(0, 0.3))
            broker.kill()
            broker.start()
        loader.write_share()
        work.wait_until_whole(broker.bootstrap, target, total)
    nothing_copied_twice_or_never(broker.bootstrap, target, total)
    print(f"{kills} kills, {total} records, {work.story}")


@pytest.mark.parametrize(
    ("kills", "total", "batch_records"),
    [
        pytest.param(3, 6_000, 150, id="3-kills"),
        pytest.param(24, 100_000, 750, id="24-kills", marks=pytest.mark.slow),
    ],
)
@pytest.mark.timeout(1500)
def test_every_record_has_exactly_one_committed_copy_in_a_cluster(
    new_cluster: Callable[..., BrokerCluster], name: str, kills: int, total: int, batch_records: int
) -> None:
    """Two kills of a broker to one of a copier; a broker is back before the next one goes."""
    moments = seeded()
    cluster = new_cluster(3, *FAST, *FEW_SHARDS).start()
    bootstrap = cluster.bootstrap
    source, target = f"{name}-in", f"{name}-out"
    make_topics(bootstrap, (source, target), replicas=3)
    loader = Loader(bootstrap, source, total, shares=kills + 1)
    with copying(bootstrap, source, target, copiers=2, batch_records=batch_records) as work:
        for number in range(kills):
            loader.write_share()
            work.wait_until_some_more()
            time.sleep(moments.uniform(0, 0.3))
            if number % 3 == 2:
                copier = moments.choice(work.copiers)
                copier.kill()
                copier.start()
                continue
            victim = cluster[moments.randint(1, 3)]
            victim.kill()
            time.sleep(moments.uniform(0, 1.5))
            victim.start()
        loader.write_share()
        work.wait_until_whole(bootstrap, target, total)
    nothing_copied_twice_or_never(bootstrap, target, total)
    print(f"{kills} kills, {total} records, {work.story}")
