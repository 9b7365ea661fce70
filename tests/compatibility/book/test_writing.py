"""Writing: every compression and acknowledgement, places, times, headers, sizes, idempotence."""

from __future__ import annotations

import time

import pytest

from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.records.batch import parse_header
from tests.compatibility.book.scenes import (
    COMPRESSIONS,
    needs,
    numbered,
    read_all,
    refused,
    values,
    write,
    writing,
)
from tests.compatibility.clients import Confluent
from tests.compatibility.contract import Client, Record
from tests.support.broker_process import BrokerProcess

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
TIME_MS = 1_700_000_000_000


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_what_is_written_is_read(client: Client, stage: BrokerProcess, topic: str, compression: str) -> None:
    """A key keeps its partition and its order, and the batches are stored as the client compressed them."""
    records = [Record(record.key, (record.value or b"") * 20) for record in numbered(200)]
    write(client, topic, records, compression=compression)
    rows = read_all(client, topic, len(records))
    assert values(rows) == values(records)
    partition_of: dict[bytes | None, int] = {}
    for row in rows:
        assert partition_of.setdefault(row.key, row.partition) == row.partition, "a key keeps its partition"
    for key in partition_of:
        sent = [record.value for record in records if record.key == key]
        got = [row.value for row in sorted(rows, key=lambda row: row.offset) if row.key == key]
        assert got == sent, "a key keeps its order"
    used = set()
    for partition in range(3):
        log = (stage.data_dir / f"{topic}-{partition}" / f"{0:020}.log").read_bytes()
        if log:
            used.add(CODECS[parse_header(log).attributes & 7])
    assert used == {compression}


@needs("acks")
@pytest.mark.parametrize("acks", ["0", "1", "all"])
def test_acks(client: Client, topic: str, acks: str) -> None:
    write(client, topic, numbered(50), acks=acks)
    assert values(read_all(client, topic, 50)) == values(numbered(50))


@needs("places")
def test_a_writer_learns_where_each_record_is(client: Client, topic: str) -> None:
    records = numbered(30)
    places = write(client, topic, records)
    rows = {(row.partition, row.offset): row.value for row in read_all(client, topic, 30)}
    assert len(rows) == 30
    if all(offset >= 0 for _, offset in places):
        assert [rows[place] for place in places] == [record.value for record in records]


@needs("partition")
def test_the_partition_may_be_chosen(client: Client, topic: str) -> None:
    records = [Record(b"same", b"%d" % n, partition=n % 3) for n in range(9)]
    write(client, topic, records)
    for row in read_all(client, topic, 9):
        assert row.partition == int(row.value or b"") % 3


@needs("nulls", "binary")
def test_null_empty_and_binary_are_three_things(client: Client, line: str) -> None:
    blob = bytes(range(256))
    records = [Record(None, b"v"), Record(b"", b""), Record(b"k", None), Record(blob, blob)]
    write(client, line, records)
    rows = read_all(client, line, 4)
    assert [(row.key, row.value) for row in rows] == [(None, b"v"), (b"", b""), (b"k", None), (blob, blob)]


@needs("headers")
def test_headers(client: Client, line: str) -> None:
    headers = (("trace", b"1"), ("source", b"web"))
    write(client, line, [Record(b"k", b"v", headers=headers), Record(b"k", b"w", headers=headers)])
    assert [tuple(row.headers) for row in read_all(client, line, 2)] == [headers, headers]


@needs("timestamp")
def test_the_timestamp_may_be_chosen(client: Client, line: str) -> None:
    write(client, line, [Record(b"k", b"%d" % n, timestamp_ms=TIME_MS + n) for n in (5, 3, 9)])
    assert [row.timestamp_ms - TIME_MS for row in read_all(client, line, 3)] == [5, 3, 9]


@needs("broker's time")
def test_a_topic_may_take_the_brokers_time(client: Client, judge: Confluent, name: str) -> None:
    judge.create_topic(name, 1, settings={"message.timestamp.type": "LogAppendTime"})
    before = int(time.time() * 1000)
    write(client, name, [Record(b"k", b"v", timestamp_ms=TIME_MS)])
    (row,) = read_all(client, name, 1)
    assert before - 1000 <= row.timestamp_ms <= time.time() * 1000 + 1000


@pytest.mark.parametrize("size", [900_000, 4_000_000])
def test_large_records(client: Client, judge: Confluent, name: str, size: int) -> None:
    judge.create_topic(name, 1, settings={"max.message.bytes": "5000000"})
    write(client, name, [Record(b"k", b"x" * size)], max_bytes=5_000_000)
    (row,) = read_all(client, name, 1)
    assert row.value == b"x" * size


def test_a_record_that_is_too_large_is_refused(client: Client, judge: Confluent, name: str) -> None:
    judge.create_topic(name, 1, settings={"max.message.bytes": "10000"})
    with refused(ErrorCode.MESSAGE_TOO_LARGE):
        write(client, name, [Record(b"k", b"x" * 20_000)])
    write(client, name, [Record(b"k", b"small")])
    assert values(read_all(client, name, 1)) == [b"small"]


def test_an_unknown_topic_is_refused(client: Client, name: str) -> None:
    """Some clients say so, others that they waited in vain."""
    with refused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.REQUEST_TIMED_OUT):
        write(client, name, [Record(b"k", b"v")], patience_ms=2_000)


@needs("idempotence")
def test_batches_of_an_idempotent_producer_are_numbered(
    client: Client, stage: BrokerProcess, line: str
) -> None:
    with writing(client, idempotent=True) as producer:
        for first in range(0, 30, 10):
            producer.send(line, numbered(10, first))
    assert values(read_all(client, line, 30)) == values(numbered(30))
    log = (stage.data_dir / f"{line}-0" / f"{0:020}.log").read_bytes()
    position, following = 0, {}
    while position < len(log):
        header = parse_header(log, position)
        assert header.producer_id >= 0
        assert header.base_sequence == following.get(header.producer_id, 0)
        following[header.producer_id] = header.base_sequence + header.count
        position += header.size
    assert sum(following.values()) == 30
