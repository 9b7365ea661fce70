"""SIGTERM under load: what was appended is answered, what was answered is there, the next start is fast."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable

import pytest

from streamkit.protocol.framing import decode_response
from streamkit.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from streamkit.protocol.messages.produce import ProduceResponse
from streamkit.protocol.records.batch import batches
from streamkit.protocol.records.record import Record, decode_records, encode_batch
from tests.broker.server.test_input_security import Client, create, produce, wait_until
from tests.support.broker_process import BrokerProcess

WINDOW = 20
"""Requests that a producer has in flight."""


class Producer(threading.Thread):
    """Keeps a window of requests in flight until its connection ends; knows what was acknowledged."""

    def __init__(self, port: int, topic: str) -> None:
        super().__init__(daemon=True)
        self.topic = topic
        self.acknowledged: list[bytes] = []
        self.refused = 0
        self._client = Client(port)

    def run(self) -> None:
        sent = 0
        try:
            while True:
                while sent < len(self.acknowledged) + self.refused + WINDOW:
                    value = b"%s-%d" % (self.topic.encode(), sent)
                    batch = encode_batch([Record(timestamp=1_000, value=value)])
                    self._client.send(produce(self.topic, batch), 9)
                    sent += 1
                self._receive()
        except OSError:
            pass
        try:
            while True:  # what was answered before the end is still to be read
                self._receive()
        except OSError:
            self._client.close()

    def _receive(self) -> None:
        _, response = decode_response(ProduceResponse, self._client.frame(), 9)
        if response.responses[0].partition_responses[0].error_code:
            self.refused += 1
        else:
            self.acknowledged.append(b"%s-%d" % (self.topic.encode(), len(self.acknowledged) + self.refused))


def values(client: Client, topic: str) -> list[bytes | None]:
    found: list[bytes | None] = []
    offset = 0
    while True:
        wanted = FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 20)
        request = FetchRequest(max_bytes=1 << 20, topics=[FetchTopic(topic=topic, partitions=[wanted])])
        data = client.ask(request, 11).responses[0].partitions[0]
        assert data.error_code == 0
        records = [record for _, batch in batches(data.records or b"") for record in decode_records(batch)]
        if not records:
            return found
        found += [record.value for record in records]
        offset = records[-1].offset + 1


@pytest.mark.parametrize("flush_mode", ["durable", "relaxed"])
def test_sigterm_under_load_loses_nothing_acknowledged(
    new_broker: Callable[..., BrokerProcess], flush_mode: str
) -> None:
    broker = new_broker("--set", f"streamkit.flush.mode={flush_mode}").start()
    topics = [f"t{n}" for n in range(4)]
    client = Client(broker.port)
    for topic in topics:
        create(client, topic, {})
    client.close()
    producers = [Producer(broker.port, topic) for topic in topics]
    for producer in producers:
        producer.start()
    wait_until(lambda: all(len(producer.acknowledged) > 100 for producer in producers))
    assert broker.stop() == 0
    for producer in producers:
        producer.join(20)
        assert not producer.refused
    assert (broker.data_dir / ".kafka_cleanshutdown").exists()
    begun_s = time.monotonic()
    broker.start()
    assert time.monotonic() - begun_s < 5
    assert not any("offline" in line or "recover" in line for line in broker.log)
    client = Client(broker.port)
    for producer in producers:
        there = values(client, producer.topic)
        assert there[: len(producer.acknowledged)] == producer.acknowledged
        assert len(there) <= len(producer.acknowledged) + WINDOW
    client.close()


def test_a_second_sigterm_does_not_wait(new_broker: Callable[..., BrokerProcess]) -> None:
    broker = new_broker().start()
    assert broker.process is not None
    process = broker.process
    process.send_signal(signal.SIGSTOP)  # so that both are there when it looks
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    assert process.wait(10) == 130
