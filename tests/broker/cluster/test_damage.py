"""Three real brokers, and bits that flip on the disk of one: never served, never elected, repaired."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.support.broker_cluster import BrokerCluster

FAST = (
    *("--set", "broker.heartbeat.interval.ms=200"),
    *("--set", "broker.session.timeout.ms=1000"),
    *("--set", "log.flush.offset.checkpoint.interval.ms=100"),
)
RECORDS_PER_ROUND = 60
SEGMENT_BYTES = 16384


class Topic:
    """`t` with one partition on three brokers, what was acknowledged there, and what the disks say."""

    def __init__(self, cluster: BrokerCluster) -> None:
        self.acknowledged: list[bytes] = []
        self._cluster = cluster
        self._admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
        self._producer = Producer(
            {"bootstrap.servers": cluster.bootstrap, "acks": "all", "linger.ms": 0, "log_level": 0,
             "enable.idempotence": True}
        )  # fmt: skip
        topic = NewTopic("t", 1, 3, config={"segment.bytes": str(SEGMENT_BYTES)})
        self._admin.create_topics([topic])["t"].result(20)
        self.until(lambda: len(self.in_sync) == 3)

    @property
    def leader(self) -> int:
        leader = self._admin.list_topics("t", timeout=10).topics["t"].partitions[0].leader
        assert leader is not None
        return leader

    @property
    def in_sync(self) -> list[int]:
        return list(self._admin.list_topics("t", timeout=10).topics["t"].partitions[0].isrs)

    def write(self) -> None:
        for _ in range(RECORDS_PER_ROUND):
            value = b"%d:" % len(self.acknowledged) + b"x" * 1000
            self._producer.produce("t", value, partition=0)
            assert self._producer.flush(30) == 0
            self.acknowledged.append(value)

    def read(self) -> list[bytes | None]:
        consumer = Consumer(
            {"bootstrap.servers": self._cluster.bootstrap, "group.id": "none", "check.crcs": True,
             "log_level": 0}
        )  # fmt: skip
        consumer.assign([TopicPartition("t", 0, 0)])
        found: list[bytes | None] = []
        deadline = time.monotonic() + 20
        while len(found) < len(self.acknowledged) and time.monotonic() < deadline:
            for message in consumer.consume(1000, 0.5):
                assert message.error() is None, message.error()
                found.append(message.value())
        consumer.close()
        return found

    def directory(self, broker_id: int) -> Path:
        return self._cluster[broker_id].data_dir / "t-0"

    def log_of(self, broker_id: int) -> bytes:
        return b"".join(path.read_bytes() for path in sorted(self.directory(broker_id).glob("*.log")))

    def set_aside(self, broker_id: int) -> list[Path]:
        return sorted(self._cluster[broker_id].data_dir.glob("t-0.*-damaged"))

    def until(self, condition: Callable[[], bool], timeout_s: float = 20) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "it did not come to that"
            time.sleep(0.05)


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damages",
    [
        [(".log", 0, False), (".log", -1, False)],
        pytest.param([(".log", 1, True), (".index", 0, False)], marks=pytest.mark.slow),
    ],
    ids=["closed and active segment after a crash", "closed segment after a clean stop, index"],
)
def test_bits_that_flip_while_a_replica_is_down(
    new_cluster: Callable[..., BrokerCluster], damages: list[tuple[str, int, bool]]
) -> None:
    cluster = new_cluster(3, *FAST).start()
    topic = Topic(cluster)
    topic.write()
    for suffix, number, cleanly in damages:
        victim = topic.leader
        before = topic.set_aside(victim)
        topic.until(lambda v=victim: _is_checkpointed(cluster[v].data_dir, len(topic.acknowledged)))  # type: ignore[misc]
        if cleanly:
            cluster[victim].stop()
        else:
            cluster[victim].kill()
        topic.until(lambda v=victim: v not in topic.in_sync)  # type: ignore[misc]
        path = sorted(topic.directory(victim).glob(f"*{suffix}"))[number]
        flip(path, path.stat().st_size // 2)
        topic.write()
        cluster.start(victim)
        topic.until(lambda: len(topic.in_sync) == 3)
        assert topic.read() == topic.acknowledged
        assert len({topic.log_of(broker_id) for broker_id in (1, 2, 3)}) == 1
        was_set_aside = topic.set_aside(victim) != before
        assert was_set_aside is (suffix == ".log"), "an index is made anew from its log"


@pytest.mark.slow
def test_a_leader_that_finds_damage_while_it_runs_resigns(new_cluster: Callable[..., BrokerCluster]) -> None:
    cluster = new_cluster(3, *FAST).start()
    topic = Topic(cluster)
    topic.write()
    victim = topic.leader
    first = min(topic.directory(victim).glob("*.log"))
    with first.open("r+b") as file:
        file.write(bytes(first.stat().st_size))
    assert topic.read() == topic.acknowledged, "from another leader, once this one has found out"
    topic.until(lambda: bool(topic.set_aside(victim)) and len(topic.in_sync) == 3)
    topic.write()
    assert topic.read() == topic.acknowledged
    assert len({topic.log_of(broker_id) for broker_id in (1, 2, 3)}) == 1


def _is_checkpointed(data_dir: Path, offset: int) -> bool:
    text = (data_dir / "recovery-point-offset-checkpoint").read_text()
    return f"t 0 {offset}" in text
