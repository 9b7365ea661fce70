"""Groups of the new protocol as confluent-kafka lives in them (`group.protocol=consumer`, KIP-848)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import confluent_kafka
import pytest
from confluent_kafka import ConsumerGroupType, KafkaError
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourceType,
)

from tests.compatibility.members import (
    DEADLINE_S,
    Member,
    described,
    make_topic,
    member,
    produce,
    until,
)
from tests.support.broker_process import BrokerProcess

CONSUMER = {"group.protocol": "consumer", "session.timeout.ms": None, "heartbeat.interval.ms": None}
QUICK = (
    *("--set", "group.consumer.min.heartbeat.interval.ms=100"),
    *("--set", "group.consumer.heartbeat.interval.ms=200"),
    *("--set", "group.consumer.min.session.timeout.ms=1000"),
    *("--set", "group.consumer.session.timeout.ms=3000"),
    *("--set", "offsets.topic.num.partitions=4"),
)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker whose members are asked to say something five times a second."""
    process = BrokerProcess(tmp_path_factory.mktemp("quick") / "data", *QUICK).start()
    yield process
    process.stop()


@pytest.fixture
def topic(quick: BrokerProcess, name: str) -> str:
    make_topic(quick, name)
    return name


def share_everything(*members: Member) -> Callable[[], bool]:
    """Three partitions, each in one pair of hands, and nobody without."""

    def condition() -> bool:
        owned = [number for one in members for number in one.owned]
        return sorted(owned) == [0, 1, 2] and all(one.owned for one in members)

    return condition


def test_partitions_move_and_only_those(quick: BrokerProcess, topic: str, name: str) -> None:
    with member(quick, topic, name, **CONSUMER) as first:
        until(lambda: first.owned == {0, 1, 2}, "the first owns everything")
        with member(quick, topic, name, **CONSUMER) as second:
            until(share_everything(first, second), "both have a share")
            assert first.revoked == [second.owned], "only what moved was revoked"
            with member(quick, topic, name, **CONSUMER) as third:
                until(share_everything(first, second, third), "all three have one")
        until(lambda: first.owned == {0, 1, 2}, "the first takes over what the others left")
        assert first.lost == 0 and not first.errors


def test_commits_and_resuming(quick: BrokerProcess, topic: str, name: str) -> None:
    """G3: the next member goes on where the last one committed."""
    produce(quick, topic, range(300))
    with member(quick, topic, name, **CONSUMER) as reader:
        until(lambda: len(reader.values) == 300, "300 records are read")
        reader.commit()
    produce(quick, topic, range(300, 330))
    with member(quick, topic, name, **CONSUMER) as reader:
        until(lambda: len(reader.values) >= 30, "the next 30 are read")
        assert sorted(reader.values) == list(range(300, 330))


def test_records_flow_through_rebalances_once(quick: BrokerProcess, topic: str, name: str) -> None:
    with member(quick, topic, name, **CONSUMER) as first, ExitStack() as stack:
        produce(quick, topic, range(150))
        until(lambda: len(first.values) == 150, "the first 150 are read")
        first.commit()
        second = stack.enter_context(member(quick, topic, name, **CONSUMER))
        until(share_everything(first, second), "both have a share")
        produce(quick, topic, range(150, 300))
        until(lambda: len(first.values) + len(second.values) >= 300, "the next 150 are read")
        assert sorted(first.values + second.values) == list(range(300))


@pytest.mark.parametrize("assignor", ["uniform", "range"])
def test_the_coordinator_assigns_as_it_is_asked_to(
    quick: BrokerProcess, topic: str, name: str, assignor: str
) -> None:
    settings = {**CONSUMER, "group.remote.assignor": assignor}
    with member(quick, topic, name, **settings) as one:
        until(lambda: one.owned == {0, 1, 2}, "it owns everything")
        found = described(quick, name)
        assert (found.partition_assignor, found.type) == (assignor, ConsumerGroupType.CONSUMER)


def test_a_pattern_finds_topics_that_come_later(quick: BrokerProcess, name: str) -> None:
    make_topic(quick, f"{name}-a")
    with member(quick, f"^{name}-.*", name, **CONSUMER) as one:
        produce(quick, f"{name}-a", range(3))
        until(lambda: sorted(one.values) == [0, 1, 2], "the first topic is read")
        make_topic(quick, f"{name}-b")
        produce(quick, f"{name}-b", range(3, 6))
        until(lambda: sorted(one.values) == [0, 1, 2, 3, 4, 5], "and the second")


def test_a_topic_that_grows_is_read_whole(quick: BrokerProcess, topic: str, name: str) -> None:
    with member(quick, topic, name, **CONSUMER) as one:
        until(lambda: one.owned == {0, 1, 2}, "it owns everything")
        admin = AdminClient({"bootstrap.servers": quick.bootstrap})
        admin.create_partitions([NewPartitions(topic, 5)])[topic].result(DEADLINE_S)
        until(lambda: one.owned == {0, 1, 2, 3, 4}, "and what was added")


def test_a_static_member_restarts_without_a_rebalance(quick: BrokerProcess, topic: str, name: str) -> None:
    """G8."""
    with member(quick, topic, name, **CONSUMER, **{"group.instance.id": "one"}) as stays:
        with member(quick, topic, name, **CONSUMER, **{"group.instance.id": "two"}) as before:
            until(share_everything(stays, before), "both have a share")
            owned, moves = set(before.owned), len(stays.revoked)
        with member(quick, topic, name, **CONSUMER, **{"group.instance.id": "two"}) as after:
            until(lambda: after.owned == owned, "the restarted member has what it had")
            assert len(stays.revoked) == moves


