"""Consumer groups as real clients live in them: cooperative, static, killed, administered."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import aiokafka
import confluent_kafka
import kafka
import kafka.admin
import pytest
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.compatibility.members import (
    DEADLINE_S,
    PARTITIONS,
    SESSION_MS,
    described,
    make_topic,
    member,
    produce,
    until,
)
from tests.support.broker_process import BrokerProcess


@pytest.fixture
def topic(broker: BrokerProcess, name: str) -> str:
    make_topic(broker, name)
    return name


def test_cooperative_members_keep_what_they_need_not_give_away(
    broker: BrokerProcess, topic: str, name: str
) -> None:
    """KIP-429: a partition that stays with its owner is never revoked."""
    settings = {"partition.assignment.strategy": "cooperative-sticky"}
    with member(broker, topic, name, **settings) as first:
        until(lambda: first.owned == {0, 1, 2}, "the first owns everything")
        with member(broker, topic, name, **settings) as second:
            until(lambda: len(second.owned) == 1, "the second gets its share")
            until(lambda: first.owned | second.owned == {0, 1, 2}, "everything has an owner")
            assert not first.owned & second.owned
            assert first.revoked == [second.owned], "only what moved was revoked"
        until(lambda: first.owned == {0, 1, 2}, "the first takes over what the second left")
        assert first.lost == 0


def test_a_static_member_restarts_without_a_rebalance(broker: BrokerProcess, topic: str, name: str) -> None:
    """G8 with a real client: the other member notices nothing."""
    with member(broker, topic, name, **{"group.instance.id": "one"}) as stays, ExitStack() as stack:
        before = stack.enter_context(member(broker, topic, name, **{"group.instance.id": "two"}))
        until(lambda: bool(stays.owned) and bool(before.owned), "both own")
        until(lambda: stays.owned | before.owned == {0, 1, 2}, "everything has an owner")
        owned, moves = set(before.owned), len(stays.revoked)
        stack.close()
        with member(broker, topic, name, **{"group.instance.id": "two"}) as after:
            until(lambda: bool(after.owned), "the restarted member owns partitions again")
            assert after.owned == owned
            assert len(stays.revoked) == moves


def test_two_static_members_with_one_name_are_told(broker: BrokerProcess, topic: str, name: str) -> None:
    with member(broker, topic, name, **{"group.instance.id": "one"}) as older:
        until(lambda: older.owned == {0, 1, 2}, "the first owns everything")
        with member(broker, topic, name, **{"group.instance.id": "one"}) as newer:
            until(lambda: newer.owned == {0, 1, 2}, "the newer takes its place")
            until(lambda: any(e.code() == KafkaError._FATAL for e in older.errors), "the older is fenced")


def test_a_member_that_dies_is_replaced_after_its_session(
    broker: BrokerProcess, topic: str, name: str
) -> None:
    with member(broker, topic, name) as stays, ExitStack() as stack:
        # A static member does not leave when it closes, so to the group this is a death.
        dies = stack.enter_context(member(broker, topic, name, **{"group.instance.id": "dies"}))
        until(lambda: bool(dies.owned) and bool(stays.owned), "both own")
        stack.close()
        until(lambda: stays.owned == {0, 1, 2}, "the survivor owns everything")


def test_a_group_survives_the_brokers_death(new_broker: Callable[..., BrokerProcess], name: str) -> None:
    """kill -9: members, assignments and offsets are those of before; nothing is read twice after a commit."""
    broker = new_broker("--set", "offsets.topic.num.partitions=4").start()
    make_topic(broker, name)
    with member(broker, name, name) as first, member(broker, name, name) as second:
        until(lambda: bool(first.owned) and bool(second.owned), "both own")
        produce(broker, name, range(300))
        until(lambda: len(first.values) + len(second.values) == 300, "300 records are read")
        for one in (first, second):
            one.commit()
        before = described(broker, name)
        moves = len(first.revoked) + len(second.revoked)
        broker.kill()
        broker.start()
        after = described(broker, name)
        assert after.state.name == "STABLE"
        assert {m.member_id for m in after.members} == {m.member_id for m in before.members}
        produce(broker, name, range(300, 600))
        until(lambda: len(first.values) + len(second.values) >= 600, "the next 300 are read")
        assert sorted(first.values + second.values) == list(range(600))
        assert len(first.revoked) + len(second.revoked) == moves, "and nobody was disturbed"


def test_a_group_resumes_from_its_commits_after_the_brokers_death(
    new_broker: Callable[..., BrokerProcess], name: str
) -> None:
    broker = new_broker("--set", "offsets.topic.num.partitions=4").start()
    make_topic(broker, name)
    produce(broker, name, range(300))
    with member(broker, name, name) as reader:
        until(lambda: len(reader.values) == 300, "300 records are read")
        reader.commit()
    broker.kill()
    broker.start()
    produce(broker, name, range(300, 330))
    with member(broker, name, name) as reader:
        until(lambda: len(reader.values) >= 30, "the next 30 are read")
        assert sorted(reader.values) == list(range(300, 330))


async def test_aiokafka_and_kafka_python_share_a_group(broker: BrokerProcess, topic: str, name: str) -> None:
    """Clients of different makers agree on `range`."""
    theirs = aiokafka.AIOKafkaConsumer(
        topic,
        bootstrap_servers=broker.bootstrap,
        group_id=name,
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=200,
        partition_assignment_strategy=[RangePartitionAssignor],
    )
    others = kafka.KafkaConsumer(
        topic,
        bootstrap_servers=broker.bootstrap,
        group_id=name,
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=200,
    )
    stop = threading.Event()

    def poll() -> None:
        while not stop.is_set():
            others.poll(timeout_ms=50)
        others.close()

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        await theirs.start()
        end = time.monotonic() + DEADLINE_S
        while True:
            mine = {p.partition for p in theirs.assignment()}
            yours = {p.partition for p in others.assignment()}
            if mine and yours and mine | yours == {0, 1, 2} and not mine & yours:
                break
            assert time.monotonic() < end, (mine, yours)
            await theirs.getmany(timeout_ms=50)
    finally:
        stop.set()
        await theirs.stop()
        thread.join(DEADLINE_S)


def test_groups_are_administered_by_confluent_kafka(broker: BrokerProcess, topic: str, name: str) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    produce(broker, topic, range(30))
    with member(broker, topic, name, **{"client.id": "someone"}) as reader:
        until(lambda: len(reader.values) == 30, "30 records are read")
        reader.commit()
        group = described(broker, name)
        assert (group.state.name, group.partition_assignor) == ("STABLE", "range")
        (one,) = group.members
        assert (one.client_id, one.host) == ("someone", "/127.0.0.1")
        assert len(one.assignment.topic_partitions) == PARTITIONS
        listed = admin.list_consumer_groups().result(DEADLINE_S).valid
        assert name in {found.group_id for found in listed}
        with pytest.raises(confluent_kafka.KafkaException, match="NON_EMPTY_GROUP"):
            admin.delete_consumer_groups([name])[name].result(DEADLINE_S)
    until(lambda: described(broker, name).state.name == "EMPTY", "the group is empty")
    moved = ConsumerGroupTopicPartitions(name, [TopicPartition(topic, 0, 3)])
    admin.alter_consumer_group_offsets([moved])[name].result(DEADLINE_S)
    asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)])
    found = asked[name].result(DEADLINE_S)
    assert {p.partition: p.offset for p in found.topic_partitions} == {0: 3, 1: 10, 2: 10}
    admin.delete_consumer_groups([name])[name].result(DEADLINE_S)
    listed = admin.list_consumer_groups().result(DEADLINE_S).valid
    assert name not in {found.group_id for found in listed}


def test_groups_are_administered_by_kafka_python(broker: BrokerProcess, topic: str, name: str) -> None:
    produce(broker, topic, range(30))
    with member(broker, topic, name) as reader:
        until(lambda: len(reader.values) == 30, "30 records are read")
        reader.commit()
    admin = kafka.admin.KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    try:
        offsets = admin.list_group_offsets([name])[name]
        assert {at.partition: found.offset for at, found in offsets.items()} == {0: 10, 1: 10, 2: 10}
        assert name in str(admin.list_groups())
        assert "Empty" in str(admin.describe_groups([name]))
        admin.delete_groups([name])
        assert name not in str(admin.list_groups())
    finally:
        admin.close()
