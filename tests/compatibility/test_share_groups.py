"""Share groups as confluent-kafka lives in them: settings, members, and what survives (KIP-932)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient, NewPartitions

from streamkit.cli.asking import ask
from streamkit.client import share_groups
from streamkit.client.share_groups import ShareGroup
from tests.compatibility.members import DEADLINE_S, PARTITIONS, make_topic, produce
from tests.compatibility.takers import configure, poll_until, taker
from tests.support.broker_process import BrokerProcess

pytestmark = pytest.mark.compat

QUICK = (
    *("--set", "group.share.min.heartbeat.interval.ms=100"),
    *("--set", "group.share.heartbeat.interval.ms=200"),
    *("--set", "group.share.min.session.timeout.ms=1000"),
    *("--set", "group.share.session.timeout.ms=3000"),
    *("--set", "offsets.topic.num.partitions=4"),
    *("--set", "share.coordinator.state.topic.num.partitions=4"),
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


def described(broker: BrokerProcess, group: str) -> ShareGroup | None:
    return ask(broker.bootstrap, lambda node: share_groups.described(node, group))


def shares(broker: BrokerProcess, group: str) -> list[int]:
    """How many partitions each member looks into, sorted."""
    found = described(broker, group)
    return [] if found is None else sorted(len(member.partitions) for member in found.members)


@pytest.mark.parametrize("reset", ["earliest", "by_duration:PT1H"])
def test_a_group_that_is_yet_to_come_is_told_where_to_begin(
    quick: BrokerProcess, topic: str, reset: str
) -> None:
    produce(quick, topic, range(30))
    configure(quick, topic, share_auto_offset_reset=reset)
    with taker(quick, topic, topic) as one:
        poll_until(lambda: sorted(one.values) == list(range(30)), one)


def test_one_that_is_told_nothing_begins_at_the_end(quick: BrokerProcess, topic: str) -> None:
    produce(quick, topic, range(30))
    with taker(quick, topic, topic) as one:
        poll_until(lambda: _has_begun(quick, topic), one)
        produce(quick, topic, range(30, 60))
        poll_until(lambda: sorted(one.values) == list(range(30, 60)), one)


def _has_begun(broker: BrokerProcess, group: str) -> bool:
    found = described(broker, group)
    return found is not None and [one.start for one in found.partitions] == [10] * PARTITIONS


def test_a_setting_out_of_bounds_is_refused(quick: BrokerProcess, name: str) -> None:
    for setting in ({"share_session_timeout_ms": "70000"}, {"share_auto_offset_reset": "sometimes"}):
        with pytest.raises(Exception) as refusal:  # confluent-kafka raises one of its own
            configure(quick, name, **setting)
        assert refusal.value.args[0].code() == KafkaError.INVALID_CONFIG


def test_members_divide_the_partitions_and_then_share_them(quick: BrokerProcess, topic: str) -> None:
    """Five members on three partitions: each is looked into by two of them, and everybody has one."""
    with taker(quick, topic, topic) as one:
        poll_until(lambda: shares(quick, topic) == [3], one)
        with taker(quick, topic, topic) as two, taker(quick, topic, topic) as three:
            poll_until(lambda: shares(quick, topic) == [1, 1, 1], one, two, three)
            with taker(quick, topic, topic) as four, taker(quick, topic, topic) as five:
                all_five = (one, two, three, four, five)
                poll_until(lambda: shares(quick, topic) == [1, 1, 1, 1, 2], *all_five)
                produce(quick, topic, range(300))
                poll_until(lambda: sum(len(each.values) for each in all_five) >= 300, *all_five)
                assert sorted(value for each in all_five for value in each.values) == list(range(300))
        poll_until(lambda: shares(quick, topic) == [3], one)


def test_new_partitions_are_looked_into(quick: BrokerProcess, topic: str) -> None:
    configure(quick, topic, share_auto_offset_reset="earliest")
    with taker(quick, topic, topic) as one:
        poll_until(lambda: shares(quick, topic) == [3], one)
        admin = AdminClient({"bootstrap.servers": quick.bootstrap})
        admin.create_partitions([NewPartitions(topic, 5)])[topic].result(DEADLINE_S)
        poll_until(lambda: shares(quick, topic) == [5], one)
        produce(quick, topic, range(5))
        poll_until(lambda: sorted(one.values) == list(range(5)), one)


def test_a_group_goes_on_where_its_broker_was_killed(
    new_broker: Callable[..., BrokerProcess], name: str
) -> None:
    broker = new_broker(*QUICK).start()
    make_topic(broker, name)
    configure(broker, name, share_auto_offset_reset="earliest")
    produce(broker, name, range(30))
    with taker(broker, name, name) as one:
        poll_until(lambda: len(one.values) == 30, one)
        poll_until(lambda: _lag(broker, name) == 0, one)
        broker.kill()
        broker.start()
        produce(broker, name, range(30, 60))
        poll_until(lambda: len(one.values) >= 60, one)
        assert sorted(one.values) == list(range(60)), "each of them once, for all had been acknowledged"


def _lag(broker: BrokerProcess, group: str) -> int:
    found = described(broker, group)
    assert found is not None
    return sum(-1 if one.lag is None else one.lag for one in found.partitions)
