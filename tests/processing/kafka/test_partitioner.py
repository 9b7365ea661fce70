"""Keys land where Java's, kafka-python's and our own pure murmur2 say, for a thousand keys."""

from __future__ import annotations

import random

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from kafka.partitioner.default import murmur2 as kafka_python_murmur2

from streamkit.processing.kafka.settings import producer_settings
from streamkit.processing.kafka.sink import KafkaSink
from streamkit.processing.partitioner import partition_for
from streamkit.runtime.os.clock import SystemClock
from tests.support.broker_process import BrokerProcess
from tests.support.worker_process import WAIT_S, Outside

PARTITIONS = 7


async def test_murmur2_random_is_java_s(broker: BrokerProcess, name: str) -> None:
    draw = random.Random(7)
    keys = {draw.randbytes(draw.randrange(0, 40)) for _ in range(1_000)}
    Outside(broker.bootstrap).create(name, PARTITIONS)
    sink = KafkaSink(producer_settings(broker.bootstrap, {}), SystemClock(), {})
    sink.send(name, [(b"v", key, 1, None, None) for key in sorted(keys)])
    await sink.flush()
    found = _places(broker.bootstrap, name, len(keys))
    assert found == {key: (kafka_python_murmur2(key) & 0x7FFFFFFF) % PARTITIONS for key in keys}
    assert found == {key: partition_for(key, PARTITIONS) for key in keys}


def _places(bootstrap: str, topic: str, count: int) -> dict[bytes, int]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader"})
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(PARTITIONS)])
    found = {}
    while len(found) < count:
        message = consumer.poll(WAIT_S)
        assert message is not None and message.error() is None
        found[message.key() or b""] = message.partition()
    consumer.close()
    return found
