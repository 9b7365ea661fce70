"""Pipelined 100-byte produce requests per second, one partition each, against a real broker process.

    python -m tests.benchmarks.pipelined_produce [--seconds 5] [--connections 4] [--mode relaxed]

The client writes requests that were encoded beforehand, so that it costs little; it runs in a process of its
own, the broker in another. Prints requests per second of wall time and of the broker's CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import struct
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from streamkit.protocol.framing import encode_request
from streamkit.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from streamkit.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from streamkit.protocol.records.record import Record, encode_batch
from tests.support.broker_process import BrokerProcess

VERSION = 9
IN_FLIGHT = 64
TOPIC = "bench"


def requests(partitions: int, payload_bytes: int) -> list[bytes]:
    batch = encode_batch([Record(timestamp=int(time.time() * 1000), value=bytes(payload_bytes))])
    encoded = []
    for partition in range(partitions):
        data = [
            TopicProduceData(
                name=TOPIC, partition_data=[PartitionProduceData(index=partition, records=batch)]
            )
        ]
        request = ProduceRequest(acks=1, timeout_ms=30_000, topic_data=data)
        encoded.append(b"".join(encode_request(request, VERSION, correlation_id=1, client_id="bench")))
    return encoded


class Client(asyncio.Protocol):
    """Keeps IN_FLIGHT requests outstanding and counts the answers by their sizes."""

    def __init__(self, encoded: list[bytes]) -> None:
        self.answered = 0
        self._encoded = encoded
        self._next = 0
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._send(IN_FLIGHT)

    def _send(self, count: int) -> None:
        encoded, start = self._encoded, self._next
        self._next += count
        out = b"".join([encoded[n % len(encoded)] for n in range(start, start + count)])
        self.transport.write(out)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        received, position, count = self._received + data, 0, 0
        while len(received) - position >= 4:
            (size,) = struct.unpack_from(">i", received, position)
            if len(received) - position < 4 + size:
                break
            position += 4 + size
            count += 1
        self._received = received[position:]
        self.answered += count
        self._send(count)


async def measure(port: int, pid: int, options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    creation = CreateTopicsRequest(
        topics=[CreatableTopic(name=TOPIC, num_partitions=options.partitions, replication_factor=1)],
        timeout_ms=30_000,
    )
    writer.write(b"".join(encode_request(creation, 5, correlation_id=1, client_id="bench")))
    await reader.readexactly(4)
    encoded = requests(options.partitions, options.payload)
    clients = []
    for _ in range(options.connections):
        _, client = await loop.create_connection(lambda: Client(encoded), "127.0.0.1", port)
        clients.append(client)
    await asyncio.sleep(options.seconds * 0.2)
    before, cpu_before, start = sum(one.answered for one in clients), cpu_seconds(pid), time.perf_counter()
    await asyncio.sleep(options.seconds)
    count = sum(one.answered for one in clients) - before
    wall_s, cpu_s = time.perf_counter() - start, cpu_seconds(pid) - cpu_before
    print(
        f"{options.mode}, {options.connections} connections, {options.partitions} partitions, "
        f"{options.payload} B: {count / wall_s:,.0f} requests/s, {count / cpu_s:,.0f} per broker CPU second"
    )
    for client in clients:
        client.transport.abort()  # type: ignore[attr-defined]
    writer.close()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--payload", type=int, default=100)
    parser.add_argument("--mode", choices=("relaxed", "durable"), default="relaxed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        broker = BrokerProcess(
            Path(directory) / "data", "--set", f"streamkit.flush.mode={options.mode}"
        ).start()
        assert broker.process is not None
        run = asyncio.run
        with suppress(ImportError):
            import uvloop

            run = uvloop.run
        try:
            run(measure(broker.port, broker.process.pid, options))
        finally:
            broker.stop()


if __name__ == "__main__":
    sys.exit(main())
