"""What this machine can do without us: receive, CRC and write; a plain loop over `consume()`.

These figures stand beside ours, because a rate without its machine says nothing.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from multiprocessing import get_context

import google_crc32c
from confluent_kafka import Consumer


def _send(port: int, size: int, total_bytes: int) -> None:
    block = os.urandom(size)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for _ in range(total_bytes // size):
            connection.sendall(block)


def bare_receive_crc_write(size: int = 1 << 20, total_bytes: int = 1 << 30) -> float:
    """MB/s of a blocking loop that receives blocks of `size`, takes their CRC-32C and writes them."""
    with socket.create_server(("127.0.0.1", 0)) as server, tempfile.TemporaryFile() as file:
        sender = get_context("spawn").Process(target=_send, args=(server.getsockname()[1], size, total_bytes))
        sender.start()
        connection, _ = server.accept()
        block = memoryview(bytearray(size))
        begin, done = time.perf_counter(), 0
        with connection:
            while done < total_bytes:
                filled = 0
                while filled < size:
                    got = connection.recv_into(block[filled:])
                    if not got:
                        break
                    filled += got
                google_crc32c.value(bytes(block))
                os.write(file.fileno(), block)
                done += filled
        seconds = time.perf_counter() - begin
        sender.join()
    return total_bytes / seconds / 1e6


def consume_loop(bootstrap: str, topic: str, partitions: int, count: int) -> float:
    """Records/s of the shortest loop that a Python user could write over librdkafka's `consume()`."""
    from confluent_kafka import TopicPartition

    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "plain-loop",
            "enable.auto.commit": False,
            "queued.min.messages": 200_000,
            "fetch.queue.backoff.ms": 1,
        }
    )
    consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
    seen, begin = len(consumer.consume(1, timeout=30)), time.perf_counter()
    while seen < count:
        for message in consumer.consume(10_000, timeout=5):
            if message.value() is not None:
                seen += 1
    seconds = time.perf_counter() - begin
    consumer.close()
    return count / seconds
