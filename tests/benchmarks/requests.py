"""A client that costs next to nothing: Produce requests encoded beforehand, over bare sockets.

All requests of one run have the same size, and so have their answers, so sending is a slice of a ring of
frames and counting answers is a division. One answer of each read is decoded and must be a success.
"""

from __future__ import annotations

import selectors
import socket
import time

from streamkit.protocol.framing import decode_response, encode_request
from streamkit.protocol.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from streamkit.protocol.records.record import Record, encode_batch
from tests.benchmarks.processes import Rate, Stopwatch

VERSION = 9
LEADER_ONLY = 1
SMALL_BYTES = 100


def batch(value_bytes: int) -> bytes:
    """One record."""
    return encode_batch([Record(timestamp=int(time.time() * 1000), value=bytes(value_bytes))])


def frame(topic: str, partition: int, records: bytes) -> bytes:
    """A Produce request of one batch, acks=1."""
    data = TopicProduceData(
        name=topic, partition_data=[PartitionProduceData(index=partition, records=records)]
    )
    request = ProduceRequest(acks=LEADER_ONLY, timeout_ms=30_000, topic_data=[data])
    return b"".join(encode_request(request, VERSION, correlation_id=1, client_id="bench"))


class Pipeline:
    """One connection with `in_flight` requests outstanding, to the partitions in turn."""

    def __init__(self, port: int, frames: list[bytes], in_flight: int) -> None:
        self.answered = 0
        self._size = len(frames[0])
        assert all(len(one) == self._size for one in frames)
        self._ring = memoryview(b"".join(frames) * (1 + (in_flight - 1) // len(frames) + 1))
        self._cycle = len(frames)
        self._next = 0
        self._pending = b""
        self._answer_bytes = 0
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._send(in_flight)

    def turn(self) -> None:
        """Take what answers are here and send as many requests."""
        received = self.socket.recv(1 << 18)
        assert received, "the broker closed the connection"
        pending = self._pending + received
        if not self._answer_bytes:
            self._answer_bytes = 4 + int.from_bytes(pending[:4], "big")
        count, rest = divmod(len(pending), self._answer_bytes)
        if count:
            _check(pending[4 : self._answer_bytes])
        self._pending = pending[len(pending) - rest :]
        self.answered += count
        self._send(count)

    def _send(self, count: int) -> None:
        start = self._next * self._size
        self.socket.sendall(self._ring[start : start + count * self._size])
        self._next = (self._next + count) % self._cycle


def _check(answer: bytes) -> None:
    _, response = decode_response(ProduceResponse, answer, VERSION)
    partition = response.responses[0].partition_responses[0]
    assert partition.error_code == 0, f"the broker answered {partition.error_code}"


def pipelined(
    port: int,
    pid: int,
    topic: str,
    *,
    partitions: int = 1,
    value_bytes: int = SMALL_BYTES,
    connections: int = 4,
    in_flight: int = 64,
    seconds: float = 3.0,
) -> Rate:
    """Answered requests a second, after a quarter of the time to warm up."""
    records = batch(value_bytes)
    frames = [frame(topic, partition, records) for partition in range(partitions)]
    pipelines = [Pipeline(port, frames, in_flight) for _ in range(connections)]
    _drive(pipelines, seconds / 4)
    before = sum(one.answered for one in pipelines)
    watch = Stopwatch(pid)
    _drive(pipelines, seconds)
    rate = watch.rate(sum(one.answered for one in pipelines) - before)
    for one in pipelines:
        one.socket.close()
    return rate


def _drive(pipelines: list[Pipeline], seconds: float) -> None:
    with selectors.DefaultSelector() as selector:
        for one in pipelines:
            selector.register(one.socket, selectors.EVENT_READ, one)
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline:
            for key, _ in selector.select(1.0):
                key.data.turn()


def round_trips(port: int, topic: str, count: int) -> tuple[float, float]:
    """(p50, p99) milliseconds of one Produce request of a small record at a time."""
    request = frame(topic, 0, batch(SMALL_BYTES))
    times = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(count):
            began = time.perf_counter()
            connection.sendall(request)
            answer = connection.recv(65536)
            times.append(time.perf_counter() - began)
    _check(answer[4:])
    times.sort()
    return times[count // 2] * 1000, times[count * 99 // 100] * 1000


def first_acknowledged(port: int, topic: str) -> None:
    """One Produce request that succeeds."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(frame(topic, 0, batch(SMALL_BYTES)))
        _check(connection.recv(65536)[4:])
