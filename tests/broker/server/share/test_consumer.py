"""A real consumer of share groups against a real broker: confluent-kafka's ShareConsumer."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

import pytest
from confluent_kafka import Producer

from tests.support.broker_process import BrokerProcess
from tests.support.share_members import ACCEPT, REJECT, RELEASE, Queue

SETTINGS = {
    "group.share.min.record.lock.duration.ms": "1000",
    "group.share.min.heartbeat.interval.ms": "100",
    "group.share.heartbeat.interval.ms": "100",
    "share.coordinator.state.topic.num.partitions": "2",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
}


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker whose share groups may have short locks."""
    options = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    process = BrokerProcess(tmp_path_factory.mktemp("quick") / "data", *options).start()
    yield process
    process.stop()


def test_two_consumers_of_a_group_get_different_records(quick: BrokerProcess, name: str) -> None:
    queue = Queue(quick.bootstrap, name)
    with queue.member(**{"max.poll.records": 5}) as one, queue.member(**{"max.poll.records": 5}) as two:
        values: list[str] = []
        takers = cycle((one, two))
        while len(values) < 20:
            queue.put(str(len(values)), str(len(values) + 1))
            values += next(takers).take(2)
        assert sorted(values, key=int) == [str(value) for value in range(20)]


def test_what_is_released_comes_again_and_what_is_rejected_does_not(quick: BrokerProcess, name: str) -> None:
    queue = Queue(quick.bootstrap, name)
    with queue.member() as one:
        queue.put("released")
        assert one.take(1, then=RELEASE) == ["released"]
        assert one.take(1, then=ACCEPT) == ["released"]
        queue.put("rejected")
        assert one.take(1, then=REJECT) == ["rejected"]
        queue.put("last")
        assert one.take(1, then=ACCEPT) == ["last"]


def test_a_record_is_delivered_as_often_as_it_may_be_and_not_once_more(
    quick: BrokerProcess, name: str
) -> None:
    queue = Queue(quick.bootstrap, name, share_delivery_count_limit="3")
    with queue.member() as one:
        queue.put("poison")
        for _ in range(3):
            assert one.take(1, then=RELEASE) == ["poison"]
        queue.put("next")
        assert one.take(1) == ["next"]


def test_a_lock_that_runs_out_gives_the_record_to_another(quick: BrokerProcess, name: str) -> None:
    queue = Queue(quick.bootstrap, name, share_record_lock_duration_ms="1000")
    with queue.member() as slow, queue.member() as other:
        queue.put("record")
        taken = []
        while not taken:
            taken = slow.poll()
        assert other.take(1, then=None) == ["record"]
        slow.acknowledge(taken[0])
        ((_, error),) = slow.commit().items()
        assert error is not None


def test_of_transactions_a_group_that_wants_it_is_given_only_what_was_committed(
    quick: BrokerProcess, name: str
) -> None:
    queue = Queue(quick.bootstrap, name, share_isolation_level="read_committed")
    producer = Producer(
        {"bootstrap.servers": quick.bootstrap, "transactional.id": name, "linger.ms": 0, "log_level": 0}
    )
    producer.init_transactions(30)
    for value, commits in (("a", True), ("b", False), ("c", False), ("d", True)):
        producer.begin_transaction()
        producer.produce(name, value)
        producer.flush(30)
        if commits:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)
    with queue.member() as one:
        assert one.take(2) == ["a", "d"]
        queue.put("last")
        assert one.take(1) == ["last"]
