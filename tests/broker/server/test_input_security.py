"""RELIABILITY §4 before authentication: what a stranger may send to a broker, over real sockets.

Each class of malformed input costs the connection that sends it, with one line in the log. Meanwhile an
innocent client on another connection goes on producing; how long its round trips take says how long the
event loop was blocked.
"""

from __future__ import annotations

import os
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from streamkit.protocol.api import APIS, ApiKey
from streamkit.protocol.framing import decode_response, encode_request
from streamkit.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from streamkit.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from streamkit.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from streamkit.protocol.messages.metadata import MetadataRequest
from streamkit.protocol.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    TopicProduceData,
)
from streamkit.protocol.primitives import uvarint
from streamkit.protocol.records.batch import HEADER_SIZE, build_batch, parse_header
from streamkit.protocol.records.compression import Codec, compress
from streamkit.protocol.records.record import Record, encode_batch
from streamkit.protocol.schema import Message
from tests.support.broker_process import BrokerProcess

MIB = 1 << 20
NOT_BLOCKED_S = 0.1
SIZE = struct.Struct(">i")
SMALL_BATCH = encode_batch([Record(timestamp=1_000, key=b"k", value=b"innocent")])


class Client:
    """One connection, spoken to in whole frames or in raw bytes."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, message: Message, version: int) -> Any:
        self.send(message, version)
        return decode_response(APIS[message.KEY].response, self.frame(), version)[1]

    def send(self, message: Message, version: int) -> None:
        self.socket.sendall(b"".join(encode_request(message, version, correlation_id=1, client_id="c")))

    def frame(self) -> bytes:
        return self._exactly(SIZE.unpack(self._exactly(4))[0])

    def _exactly(self, count: int) -> bytes:
        received = bytearray()
        while len(received) < count:
            part = self.socket.recv(count - len(received))
            if not part:
                raise ConnectionError("the broker closed the connection")
            received += part
        return bytes(received)

    def is_closed(self) -> bool:
        """Wait until the broker has closed this connection."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionError:
            pass
        return True

    def close(self) -> None:
        self.socket.close()


