"""Share groups as Kafka's own consumer and tools know them (KIP-932)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Producer, ShareConsumer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.compatibility.java.kafka_tools import run
from tests.support.broker_process import BrokerProcess

pytestmark = pytest.mark.compat_java

CONFIGS = "kafka.admin.ConfigCommand"
CONSOLE = "org.apache.kafka.tools.consumer.ConsoleShareConsumer"
GROUPS = "org.apache.kafka.tools.consumer.group.ShareGroupCommand"
RECORDS = 90
DEADLINE_S = 30


@pytest.fixture
def topic(broker: BrokerProcess, name: str) -> str:
    """Three partitions with records, and a group of the topic's name that begins with the first of them."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(name, 3, 1)])[name].result(10)
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for n in range(RECORDS):
        producer.produce(name, value=b"value-%d" % n, partition=n % 3)
    assert producer.flush(20) == 0
    setting = ("--alter", "--group", name, "--add-config", "share.auto.offset.reset=earliest")
    run(CONFIGS, "--bootstrap-server", broker.bootstrap, *setting)
    return name


@contextmanager
def member(broker: BrokerProcess, topic: str) -> Iterator[None]:
    """Somebody in the group, who has taken everything."""
    settings = {"bootstrap.servers": broker.bootstrap, "group.id": topic, "client.id": "someone"}
    consumer = ShareConsumer({**settings, "log_level": 0})
    try:
        consumer.subscribe([topic])
        deadline, taken = time.monotonic() + DEADLINE_S, 0
        while taken < RECORDS and time.monotonic() < deadline:
            taken += len(consumer.poll(0.2) or [])
        assert taken == RECORDS
        consumer.commit_sync()
        yield
    finally:
        consumer.close()


def row(said: str, *cells: str) -> bool:
    """Whether a line begins with these cells, each a pattern."""
    line = r"\s+".join(cells)
    return re.search(rf"^{line}(\s|$)", said, re.M) is not None


def test_the_java_consumer(broker: BrokerProcess, topic: str) -> None:
    said = run(
        CONSOLE,
        *("--bootstrap-server", broker.bootstrap, "--group", topic, "--topic", topic),
        *("--timeout-ms", "20000", "--max-messages", RECORDS),
        succeeds=False,
    )
    values = re.findall(r"^value-\d+$", said, re.MULTILINE)
    assert len(values) == len(set(values)) == RECORDS, said[-3000:]


def test_the_java_tool_describes(broker: BrokerProcess, topic: str) -> None:
    server = ("--bootstrap-server", broker.bootstrap)
    group = (*server, "--describe", "--group", topic)
    with member(broker, topic):
        assert row(run(GROUPS, *server, "--list", "--state"), topic, "Stable")
        assert row(run(GROUPS, *group, "--state"), topic, r"\S+", r"\(\d+\)", "Stable", "1")
        members = run(GROUPS, *group, "--members", "--verbose")
        assert row(members, topic, r"\S+", "/127.0.0.1", "someone", "3", r"\d+", f"{topic}:0,1,2"), members
        offsets = run(GROUPS, *group, "--offsets")
        # As in Kafka a start offset is written down with the change of state after the one that moved it.
        assert all(row(offsets, topic, topic, str(n), r"(0|30)", "0") for n in range(3)), offsets


def test_the_java_tool_resets_and_deletes(broker: BrokerProcess, topic: str) -> None:
    server = ("--bootstrap-server", broker.bootstrap)
    group = ("--group", topic)
    with member(broker, topic):
        refused = run(GROUPS, *server, "--delete", *group, succeeds=False)
        assert "is not EMPTY" in refused, refused
    to_begin = ("--reset-offsets", *group, "--topic", topic, "--to-earliest", "--execute")
    reset = run(GROUPS, *server, *to_begin)
    assert all(row(reset, topic, topic, str(n), "0") for n in range(3)), reset
    with member(broker, topic):
        pass
    deleted = run(GROUPS, *server, "--delete-offsets", *group, "--topic", topic)
    assert row(deleted, topic, "Successful"), deleted
    with member(broker, topic):
        pass
    assert "was successful" in run(GROUPS, *server, "--delete", *group)
    assert not row(run(GROUPS, *server, "--list"), topic)
    with member(broker, topic):
        pass
