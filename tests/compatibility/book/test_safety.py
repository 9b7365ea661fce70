"""What claims safety: on one broker, and on three of which one is killed in the middle of the scene."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

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


@needs("commit")
def test_a_group_goes_on_from_its_offsets(
    place: Stage, kind: type[Client], ensemble: Ensemble, name: str
) -> None:
    client, judge = ensemble.get(kind, place.bootstrap), ensemble.get(Confluent, place.bootstrap)
    judge.create_topic(name, 1, place.replicas)
    write(judge, name, batch(0) + batch(1))
    rows: list[Row] = []
    with reading(client, name, group=name) as consumer:
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
    with reading(client, name, group=name) as consumer:
        assert [row.value for row in read(consumer, 5)] == written(range(4, 5))
