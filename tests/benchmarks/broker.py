"""The broker's rates: produce and fetch through librdkafka, and single pipelined requests on a raw socket."""

from __future__ import annotations

import os
import socket
import struct
import time
from typing import NamedTuple

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streamkit.protocol.framing import encode_request
from streamkit.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from streamkit.protocol.records.batch import encode_batch
from streamkit.protocol.records.record import Record
from tests.support.broker_process import BrokerProcess

PIPELINE = 500
TICKS = os.sysconf("SC_CLK_TCK")


class Rate(NamedTuple):
    """Operations a second of wall time, and a second of the broker's processor time."""

    per_second: float
    per_cpu_second: float


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Stopwatch:
    """Wall time here and processor time in the broker, between construction and `rate`."""

    def __init__(self, broker: BrokerProcess) -> None:
        assert broker.process is not None
        self.pid = broker.process.pid
        self.cpu = cpu_seconds(self.pid)
        self.begin = time.perf_counter()

    def rate(self, operations: int) -> Rate:
        wall = time.perf_counter() - self.begin
        return Rate(operations / wall, operations / max(cpu_seconds(self.pid) - self.cpu, 1 / TICKS))


def create(broker: BrokerProcess, topic: str, partitions: int = 1) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(30)


def produce(broker: BrokerProcess, topic: str, size: int, count: int, **settings: object) -> Rate:
    """`count` records of `size` bytes through one librdkafka producer, acks=all, all acknowledged."""
    failed: list[object] = []
    producer = Producer(
        {
            "bootstrap.servers": broker.bootstrap,
            "linger.ms": 5,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 1_048_576,
            **settings,
        }
    )
    value = os.urandom(size)
    watch = Stopwatch(broker)
    for number in range(count):
        producer.produce(
            topic, value, on_delivery=None if number % 1000 else lambda e, _: e and failed.append(e)
        )
        if number % 1000 == 0:
            producer.poll(0)
    assert producer.flush(120) == 0
    assert not failed, failed[:3]
    return watch.rate(count)


def fetch(broker: BrokerProcess, topic: str, count: int) -> Rate:
    """`count` records of partition 0 through one librdkafka consumer."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap,
            "group.id": "bench",
            "enable.auto.commit": False,
            "queued.min.messages": 1_000_000,
            "queued.max.messages.kbytes": 262_144,
            "fetch.queue.backoff.ms": 1,
        }
    )
    watch = Stopwatch(broker)
    consumer.assign([TopicPartition(topic, 0, 0)])
    seen = 0
    while seen < count:
        batch = consumer.consume(10_000, timeout=10)
        assert batch, f"only {seen} of {count}"
        seen += len(batch)
    rate = watch.rate(count)
    consumer.close()
    return rate


def pipelined(broker: BrokerProcess, topic: str, partitions: int, count: int) -> Rate:
    """`count` Produce requests of one 100-byte record each, `PIPELINE` outstanding on one connection."""
    batch = encode_batch([Record(offset=0, timestamp=0, key=None, value=bytes(100), headers=())])
    frames = []
    for partition in range(partitions):
        request = ProduceRequest(
            acks=1,
            timeout_ms=10_000,
            topic_data=[
                TopicProduceData(
                    name=topic, partition_data=[PartitionProduceData(index=partition, records=batch)]
                )
            ],
        )
        frames.append(b"".join(encode_request(partition, request, 9, client_id="bench")))
    sent = received = 0
    with socket.create_connection(("127.0.0.1", broker.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        watch = Stopwatch(broker)
        pending = bytearray()
        while received < count:
            window = min(PIPELINE - (sent - received), count - sent)
            if window >= PIPELINE // 2 or (sent + window == count and window):
                connection.sendall(b"".join(frames[(sent + n) % partitions] for n in range(window)))
                sent += window
            pending += connection.recv(1 << 18)
            at = 0
            while len(pending) - at >= 4:
                size = struct.unpack_from(">i", pending, at)[0] + 4
                if len(pending) - at < size:
                    break
                at += size
                received += 1
            del pending[:at]
        return watch.rate(count)


def round_trips(broker: BrokerProcess, topic: str, count: int) -> tuple[float, float]:
    """(p50, p99) milliseconds of one 100-byte Produce request at a time."""
    batch = encode_batch([Record(offset=0, timestamp=0, key=None, value=bytes(100), headers=())])
    request = ProduceRequest(
        acks=1,
        timeout_ms=10_000,
        topic_data=[
            TopicProduceData(name=topic, partition_data=[PartitionProduceData(index=0, records=batch)])
        ],
    )
    frame = b"".join(encode_request(0, request, 9, client_id="bench"))
    times = []
    with socket.create_connection(("127.0.0.1", broker.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(count):
            begin = time.perf_counter()
            connection.sendall(frame)
            connection.recv(65536)
            times.append(time.perf_counter() - begin)
    times.sort()
    return times[count // 2] * 1000, times[count * 99 // 100] * 1000