def test_a_second_static_member_of_the_name_is_refused(quick: BrokerProcess, topic: str, name: str) -> None:
    with member(quick, topic, name, **CONSUMER, **{"group.instance.id": "one"}) as older:
        until(lambda: older.owned == {0, 1, 2}, "the first owns everything")
        with member(quick, topic, name, **CONSUMER, **{"group.instance.id": "one"}) as newer:
            unreleased = {KafkaError.UNRELEASED_INSTANCE_ID, KafkaError._FATAL}
            until(lambda: any(e.code() in unreleased for e in newer.errors), "the second is told")
        assert older.owned == {0, 1, 2} and not older.errors


def test_a_member_that_dies_is_replaced_after_its_session(
    quick: BrokerProcess, topic: str, name: str
) -> None:
    with member(quick, topic, name, **CONSUMER) as stays:
        # A static member leaves for a moment when it closes; if it stays away, that was its death.
        with member(quick, topic, name, **CONSUMER, **{"group.instance.id": "dies"}) as dies:
            until(share_everything(stays, dies), "both have a share")
        until(lambda: stays.owned == {0, 1, 2}, "the survivor owns everything")


def test_a_group_survives_the_brokers_death(new_broker: Callable[..., BrokerProcess], name: str) -> None:
    """kill -9: members, assignments and offsets are those of before; nothing is read twice after a commit."""
    broker = new_broker(*QUICK, "--set", "group.consumer.session.timeout.ms=10000").start()
    make_topic(broker, name)
    with member(broker, name, name, **CONSUMER) as first, member(broker, name, name, **CONSUMER) as second:
        until(share_everything(first, second), "both have a share")
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


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_a_group_moves_to_the_new_protocol_and_back_while_it_works(
    quick: BrokerProcess, topic: str, name: str, strategy: str
) -> None:
    """A rolling restart with `group.protocol` changed, each way."""
    classic = {"partition.assignment.strategy": strategy}
    with ExitStack() as olds:
        old = olds.enter_context(member(quick, topic, name, **classic))
        until(lambda: old.owned == {0, 1, 2}, "the classic member owns everything")
        produce(quick, topic, range(150))
        until(lambda: len(old.values) == 150, "150 records are read")
        old.commit()
        with member(quick, topic, name, **CONSUMER) as new:
            until(share_everything(old, new), "the two of them share")
            assert described(quick, name).type == ConsumerGroupType.CONSUMER
            produce(quick, topic, range(150, 300))
            until(lambda: len(old.values) + len(new.values) == 300, "the next 150 are read")
            assert sorted(old.values + new.values) == list(range(300))
            for one in (old, new):
                one.commit()
        until(lambda: old.owned == {0, 1, 2}, "the classic member owns everything again")
        assert described(quick, name).type == ConsumerGroupType.CLASSIC


def test_administration(quick: BrokerProcess, topic: str, name: str) -> None:
    admin = AdminClient({"bootstrap.servers": quick.bootstrap})
    produce(quick, topic, range(30))
    with member(quick, topic, name, **CONSUMER, **{"client.id": "someone"}) as reader:
        until(lambda: len(reader.values) == 30, "30 records are read")
        reader.commit()
        group = described(quick, name)
        assert group.state.name == "STABLE"
        (one,) = group.members
        assert (one.client_id, one.host) == ("someone", "/127.0.0.1")
        assert {p.partition for p in one.assignment.topic_partitions} == {0, 1, 2}
        asked = admin.list_consumer_groups(types={ConsumerGroupType.CONSUMER})
        assert name in {found.group_id for found in asked.result(DEADLINE_S).valid}
        asked = admin.list_consumer_groups(types={ConsumerGroupType.CLASSIC})
        assert name not in {found.group_id for found in asked.result(DEADLINE_S).valid}
        with pytest.raises(confluent_kafka.KafkaException, match="NON_EMPTY_GROUP"):
            admin.delete_consumer_groups([name])[name].result(DEADLINE_S)
    until(lambda: described(quick, name).state.name == "EMPTY", "the group is empty")
    admin.delete_consumer_groups([name])[name].result(DEADLINE_S)
    listed = admin.list_consumer_groups().result(DEADLINE_S).valid
    assert name not in {found.group_id for found in listed}


def test_a_group_is_configured_before_it_exists(quick: BrokerProcess, topic: str, name: str) -> None:
    admin = AdminClient({"bootstrap.servers": quick.bootstrap})
    entry = ConfigEntry("consumer.session.timeout.ms", "2000", incremental_operation=AlterConfigOpType.SET)
    group = ConfigResource(ResourceType.GROUP, name, incremental_configs=[entry])
    (altered,) = admin.incremental_alter_configs([group]).values()
    altered.result(DEADLINE_S)
    (asked,) = admin.describe_configs([ConfigResource(ResourceType.GROUP, name)]).values()
    found = asked.result(DEADLINE_S)
    assert found["consumer.session.timeout.ms"].value == "2000"
    assert found["consumer.heartbeat.interval.ms"].value == "200"
    with member(quick, topic, name, **CONSUMER) as one:
        until(lambda: one.owned == {0, 1, 2}, "it owns everything")
