"""Queues as Kafka's own share consumer knows them (KIP-932)."""

from __future__ import annotations

import re

import pytest

from tests.compatibility.java.kafka_tools import run
from tests.support.broker_process import BrokerProcess
from tests.support.share_members import Queue

pytestmark = pytest.mark.compat_java

CONSOLE = "org.apache.kafka.tools.consumer.ConsoleShareConsumer"
RECORDS = 100


def consume(queue: Queue, *how: str) -> list[str]:
    """What the tool is given before nothing comes for a while."""
    said = run(
        CONSOLE,
        *("--bootstrap-server", queue.bootstrap, "--group", queue.name, "--topic", queue.name),
        *("--timeout-ms", "6000", "--max-messages", RECORDS, *how),
        succeeds=False,
    )
    found = re.findall(r"^value-\d+$", said, re.MULTILINE)
    assert "ERROR" not in said or found, said[-3000:]
    return found


def test_the_java_share_consumer(broker: BrokerProcess, name: str) -> None:
    """Rejected records are not delivered again, released ones are, accepted ones are not."""
    queue = Queue(broker.bootstrap, name, partitions=3)
    values = [f"value-{n}" for n in range(RECORDS)]
    queue.put(*values)
    assert sorted(consume(queue, "--release")) == sorted(values)
    assert sorted(consume(queue)) == sorted(values)
    assert consume(queue) == []
    queue.put(*values)
    assert sorted(consume(queue, "--reject")) == sorted(values)
    assert consume(queue) == []
