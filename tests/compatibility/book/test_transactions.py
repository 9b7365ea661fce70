"""Transactions: committed whole or not at all, fenced, timed out, with offsets."""

from __future__ import annotations

from tests.compatibility.book.scenes import content, needs, refused, write, writing
from tests.compatibility.clients import Confluent
from tests.compatibility.contract import Client, Record, until

pytestmark = needs("transactions")


def record(text: bytes) -> Record:
    return Record(b"k", text)


def until_written(judge: Confluent, topic: str, text: bytes) -> None:
    until(lambda: text in content(judge, topic, "read_uncommitted"), "the record is in the log")


def test_what_is_committed_is_read(client: Client, judge: Confluent, line: str) -> None:
    with writing(client, transactional_id=line) as producer:
        for number in range(3):
            producer.begin()
            producer.send(line, [record(b"%d-%d" % (number, n)) for n in range(3)])
            producer.commit()
    expected = [b"%d-%d" % (number, n) for number in range(3) for n in range(3)]
    until(lambda: content(judge, line) == expected, "all is read, in order")


@needs("open transactions")
def test_what_is_committed_is_read_and_what_is_aborted_is_not(
    client: Client, judge: Confluent, line: str
) -> None:
    with writing(client, transactional_id=line) as producer:
        for number in range(4):
            producer.begin()
            producer.send(line, [record(b"%d-%d" % (number, n)) for n in range(3)])
            until_written(judge, line, b"%d-2" % number)
            if number % 2:
                producer.abort()
            else:
                producer.commit()
    committed = [b"0-0", b"0-1", b"0-2", b"2-0", b"2-1", b"2-2"]
    until(lambda: content(judge, line) == committed, "what was committed is read")
    assert len(content(judge, line, "read_uncommitted")) == 12


@needs("open transactions")
def test_an_open_transaction_holds_back_what_comes_after(client: Client, judge: Confluent, line: str) -> None:
    write(judge, line, [record(b"before")])
    with writing(client, transactional_id=line) as producer:
        producer.begin()
        producer.send(line, [record(b"open")])
        until_written(judge, line, b"open")
        write(judge, line, [record(b"after")])
        assert content(judge, line) == [b"before"]
        producer.commit()
    until(lambda: content(judge, line) == [b"before", b"open", b"after"], "all is read")


@needs("open transactions")
def test_a_transaction_spans_topics(client: Client, judge: Confluent, line: str, name: str) -> None:
    other = f"{name}-other"
    judge.create_topic(other, 1)
    with writing(client, transactional_id=line) as producer:
        producer.begin()
        producer.send(line, [record(b"one")])
        producer.send(other, [record(b"two")])
        until_written(judge, other, b"two")
        assert content(judge, line) == content(judge, other) == []
        producer.commit()
    until(lambda: content(judge, line) == [b"one"], "one is read")
    until(lambda: content(judge, other) == [b"two"], "two is read")


@needs("open transactions", "succession")
def test_a_zombie_is_fenced_by_its_successor(client: Client, judge: Confluent, line: str) -> None:
    with writing(client, transactional_id=line) as zombie:
        zombie.begin()
        zombie.send(line, [record(b"zombie")])
        until_written(judge, line, b"zombie")
        with writing(client, transactional_id=line) as successor:
            successor.begin()
            successor.send(line, [record(b"successor")])
            until_written(judge, line, b"successor")
            with refused():
                zombie.commit()
            successor.commit()
    until(lambda: content(judge, line) == [b"successor"], "the successor's record is read")


@needs("open transactions", "transaction timeout")
def test_a_transaction_that_takes_too_long_is_aborted(client: Client, judge: Confluent, line: str) -> None:
    with writing(client, transactional_id=line, transaction_timeout_ms=1_000) as producer:
        producer.begin()
        producer.send(line, [record(b"late")])
        until_written(judge, line, b"late")
        write(judge, line, [record(b"after")])
        until(lambda: content(judge, line) == [b"after"], "the transaction is aborted")
        with refused():
            producer.commit()
    assert content(judge, line) == [b"after"]


@needs("open transactions", "transaction offsets")
def test_offsets_are_committed_with_the_transaction(
    client: Client, judge: Confluent, line: str, name: str
) -> None:
    target = f"{name}-target"
    judge.create_topic(target, 1)
    group = f"{name}-group"
    with writing(client, transactional_id=name) as producer:
        for offset, commits in ((5, True), (9, False)):
            producer.begin()
            producer.send(target, [record(b"%d" % offset)])
            producer.send_offsets(group, line, {0: offset})
            if commits:
                producer.commit()
            else:
                producer.abort()
            until(lambda: judge.committed(group, line) == {0: 5}, "the committed offset counts")
    until(lambda: content(judge, target) == [b"5"], "only what was committed is read")
