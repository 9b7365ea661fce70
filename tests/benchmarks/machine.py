"""What this machine and plain Python can do without us: a rate without its machine says nothing.

The bare server receives blocks, takes their CRC-32C and writes them: the least that a broker must do for a
request. The plain loops are the shortest that a Python user could write over librdkafka's `consume()`.
"""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time

import orjson
from confluent_kafka import Consumer, TopicPartition

from streamkit.protocol.records.crc import crc32c
from tests.benchmarks.processes import Rate, Stopwatch, apart


def touch_page_cache(total_bytes: int) -> None:
    """Have the kernel use so much memory for a file once, and drop it.

    On a virtual machine the first touch of a page costs ten times the second, and would hide everything else.
    """
    block = bytes(1 << 20)
    with tempfile.TemporaryFile(buffering=0) as file:
        for _ in range(total_bytes // len(block)):
            file.write(block)


def receive_crc_write(block_bytes: int, total_bytes: int) -> Rate:
    """Bytes/s through receive, CRC-32C and write, in blocks; the sender is another process."""
    with socket.create_server(("127.0.0.1", 0)) as server, tempfile.TemporaryFile() as file:
        port = server.getsockname()[1]
        sender = threading.Thread(target=apart, args=(_send, port, block_bytes, total_bytes))
        sender.start()
        connection, _ = server.accept()
        block = memoryview(bytearray(block_bytes))
        watch = Stopwatch(os.getpid())
        with connection:
            for _ in range(total_bytes // block_bytes):
                filled = 0
                while filled < block_bytes:
                    filled += connection.recv_into(block[filled:])
                crc32c(block)
                os.write(file.fileno(), block)
        rate = watch.rate(total_bytes)
        sender.join()
    return rate


def _send(port: int, block_bytes: int, total_bytes: int) -> None:
    block = os.urandom(block_bytes)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for _ in range(total_bytes // block_bytes):
            connection.sendall(block)


def consume_loop(bootstrap: str, topic: str, partitions: int, count: int, *, decode: bool) -> Rate:
    """Records/s of a plain loop over `consume()`; `decode`: with JSON and a filter in it."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "plain-loop",
            "enable.auto.commit": False,
            "queued.min.messages": 200_000,
            "fetch.queue.backoff.ms": 1,
        }
    )
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
    seen = len(consumer.consume(1, timeout=30))
    kept, deadline = 0, time.monotonic() + 120
    watch = Stopwatch(os.getpid())
    while seen < count:
        assert time.monotonic() < deadline, f"only {seen} of {count} records came"
        messages = consumer.consume(min(10_000, count - seen), timeout=5)
        seen += len(messages)
        if decode:
            for message in messages:
                event = orjson.loads(message.value())
                if event["amount"] > 10:
                    kept += 1
    rate = watch.rate(count)
    consumer.close()
    return rate
