"""What claims safety: on one broker, and on three of which one is killed in the middle of the scene."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.compatibility.book.conftest import Ensemble
from tests.compatibility.book.scenes import content, needs, next_offsets, reading, write
from tests.compatibility.book.stages import GROUPS, TRANSACTIONS, Stage
from tests.compatibility.clients import Confluent
from tests.compatibility.contract import Client, Record, Refused, Row, read, until

ROUNDS, BEFORE = 12, 4
PATIENCE_S = 60


def batch(number: int) -> list[Record]:
    return [Record(b"k", b"%03d-%d" % (number, n)) for n in range(5)]


def written(rounds: range) -> list[bytes]:
    return [record.value or b"" for number in rounds for record in batch(number)]


def persist(act: Callable[[], Any]) -> Any:
    """A client may give up on what is worth another try."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return act()
        except Refused:
            if time.monotonic() > end:
                raise


def test_what_all_replicas_acknowledge_is_not_lost(
    place: Stage, kind: type[Client], ensemble: Ensemble, name: str
) -> None:
    client, judge = ensemble.get(kind, place.bootstrap), ensemble.get(Confluent, place.bootstrap)
    judge.create_topic(name, 1, place.replicas)
    producer = client.producer()
    for number in range(BEFORE):
        producer.send(name, batch(number))
    with place.leader_dies(name):
        for records in map(batch, range(BEFORE, ROUNDS)):
            persist(partial(producer.send, name, records))
        producer.close()
        until(lambda: set(content(judge, name)) == set(written(range(ROUNDS))), "all is there")


@needs("idempotence")
def test_an_idempotent_producer_writes_once_and_in_order(
    place: Stage, kind: type[Client], ensemble: Ensemble, name: str
) -> None:
    client, judge = ensemble.get(kind, place.bootstrap), ensemble.get(Confluent, place.bootstrap)
    judge.create_topic(name, 1, place.replicas)
    producer = client.producer(idempotent=True)
    for number in range(BEFORE):
        producer.send(name, batch(number))
    with place.leader_dies(name):
        for number in range(BEFORE, ROUNDS):
            producer.send(name, batch(number))
        producer.close()
        until(lambda: len(content(judge, name)) >= 5 * ROUNDS, "all is there")
        assert content(judge, name) == written(range(ROUNDS))


class Transactions:
    """A producer that is made anew when it can go on no longer, as an application does it."""

    def __init__(self, client: Client, judge: Confluent, topic: str) -> None:
        self._client, self._judge, self._topic = client, judge, topic
        self._producer = self._renewed()

    def _renewed(self) -> Any:
        return persist(lambda: self._client.producer(transactional_id=self._topic))

    def close(self) -> None:
        self._producer.close()

    def write(self, records: list[Record]) -> None:
        """Once, whatever it takes."""
        while not self._is_committed(records):
            self._producer.close()
            self._producer = self._renewed()
            if (records[0].value or b"") in content(self._judge, self._topic):
                return  # the answer to the commit was lost, not the commit

    def _is_committed(self, records: list[Record]) -> bool:
        try:
            self._producer.begin()
            self._producer.send(self._topic, records)
        except Refused:
            return False
        try:
            self._producer.commit()
        except Refused:
            return False
        return True


@needs("transactions", "succession")
def test_transactions_are_committed_once_though_a_leader_dies(
    place: Stage, kind: type[Client], ensemble: Ensemble, name: str
) -> None:
    play_transactions(place, kind, ensemble, name, lambda: place.leader_dies(name))


@needs("transactions", "succession")
def test_transactions_are_committed_once_though_their_coordinator_dies(
    place: Stage, kind: type[Client], ensemble: Ensemble, name: str
) -> None:
    play_transactions(place, kind, ensemble, name, lambda: place.leader_dies(TRANSACTIONS, name))


def play_transactions(
    place: Stage, kind: type[Client], ensemble: Ensemble, name: str, accident: Callable[[], Any]
) -> None:
    client, judge = ensemble.get(kind, place.bootstrap), ensemble.get(Confluent, place.bootstrap)
    judge.create_topic(name, 1, place.replicas)
    transactions = Transactions(client, judge, name)
    for number in range(BEFORE):
        transactions.write(batch(number))
    with accident():
        for number in range(BEFORE, ROUNDS):
            transactions.write(batch(number))
        transactions.close()
        until(lambda: len(content(judge, name)) >= 5 * ROUNDS, "all is committed")
        assert content(judge, name) == written(range(ROUNDS))


class Copy:
    """Takes records over from one topic to another; where it is in the first is part of each transaction."""

    def __init__(self, client: Client, judge: Confluent, source: str, target: str) -> None:
        self._client, self._judge, self._source, self._target = client, judge, source, target
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Its id is given to a new producer when the last transaction is over: then offsets are true."""
        self._producer = persist(lambda: self._client.producer(transactional_id=self._target))
        committed = persist(lambda: self._judge.committed(self._target, self._source))
        self._next = committed.get(0, 0)

    def close(self) -> None:
        self._producer.close()

    def up_to(self, end: int) -> None:
        while self._next < end:
            try:
                self._producer.begin()
                self._producer.send(self._target, batch(self._next))
                self._producer.send_offsets(self._target, self._source, {0: self._next + 1})
                self._producer.commit()
                self._next += 1
            except Refused:
                self._producer.close()
                self._begin_anew()


@needs("transactions", "open transactions", "transaction offsets", "succession")
def test_a_copy_is_exact_though_the_groups_coordinator_dies(
    place: Stage, kind: type[Client], ensemble: Ensemble, name: str
) -> None:
    client, judge = ensemble.get(kind, place.bootstrap), ensemble.get(Confluent, place.bootstrap)
    source, target = f"{name}-source", f"{name}-target"
    judge.create_topic(source, 1, place.replicas)
    judge.create_topic(target, 1, place.replicas)
    write(judge, source, [Record(b"k", b"%d" % number) for number in range(ROUNDS)])
    copy = Copy(client, judge, source, target)
    copy.up_to(BEFORE)
    with place.leader_dies(GROUPS, target):
        copy.up_to(ROUNDS)
        copy.close()
        until(lambda: len(content(judge, target)) >= 5 * ROUNDS, "all is committed")
        assert content(judge, target) == written(range(ROUNDS))


@needs("commit")
@pytest.mark.parametrize("protocol", ["classic", pytest.param("consumer", marks=needs("consumer protocol"))])
def test_a_group_goes_on_from_its_offsets(
    place: Stage, kind: type[Client], ensemble: Ensemble, name: str, protocol: str
) -> None:
    client, judge = ensemble.get(kind, place.bootstrap), ensemble.get(Confluent, place.bootstrap)
    judge.create_topic(name, 1, place.replicas)
    write(judge, name, batch(0) + batch(1))
    rows: list[Row] = []
    with reading(client, name, group=name, protocol=protocol) as consumer:
        rows += read(consumer, 10)
        consumer.commit(next_offsets(rows))
        with place.leader_dies(GROUPS, name):
            write(judge, name, batch(2) + batch(3), idempotent=True)
            end = time.monotonic() + PATIENCE_S
            while len(rows) < 20 and time.monotonic() < end:
                rows += persist(consumer.poll)
            persist(lambda: consumer.commit(next_offsets(rows)))
            assert [row.value for row in rows] == written(range(4)), "nothing twice, nothing lost"
            assert judge.committed(name, name) == {0: 20}
    write(judge, name, batch(4))
    with reading(client, name, group=name, protocol=protocol) as consumer:
        assert [row.value for row in read(consumer, 5)] == written(range(4, 5))
