"""Groups of the new protocol as Kafka's own consumer and tools know them (KIP-848)."""

from __future__ import annotations

import re

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.compatibility.java.kafka_tools import run
from tests.support.broker_process import BrokerProcess

pytestmark = pytest.mark.compat_java

CONSOLE = "org.apache.kafka.tools.consumer.ConsoleConsumer"
GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
RECORDS = 100


@pytest.fixture
def topic(broker: BrokerProcess, name: str) -> str:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(name, 3, 1)])[name].result(10)
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for n in range(RECORDS):
        producer.produce(name, value=b"value-%d" % n, partition=n % 3)
    assert producer.flush(20) == 0
    return name


@pytest.mark.parametrize("how", ["--topic", "--include"])
def test_the_java_consumer(broker: BrokerProcess, topic: str, name: str, how: str) -> None:
    """By name and by pattern; a second one goes on where the first committed."""
    for count in (RECORDS, 0):
        said = run(
            CONSOLE,
            *("--bootstrap-server", broker.bootstrap, "--group", name, how, topic, "--from-beginning"),
            *("--command-property", "group.protocol=consumer", "--timeout-ms", "8000"),
            *("--max-messages", RECORDS),
            succeeds=False,
        )
        values = set(re.findall(r"^value-\d+$", said, re.MULTILINE))
        assert len(values) == count, said[-3000:]


def test_the_java_tools(broker: BrokerProcess, topic: str, name: str) -> None:
    settings = {"bootstrap.servers": broker.bootstrap, "group.id": name, "group.protocol": "consumer"}
    consumer = Consumer({**settings, "auto.offset.reset": "earliest", "client.id": "someone"})
    consumer.subscribe([topic])
    while len(consumer.assignment()) < 3:
        consumer.poll(0.1)
    try:
        server = ("--bootstrap-server", broker.bootstrap)
        group = (*server, "--describe", "--group", name, "--verbose")
        assert re.search(
            rf"^{name}\s+Consumer\s+Stable", run(GROUPS, *server, "--list", "--type", "--state"), re.M
        )
        state = run(GROUPS, *group, "--state")
        assert re.search(rf"^{name}\s.*\suniform\s+Stable\s+1\s+1\s+1\s*$", state, re.M), state
        members = run(GROUPS, *group, "--members")
        assert re.search(rf"^{name}\s.*someone.*{topic}:0,1,2", members, re.M), members
    finally:
        consumer.close()
