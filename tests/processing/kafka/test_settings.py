"""Which librdkafka settings reach which client, and which are the worker's own."""

from __future__ import annotations

import pytest

from streamkit.errors import UsageError
from streamkit.processing.kafka.settings import check_settings, consumer_settings, producer_settings

USER = {"security.protocol": "SASL_SSL", "fetch.min.bytes": 7, "compression.type": "zstd", "linger.ms": 50}


def test_each_side_gets_its_own_and_what_belongs_to_both() -> None:
    consumer = consumer_settings("b:1", "app", USER)
    producer = producer_settings("b:1", USER)
    assert consumer["fetch.min.bytes"] == 7 and "fetch.min.bytes" not in producer
    assert (producer["compression.type"], producer["linger.ms"]) == ("zstd", 50)
    assert "compression.type" not in consumer
    assert consumer["security.protocol"] == producer["security.protocol"] == "SASL_SSL"
    assert consumer["group.id"] == "app" and producer["enable.idempotence"] is True


@pytest.mark.parametrize("name", ["enable.auto.commit", "partition.assignment.strategy", "group.id"])
def test_what_would_break_a_promise_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        check_settings({name: "x"})
