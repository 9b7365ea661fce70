"""The least that a broker must do for a Produce request: receive it, check its CRC-32C, write it, answer.

It stands beside the broker on equal terms. The same client sends both the same requests. Both cut their log
into files of the same size, make each durable behind the writer's back once it is full, and unlink the oldest
beyond the same total: so both live on the same few hundred megabytes of pages, which the kernel hands back
and forth. On a virtual machine the first touch of a page costs ten times the second, and whoever writes into
fresh pages measures nothing else.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import NamedTuple

from streamkit.protocol.framing import encode_response
from streamkit.protocol.messages.produce import (
    PartitionProduceResponse,
    ProduceResponse,
    TopicProduceResponse,
)
from streamkit.protocol.records.crc import crc32c
from tests.benchmarks import requests

CRC_AT, CRC_END = 17, 21


class Kept(NamedTuple):
    """How a log is cut into files, and how much of it stays."""

    segment_bytes: int
    retained_bytes: int


class Bare(NamedTuple):
    port: int
    pid: int


@contextmanager
def running(topic: str, value_bytes: int, kept: Kept, below: str | None) -> Iterator[Bare]:
    """A bare server in a process of its own, for as long as the block runs; its files are `below`."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory(dir=below) as directory:
        process = context.Process(target=_serve, args=(theirs, directory, topic, value_bytes, kept))
        process.start()
        assert process.pid is not None
        try:
            yield Bare(ours.recv(), process.pid)
        finally:
            process.kill()
            process.join()


def _serve(ready: Connection, directory: str, topic: str, value_bytes: int, kept: Kept) -> None:
    batch = requests.batch(value_bytes)
    request = requests.frame(topic, 0, batch)
    start = request.index(batch)
    answer = _success(topic)
    log = RollingLog(directory, kept)
    with socket.create_server(("127.0.0.1", 0)) as server:
        ready.send(server.getsockname()[1])
        while True:
            connection, _ = server.accept()
            with connection, suppress(ConnectionError):
                _receive_check_write(connection, len(request), slice(start, start + len(batch)), log, answer)


def _receive_check_write(
    connection: socket.socket, size: int, batch_at: slice, log: RollingLog, answer: bytes
) -> None:
    frame = memoryview(bytearray(size))
    batch = frame[batch_at]
    while True:
        filled = 0
        while filled < size:
            received = connection.recv_into(frame[filled:])
            if not received:
                return
            filled += received
        assert crc32c(batch[CRC_END:]) == int.from_bytes(batch[CRC_AT:CRC_END], "big")
        log.write(batch)
        connection.sendall(answer)


class RollingLog:
    """Append-only files, the oldest unlinked once there is more than enough."""

    def __init__(self, directory: str, kept: Kept) -> None:
        self._directory = directory
        self._kept = kept
        self._files: deque[str] = deque()
        self._number = 0
        self._thread = ThreadPoolExecutor(1)
        self._roll()

    def write(self, data: memoryview) -> None:
        if self._size + len(data) > self._kept.segment_bytes:
            self._thread.submit(_make_durable, self._descriptor)
            self._roll()
        self._size += os.write(self._descriptor, data)

    def _roll(self) -> None:
        self._number += 1
        path = f"{self._directory}/{self._number}"
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        self._size = 0
        self._files.append(path)
        if len(self._files) > self._kept.retained_bytes // self._kept.segment_bytes + 1:
            os.unlink(self._files.popleft())


def _make_durable(descriptor: int) -> None:
    os.fdatasync(descriptor)
    os.close(descriptor)


def _success(topic: str) -> bytes:
    partition = PartitionProduceResponse(index=0, base_offset=0)
    answer = ProduceResponse(responses=[TopicProduceResponse(name=topic, partition_responses=[partition])])
    return b"".join(encode_response(1, answer, requests.VERSION))