class Innocent(threading.Thread):
    """Produces one small batch after the other, and measures each round trip."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.client = Client(port)
        self.round_trips_s: list[float] = []
        self.failure: BaseException | None = None
        self._asked_to_end = threading.Event()

    def run(self) -> None:
        try:
            while not self._asked_to_end.is_set():
                begun_s = time.perf_counter()
                response = self.client.ask(produce("innocent", SMALL_BATCH), 9)
                self.round_trips_s.append(time.perf_counter() - begun_s)
                assert response.responses[0].partition_responses[0].error_code == 0
        except BaseException as error:  # the test's own thread tells
            self.failure = error

    def end(self) -> None:
        self._asked_to_end.set()
        self.join(20)
        self.client.close()
        if self.failure is not None:
            raise self.failure


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    process = BrokerProcess(
        tmp_path_factory.mktemp("hostile") / "data", "--set", "streamkit.flush.mode=relaxed"
    ).start()
    client = Client(process.port)
    for name, configs in {
        "innocent": {},
        "as-it-comes": {},
        "to-gzip": {"compression.type": "gzip"},
        "large": {"max.message.bytes": str(8 * MIB)},
    }.items():
        create(client, name, configs)
    client.close()
    yield process
    assert process.stop() == 0


def create(client: Client, name: str, configs: dict[str, str]) -> None:
    wanted = CreatableTopic(
        name=name,
        num_partitions=1,
        replication_factor=1,
        configs=[CreatableTopicConfig(name=key, value=text) for key, text in configs.items()],
    )
    response = client.ask(CreateTopicsRequest(topics=[wanted], timeout_ms=10_000), 5)
    assert response.topics[0].error_code == 0


@contextmanager
def innocent_goes_on(broker: BrokerProcess, *, blocked_s: float = NOT_BLOCKED_S) -> Iterator[None]:
    """Something hostile happens inside; the innocent client must not feel it."""
    innocent = Innocent(broker.port)
    innocent.start()
    wait_until(lambda: len(innocent.round_trips_s) > 20 or innocent.failure is not None)
    before = len(innocent.round_trips_s)
    yield
    wait_until(lambda: len(innocent.round_trips_s) > before + 20 or innocent.failure is not None)
    innocent.end()
    # the machine may take a whole process off the processor for a moment; a blocked loop does it each time
    slow = sorted(innocent.round_trips_s)[-2]
    assert slow < blocked_s, f"a round trip took {slow:.3f} s"


def wait_until(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "waited too long"
        time.sleep(0.002)


def closed_lines(broker: BrokerProcess) -> list[str]:
    return [line for line in broker.log if "connection closed" in line]


def resident_bytes(broker: BrokerProcess) -> int:
    assert broker.process is not None
    status = Path(f"/proc/{broker.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def produce(topic: str, batch: bytes) -> ProduceRequest:
    part = TopicProduceData(name=topic, partition_data=[PartitionProduceData(index=0, records=batch)])
    return ProduceRequest(acks=-1, timeout_ms=10_000, topic_data=[part])


def produced(client: Client, topic: str, batch: bytes) -> int:
    return int(client.ask(produce(topic, batch), 9).responses[0].partition_responses[0].error_code)


def at_time(client: Client, topic: str, timestamp: int) -> Any:
    partition = ListOffsetsPartition(partition_index=0, timestamp=timestamp)
    request = ListOffsetsRequest(topics=[ListOffsetsTopic(name=topic, partitions=[partition])])
    return client.ask(request, 5).topics[0].partitions[0]


def framed(body: bytes) -> bytes:
    return SIZE.pack(len(body)) + body


def header(key: int, version: int, *, flexible: bool) -> bytes:
    return struct.pack(">hhih", key, version, 7, -1) + (b"\0" if flexible else b"")


HUGE = uvarint(2**31 - 1)
MALFORMED = {
    "a size of -1": b"\xff\xff\xff\xff",
    "a size of -2^31": b"\x80\x00\x00\x00",
    "a frame over socket.request.max.bytes": SIZE.pack(100 * MIB + 1),
    "a frame of no bytes": framed(b""),
    "a frame shorter than a header": framed(b"\0\x03\0"),
    "a TLS ClientHello": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "an HTTP request": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an SSH greeting": b"SSH-2.0-OpenSSH_9.6\r\n",
    "garbage in a whole frame": framed(bytes(range(256))),
    "an API that does not exist": framed(header(9_999, 0, flexible=False)),
    "a negative API": framed(header(-1, 0, flexible=False)),
    "an API of controllers": framed(header(52, 0, flexible=True)),
    "a version that does not exist": framed(header(ApiKey.METADATA, 99, flexible=True) + b"\0\0\0\0"),
    "a negative version": framed(header(ApiKey.METADATA, -1, flexible=False)),
    "produce before version 3": framed(header(ApiKey.PRODUCE, 2, flexible=False) + bytes(10)),
    "an array of 2^31 - 1 elements": framed(
        header(ApiKey.METADATA, 5, flexible=False) + struct.pack(">i", 2**31 - 1)
    ),
    "an array of -2 elements": framed(header(ApiKey.METADATA, 5, flexible=False) + struct.pack(">i", -2)),
    "a compact array of 2^31 - 2 elements": framed(header(ApiKey.METADATA, 9, flexible=True) + HUGE),
    "a string over the end": framed(
        header(ApiKey.FIND_COORDINATOR, 0, flexible=False) + struct.pack(">h", 32_767)
    ),
    "a string that is not UTF-8": framed(
        header(ApiKey.FIND_COORDINATOR, 0, flexible=False) + struct.pack(">h", 2) + b"\xff\xfe"
    ),
    "2^31 - 1 tagged fields in the header": framed(struct.pack(">hhih", 3, 9, 7, -1) + HUGE),
    "2^31 - 1 tagged fields in the body": framed(
        header(ApiKey.METADATA, 9, flexible=True) + b"\x01\0\0\0" + HUGE
    ),
    "65 unknown tagged fields": framed(
        header(ApiKey.METADATA, 9, flexible=True)
        + b"\x01\0\0\0\x41"
        + b"".join(uvarint(1_000 + n) + b"\0" for n in range(65))
    ),
    "a tagged field over the end": framed(
        header(ApiKey.METADATA, 9, flexible=True) + b"\x01\0\0\0\x01\x63" + HUGE
    ),
    "an endless varint": framed(header(ApiKey.METADATA, 9, flexible=True) + b"\xff" * 64),
    "records of 2^31 - 1 bytes": framed(
        header(ApiKey.PRODUCE, 3, flexible=False)
        + struct.pack(">hhi", -1, -1, 1000)
        + struct.pack(">ih", 1, 1) + b"t"
        + struct.pack(">iii", 1, 0, 2**31 - 1)
    ),
}  # fmt: skip


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_bytes_cost_their_connection_and_one_line(broker: BrokerProcess, data: bytes) -> None:
    lines = len(closed_lines(broker))
    with innocent_goes_on(broker):
        stranger = Client(broker.port)
        stranger.socket.sendall(data)
        assert stranger.is_closed()
        stranger.close()
    wait_until(lambda: len(closed_lines(broker)) > lines)
    assert len(closed_lines(broker)) == lines + 1


def test_a_thousand_sockets_that_claim_two_gibibytes_each_cost_no_memory(broker: BrokerProcess) -> None:
    before = resident_bytes(broker)
    with innocent_goes_on(broker):
        strangers = [Client(broker.port) for _ in range(1_000)]
        for stranger in strangers:
            stranger.socket.sendall(SIZE.pack(2**31 - 1) + b"x" * 64)
        for stranger in strangers:
            assert stranger.is_closed()
            stranger.close()
    assert resident_bytes(broker) - before <= 64 * MIB


def test_a_thousand_half_frames_of_the_largest_size_cost_what_they_sent(broker: BrokerProcess) -> None:
    before = resident_bytes(broker)
    with innocent_goes_on(broker):
        strangers = [Client(broker.port) for _ in range(1_000)]
        for stranger in strangers:
            stranger.socket.sendall(SIZE.pack(100 * MIB) + b"x" * 5_000)
        assert resident_bytes(broker) - before <= 64 * MIB
        for stranger in strangers:
            stranger.close()


def test_tiny_structures_are_bounded_by_number_and_not_only_by_bytes(broker: BrokerProcess) -> None:
    """A nameless topic is three bytes on the wire and a hundred and more as a value."""
    count = 4 * MIB // 3
    body = header(ApiKey.PRODUCE, 9, flexible=True) + b"\0" + struct.pack(">hi", -1, 1000)
    bomb = framed(body + uvarint(count + 1) + b"\x01\x01\x00" * count + b"\0")
    before = resident_bytes(broker)
    with innocent_goes_on(broker):
        for _ in range(4):
            stranger = Client(broker.port)
            stranger.socket.sendall(bomb)
            assert stranger.is_closed()
            stranger.close()
    assert resident_bytes(broker) - before <= 64 * MIB


def test_a_frame_of_as_many_structures_as_are_allowed_is_answered(broker: BrokerProcess) -> None:
    count = 19_000
    body = header(ApiKey.PRODUCE, 9, flexible=True) + b"\0" + struct.pack(">hi", -1, 1000)
    client = Client(broker.port)
    with innocent_goes_on(broker, blocked_s=3 * NOT_BLOCKED_S):
        client.socket.sendall(framed(body + uvarint(count + 1) + b"\x01\x01\x00" * count + b"\0"))
        assert client.frame(), "topics without partitions leave nothing to say, and that is said"
    client.close()


# --- batches: opaque to the broker, unless it has to open them ---------------------------------------


def batch_of(records: bytes, codec: Codec, *, count: int = 1, timestamp: int = 5_000) -> bytes:
    """A batch whose header and checksum are right, whatever its records are."""
    honest = parse_header(encode_batch([Record(timestamp=timestamp, value=b"x")] * count, codec=codec))
    return bytes(build_batch(honest, records))


def xerial(block_size: int) -> bytes:
    return b"\x82SNAPPY\x00" + struct.pack(">iii", 1, 1, block_size) + b"data"


BOMB = bytes(256 * MIB // 4)
HOSTILE_RECORDS: dict[str, Callable[[], bytes]] = {
    "a snappy block of -1 bytes": lambda: batch_of(xerial(-1), Codec.SNAPPY),
    "a snappy block of 2^31 - 1 bytes": lambda: batch_of(xerial(2**31 - 1), Codec.SNAPPY),
    "raw snappy that claims 4 GiB": lambda: batch_of(b"\xff\xff\xff\xff\x0f" + b"data", Codec.SNAPPY),
    "gzip that is none": lambda: batch_of(b"not gzip", Codec.GZIP),
    "a gzip bomb": lambda: batch_of(compress(Codec.GZIP, BOMB), Codec.GZIP),
    "a zstd bomb": lambda: batch_of(compress(Codec.ZSTD, BOMB), Codec.ZSTD),
    "an lz4 bomb": lambda: batch_of(compress(Codec.LZ4, BOMB), Codec.LZ4),
    "lz4 that is cut short": lambda: batch_of(compress(Codec.LZ4, b"x" * 99)[:-3], Codec.LZ4),
    "a record of a negative length": lambda: batch_of(b"\x01\0\0\0\x01\x01\0", Codec.NONE),
    "records that end early": lambda: batch_of(b"\xfe", Codec.NONE, count=9),
    "an offset outside of its batch": lambda: batch_of(b"\x0e\0\0\xfe\xff\x7f\x01\x01\0", Codec.NONE),
}


@pytest.mark.parametrize("make", HOSTILE_RECORDS.values(), ids=HOSTILE_RECORDS.keys())
def test_hostile_records_do_not_take_their_partition_down(
    broker: BrokerProcess, make: Callable[[], bytes], name: str
) -> None:
    """Looking for a timestamp opens the batch; what a producer wrote there is not damage of the log."""
    batch = make()
    client = Client(broker.port)
    create(client, name, {"max.message.bytes": str(8 * MIB)})
    before = resident_bytes(broker)
    with innocent_goes_on(broker, blocked_s=2 * NOT_BLOCKED_S):
        assert produced(client, name, batch) == 0
        found = at_time(client, name, 4_000)
        assert (found.error_code, found.offset) == (0, 0)
        assert produced(client, name, SMALL_BATCH) == 0
        last = parse_header(batch).last_offset_delta + 1
        assert at_time(client, name, 0).error_code == 0
        fetched = client.ask(
            FetchRequest(
                max_bytes=MIB,
                topics=[
                    FetchTopic(
                        topic=name,
                        partitions=[FetchPartition(partition=0, fetch_offset=last, partition_max_bytes=MIB)],
                    )
                ],
            ),
            11,
        )
        assert fetched.responses[0].partitions[0].error_code == 0
    assert resident_bytes(broker) - before <= 96 * MIB
    client.close()


CONVERTED = {
    name: make
    for name, make in HOSTILE_RECORDS.items()
    if "snappy" in name or "lz4" in name or "zstd" in name  # what is gzip already is stored as it came
}


@pytest.mark.parametrize("make", CONVERTED.values(), ids=CONVERTED.keys())
def test_hostile_compression_is_refused_where_batches_are_converted(
    broker: BrokerProcess, make: Callable[[], bytes]
) -> None:
    batch = make()
    client = Client(broker.port)
    with innocent_goes_on(broker, blocked_s=2 * NOT_BLOCKED_S):
        assert produced(client, "to-gzip", batch) in (2, 10)
        assert produced(client, "to-gzip", SMALL_BATCH) == 0
    client.close()


def test_a_batch_of_a_million_tiny_records_is_searched_in_turns(broker: BrokerProcess, name: str) -> None:
    record = b"\x0c\0\0\0\x01\x01\0"
    batch = batch_of(compress(Codec.ZSTD, record * 1_000_000), Codec.ZSTD)
    header_bytes = bytearray(batch[:HEADER_SIZE])
    struct.pack_into(">i", header_bytes, 23, 999_999)
    struct.pack_into(">q", header_bytes, 35, 9_000)
    struct.pack_into(">i", header_bytes, 57, 1_000_000)
    million = bytes(build_batch(parse_header(bytes(header_bytes)), batch[HEADER_SIZE:]))
    client = Client(broker.port)
    create(client, name, {})
    with innocent_goes_on(broker):
        assert produced(client, name, million) == 0
        assert at_time(client, name, 8_000).error_code == 0
    client.close()


# --- bounds of a connection ---------------------------------------------------------------------------


def test_more_than_64_requests_in_flight_wait_and_are_all_answered(broker: BrokerProcess) -> None:
    client = Client(broker.port)
    request = b"".join(encode_request(MetadataRequest(topics=[]), 5, correlation_id=1, client_id="c"))
    with innocent_goes_on(broker):
        client.socket.sendall(request * 1_000)
        for _ in range(1_000):
            client.frame()
    client.close()


def test_a_reader_that_takes_nothing_is_served_no_more_than_its_bound(broker: BrokerProcess) -> None:
    """It sends requests for megabytes and reads none of the answers: no more of them are made."""
    client = Client(broker.port)
    value = os.urandom(4 * MIB)
    big = encode_batch([Record(timestamp=1_000, value=value)])
    assert produced(client, "large", big) == 0
    fetch = b"".join(
        encode_request(
            FetchRequest(
                max_bytes=4 * MIB,
                topics=[
                    FetchTopic(
                        topic="large",
                        partitions=[FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=4 * MIB)],
                    )
                ],
            ),
            11,
            correlation_id=1,
            client_id="c",
        )
    )
    before = resident_bytes(broker)
    with innocent_goes_on(broker, blocked_s=2 * NOT_BLOCKED_S):
        client.socket.setblocking(False)
        sent = 0
        while sent < 500 and select.select([], [client.socket], [], 0.2)[1]:
            try:
                client.socket.send(fetch)
            except BlockingIOError:
                break
            sent += 1
        assert sent > 64
        assert resident_bytes(broker) - before <= 64 * MIB
    client.close()


def test_half_frames_that_fill_the_budget_stop_no_small_request(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path / "data", "--set", "queued.max.request.bytes=1000000").start()
    setup = Client(broker.port)
    create(setup, "innocent", {})
    strangers = [Client(broker.port) for _ in range(20)]
    for stranger in strangers:
        stranger.socket.setblocking(False)
        stranger.socket.send(SIZE.pack(50 * MIB) + bytes(100_000))
    innocent = Innocent(broker.port)
    innocent.start()
    wait_until(lambda: len(innocent.round_trips_s) > 200 or innocent.failure is not None)
    innocent.end()
    for stranger in strangers:
        stranger.close()
    assert broker.stop() == 0


def test_slow_readers_that_fill_the_budget_stop_nobody(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path / "data", "--set", "queued.max.request.bytes=4000000").start()
    client = Client(broker.port)
    create(client, "innocent", {})
    create(client, "large", {"max.message.bytes": str(8 * MIB)})
    assert produced(client, "large", encode_batch([Record(timestamp=1_000, value=bytes(6 * MIB))])) == 0
    wanted = FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=8 * MIB)
    request = FetchRequest(max_bytes=8 * MIB, topics=[FetchTopic(topic="large", partitions=[wanted])])
    readers = [Client(broker.port) for _ in range(4)]
    for reader in readers:
        reader.send(request, 11)
    innocent = Innocent(broker.port)
    innocent.start()
    wait_until(lambda: len(innocent.round_trips_s) > 100 or innocent.failure is not None)
    innocent.end()
    for reader in readers:
        reader.close()
    assert broker.stop() == 0
