"""Kafka and our broker, started once for all scenarios and warmed up alike."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compatibility.java.kafka_tools import is_installable
from tests.differential.judge import Judge
from tests.differential.known_differences import KnownDifferences
from tests.support.apache_kafka import KafkaNode
from tests.support.broker_cluster import free_ports
from tests.support.broker_process import BrokerProcess


def words(*lines: str) -> tuple[str, ...]:
    return tuple(word for line in lines for word in ("--set", line))


IN_COMMON = words(
    "offsets.topic.num.partitions=4",
    "transaction.state.log.num.partitions=4",
    "share.coordinator.state.topic.num.partitions=4",
    "group.initial.rebalance.delay.ms=0",
    "group.min.session.timeout.ms=1000",
)
"""Given to every node of whatever is compared."""
SETTINGS = IN_COMMON + words(
    "offsets.topic.replication.factor=1",
    "transaction.state.log.replication.factor=1",
    "transaction.state.log.min.isr=1",
    "share.coordinator.state.topic.replication.factor=1",
    "share.coordinator.state.topic.min.isr=1",
)
"""Given to both."""


@pytest.fixture(scope="session")
def needs_kafka() -> None:
    if not is_installable():
        pytest.skip("Apache Kafka needs a JDK, and Maven to fetch it (Debian: default-jdk-headless, maven)")


@pytest.fixture(scope="session")
def judge(needs_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    kafka = KafkaNode(tmp_path_factory.mktemp("kafka"), *SETTINGS)
    ours = our_broker(tmp_path_factory.mktemp("ours"))
    try:
        kafka.start()
        ours.start()
        both = Judge(kafka.port, ours.port, KnownDifferences.read())
        asyncio.run(both.warm_up())
        yield both
    finally:
        ours.stop()
        kafka.stop()


def our_broker(data_dir: Path) -> BrokerProcess:
    """Not started. A voter of its own, as Kafka's node is: it listens as a controller too."""
    (port,) = free_ports(1)
    quorum = ("--controller-listen", f"127.0.0.1:{port}", "--voters", f"1@127.0.0.1:{port}")
    return BrokerProcess(data_dir, *quorum, *SETTINGS)
