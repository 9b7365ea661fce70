"""Reading without a group: where a reader begins, how it moves, what it may leave out."""

from __future__ import annotations

from tests.compatibility.book.scenes import needs, numbered, read_all, reading, values, write
from tests.compatibility.clients import Confluent
from tests.compatibility.contract import Client, Record, Row, read, until

TIME_MS = 1_700_000_000_000


@needs("start")
def test_a_reader_may_begin_at_a_time(client: Client, judge: Confluent, topic: str) -> None:
    write(judge, topic, [Record(b"k%d" % (n % 7), b"%04d" % n, None, TIME_MS + n * 1000) for n in range(100)])
    found = read_all(client, topic, 40, start=TIME_MS + 60_000)
    assert values(found) == [b"%04d" % n for n in range(60, 100)]


@needs("start")
def test_a_reader_may_begin_at_the_end(client: Client, judge: Confluent, line: str) -> None:
    write(judge, line, numbered(10))
    with reading(client, line, start="latest") as consumer:
        rows = consumer.poll()
        sent = 10
        while not rows:
            write(judge, line, numbered(1, sent))
            sent += 1
            rows = consumer.poll()
        assert rows[0].offset >= 10


@needs("seek")
def test_a_reader_may_move(client: Client, judge: Confluent, line: str) -> None:
    write(judge, line, numbered(50))
    with reading(client, line) as consumer:
        assert [row.offset for row in read(consumer, 50)] == list(range(50))
        consumer.seek(0, 20)
        assert [row.offset for row in read(consumer, 30)] == list(range(20, 50))
        consumer.seek(0, 49)
        assert [row.offset for row in read(consumer, 1)] == [49]


@needs("pause")
def test_a_partition_may_be_paused(client: Client, judge: Confluent, topic: str) -> None:
    def to_each(text: bytes) -> None:
        write(judge, topic, [Record(None, text, partition=p) for p in range(3)])

    with reading(client, topic) as consumer:
        to_each(b"before")
        assert {row.partition for row in read(consumer, 3)} == {0, 1, 2}
        consumer.pause([1])
        assert consumer.poll() == []  # a fetch that is under way may still bring what comes now
        to_each(b"paused")
        assert sorted(row.partition for row in read(consumer, 2)) == [0, 2]
        assert consumer.poll() == []
        consumer.resume([1])
        assert [(row.partition, row.value) for row in read(consumer, 1)] == [(1, b"paused")]


@needs("offsets")
def test_a_topic_begins_and_ends_somewhere(client: Client, judge: Confluent, topic: str) -> None:
    write(judge, topic, [Record(None, b"v", partition=n % 2) for n in range(10)])
    judge.delete_records(topic, 0, 2)
    until(
        lambda: client.offsets_of(topic) == {0: (2, 5), 1: (0, 5), 2: (0, 0)},
        "the client sees where each partition begins and ends",
    )


def test_deleted_records_are_not_read(client: Client, judge: Confluent, line: str) -> None:
    write(judge, line, numbered(20))
    judge.delete_records(line, 0, 15)
    assert [row.offset for row in read_all(client, line, 5)] == list(range(15, 20))


@needs("isolation")
def test_what_an_aborted_transaction_wrote(client: Client, judge: Confluent, line: str) -> None:
    producer = judge.producer(transactional_id=line)
    for number in range(4):
        producer.begin()
        producer.send(line, [Record(b"k", b"%d-%d" % (number, n)) for n in range(3)])
        if number % 2:
            producer.abort()
        else:
            producer.commit()
    producer.close()
    write(judge, line, [Record(b"k", b"end")])
    committed = [row.value for row in read_all(client, line, 7, isolation="read_committed")]
    assert committed == [b"0-0", b"0-1", b"0-2", b"2-0", b"2-1", b"2-2", b"end"]
    assert len(read_all(client, line, 13, isolation="read_uncommitted")) == 13


def test_a_compacted_topic_keeps_the_newest_of_each_key(client: Client, judge: Confluent, name: str) -> None:
    settings = {
        "cleanup.policy": "compact",
        "segment.ms": "50",
        "min.cleanable.dirty.ratio": "0.01",
        "delete.retention.ms": "60000",
    }
    judge.create_topic(name, 1, settings=settings)
    for number in range(10):
        write(client, name, [Record(b"k%d" % key, b"%d" % number) for key in range(20)])

    def is_compact() -> bool:
        write(judge, name, [Record(b"now", b"now")])  # closes the segment before it
        _, end = judge.offsets_of(name)[0]
        rows = read_until(client, name, end - 1)
        newest = {row.key: row.value for row in rows}
        assert [newest[b"k%d" % key] for key in range(20)] == [b"9"] * 20, "the newest is never lost"
        assert [row.offset for row in rows] == sorted(row.offset for row in rows), "offsets stay"
        return sum(row.key != b"now" for row in rows) == 20

    until(is_compact, "only the newest record of each key is left")


def read_until(client: Client, topic: str, offset: int) -> list[Row]:
    rows: list[Row] = []
    with reading(client, topic) as consumer:
        while not rows or rows[-1].offset < offset:
            rows += read(consumer, 1)
    return rows
