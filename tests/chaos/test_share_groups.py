"""kill -9 under share groups: what was accepted is never delivered again, what was not always is."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from confluent_kafka.admin import AdminClient

from tests.support.broker_cluster import BrokerCluster
from tests.support.broker_process import BrokerProcess
from tests.support.share_members import ACCEPT, RELEASE, Member, Queue, until

SETTINGS = {
    "group.share.min.record.lock.duration.ms": "1000",
    "group.share.record.lock.duration.ms": "2000",
    "group.share.min.heartbeat.interval.ms": "100",
    "group.share.heartbeat.interval.ms": "100",
    "group.share.min.session.timeout.ms": "1000",
    "share.coordinator.state.topic.num.partitions": "3",
    "offsets.topic.num.partitions": "1",
    "broker.heartbeat.interval.ms": "200",
    "broker.session.timeout.ms": "1000",
}
OPTIONS = tuple(word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}"))
RECORDS = 120
KILLS = 10


def test_kill_9_of_the_broker_forgets_no_acknowledgement(
    new_broker: Callable[..., BrokerProcess], name: str
) -> None:
    options = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    broker = new_broker(*options).start()
    queue = Queue(broker.bootstrap, name)
    queue.put(*map(str, range(10)))
    with queue.member() as one:
        accepted: set[str] = set()
        while len(accepted) < 5:
            for message in one.poll():
                is_odd = int(message.value()) % 2
                one.acknowledge(message, ACCEPT if is_odd else RELEASE)
                accepted |= {message.value()} if is_odd else set()
            assert set(one.commit().values()) <= {None}
        broker.kill()
    broker.start()
    with queue.member() as one:
        assert set(one.take(5)) == {"0", "2", "4", "6", "8"}


def accept(member: Member, confirmed: set[str]) -> None:
    """Take what there is, and note what was certainly accepted; nothing of that may ever come again."""
    taken = member.poll(0.5)
    for message in taken:
        assert message.value().decode() not in confirmed, "accepted, and delivered again"
        member.acknowledge(message)
    outcomes = {(one.topic, one.partition): error for one, error in member.commit().items()}
    for message in taken:
        if outcomes.get((message.topic(), message.partition()), "unknown") is None:
            confirmed.add(message.value().decode())


def test_a_leader_is_killed_while_two_consumers_work_through_a_queue(
    new_cluster: Callable[..., BrokerCluster], name: str
) -> None:
    cluster = new_cluster(3, *OPTIONS).start()
    queue = Queue(cluster.bootstrap, name, partitions=3, replicas=3)
    queue.put(*(str(value) for value in range(RECORDS)))
    confirmed: set[str] = set()
    few = {"max.poll.records": 10}
    with queue.member(**few) as one, queue.member(**few) as two:
        while len(confirmed) < RECORDS // 4:
            accept(one, confirmed)
            accept(two, confirmed)
        leader_of(cluster, "__share_group_state").kill()
        queue.put(*(str(value) for value in range(RECORDS, RECORDS + 10)))

        def is_done() -> bool:
            accept(one, confirmed)
            accept(two, confirmed)
            return len(confirmed) == RECORDS + 10

        until(is_done)


def leader_of(cluster: BrokerCluster, topic: str) -> BrokerProcess:
    """Who leads the first partition."""
    metadata = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0}).list_topics(topic, 10)
    return cluster[metadata.topics[topic].partitions[0].leader]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_brokers_are_killed_one_after_the_other(new_cluster: Callable[..., BrokerCluster], name: str) -> None:
    """Every broker leads something of the queue, of its states or of the group; each kill hits another."""
    cluster = new_cluster(3, *OPTIONS).start()
    queue = Queue(cluster.bootstrap, name, partitions=6, replicas=3)
    confirmed: set[str] = set()
    written = 0
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    print(f"seed {seed}")
    with ExitStack() as stack:
        members = [stack.enter_context(queue.member(**{"max.poll.records": 10})) for _ in range(3)]

        def is_done() -> bool:
            for member in members:
                accept(member, confirmed)
            return len(confirmed) == written

        for _ in range(KILLS):
            queue.put(*(str(value) for value in range(written, written + RECORDS)))
            written += RECORDS
            for member in members:
                accept(member, confirmed)
            victim = rng.choice(cluster.running)
            victim.kill()
            until(is_done, 60)
            victim.start()
