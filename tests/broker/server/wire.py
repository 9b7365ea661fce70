"""A broker inside the test's own event loop, and a client that says exactly what it is told."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from streamkit.broker.config import BrokerConfig
from streamkit.broker.server.node import Broker
from streamkit.protocol.api import APIS
from streamkit.protocol.framing import decode_response, encode_request
from streamkit.protocol.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from streamkit.protocol.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from streamkit.protocol.records.batch import batches
from streamkit.protocol.records.record import Record, decode_records, encode_batch
from streamkit.protocol.schema import Message
from streamkit.runtime.os.ports import os_ports
from streamkit.telemetry.instruments import Registry

Reply = TypeVar("Reply", bound=Message)


@asynccontextmanager
async def running(path: Path, **properties: str) -> AsyncIterator[Broker]:
    """A broker on a free port; keys of `properties` are written with `_` for `.`."""
    config = BrokerConfig.from_properties(
        {
            "log.dir": str(path),
            "listeners": "PLAINTEXT://127.0.0.1:0",
            **{name.replace("_", "."): text for name, text in properties.items()},
        }
    )
    failures: list[BaseException] = []
    ports = os_ports(lambda name, error: failures.append(error))
    broker = Broker(config, ports, Registry(), on_end=lambda: None)
    try:
        await broker.start()
        yield broker
    finally:
        await broker.stop()
        ports.disk.close()
    assert not failures, failures


async def topic(broker: Broker, name: str = "t", partitions: int = 1, **configs: str) -> bytes:
    """Make a topic; its id."""
    error = await broker.controller_client.create_topic(
        name,
        partitions=partitions,
        replication_factor=1,
        configs={key.replace("_", "."): text for key, text in configs.items()},
    )
    assert not error, error
    return broker.metadata.topics[name].topic_id


class Wire:
    """One connection; requests may be sent before earlier ones are answered."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._sent = 0

    def send(self, message: Message, version: int) -> int:
        """Send, and answer the correlation id."""
        self._sent += 1
        self.writer.write(
            b"".join(encode_request(message, version, correlation_id=self._sent, client_id="test"))
        )
        return self._sent

    def send_raw(self, body: bytes) -> None:
        self.writer.write(struct.pack(">i", len(body)) + body)

    async def frame(self) -> bytes:
        async with asyncio.timeout(10):
            (size,) = struct.unpack(">i", await self.reader.readexactly(4))
            return await self.reader.readexactly(size)

    async def receive(self, cls: type[Reply], version: int) -> tuple[int, Reply]:
        return decode_response(cls, await self.frame(), version)

    async def ask(self, message: Message, version: int | None = None) -> Any:
        """Send, and answer the response, which must be the next; without a version in the newest."""
        version = APIS[message.KEY].max_version if version is None else version
        correlation_id = self.send(message, version)
        answered, response = await self.receive(APIS[message.KEY].response, version)
        assert answered == correlation_id
        return response

    async def is_closed(self) -> bool:
        async with asyncio.timeout(10):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True

    # -- what most tests do ----------------------------------------------------------------------------------

    async def produce(
        self, batch: bytes, *, topic: str = "t", partition: int = 0, acks: int = -1, version: int = 9
    ) -> PartitionProduceResponse:
        response: ProduceResponse = await self.ask(
            produce_request(batch, topic=topic, partition=partition, acks=acks), version
        )
        return response.responses[0].partition_responses[0]

    async def fetch(self, *wanted: FetchPartition, topic: str = "t", version: int = 12, **fields: Any) -> Any:
        """One topic's partitions (the first from offset 0, if none are named)."""
        partitions = list(wanted) or [
            FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1 << 20)
        ]
        request = FetchRequest(topics=[FetchTopic(topic=topic, partitions=partitions)], **fields)
        response: FetchResponse = await self.ask(request, version)
        return response

    async def values(self, *, topic: str = "t", partition: int = 0, offset: int = 0) -> list[bytes | None]:
        """The values from an offset to the end."""
        found: list[bytes | None] = []
        while True:
            wanted = FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=1 << 20)
            response = await self.fetch(wanted, topic=topic)
            data = response.responses[0].partitions[0]
            assert data.error_code == 0, data.error_code
            records = records_in(data.records)
            if not records:
                return found
            found += [record.value for record in records if record.offset >= offset]
            offset = records[-1].offset + 1


@asynccontextmanager
async def connected(broker: Broker, listener: str = "PLAINTEXT") -> AsyncIterator[Wire]:
    port = broker.listeners[listener].port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


def batch(*values: bytes | None, timestamp: int = 1_000, **fields: Any) -> bytes:
    return encode_batch([Record(timestamp=timestamp, key=b"k", value=value) for value in values], **fields)


def produce_request(
    data: bytes | None, *, topic: str = "t", partition: int = 0, acks: int = -1, **fields: Any
) -> ProduceRequest:
    return ProduceRequest(
        acks=acks,
        timeout_ms=30_000,
        topic_data=[
            TopicProduceData(name=topic, partition_data=[PartitionProduceData(index=partition, records=data)])
        ],
        **fields,
    )


def records_in(data: Any) -> list[Record]:
    return [record for _, one in batches(data or b"") for record in decode_records(one)]
