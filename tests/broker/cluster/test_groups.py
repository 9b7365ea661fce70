"""Groups of three real brokers, of both protocols: their coordinator is killed, and its successor goes on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from streamkit.broker.coordination.placement import partition_for
from tests.broker.cluster.test_transactions import CONSUMER_OFFSETS, FAST, leaders
from tests.compatibility.members import PARTITIONS, Member, member, produce, until
from tests.support.broker_cluster import BrokerCluster

CLASSIC: dict[str, object] = {"session.timeout.ms": 10_000}
CONSUMER: dict[str, object] = {
    "group.protocol": "consumer",
    "session.timeout.ms": None,
    "heartbeat.interval.ms": None,
}
QUICK = (
    *("--set", "group.consumer.min.heartbeat.interval.ms=100"),
    *("--set", "group.consumer.heartbeat.interval.ms=200"),
)


def is_shared(first: Member, second: Member) -> bool:
    """Each partition has one owner."""
    return bool(first.owned and second.owned) and sorted([*first.owned, *second.owned]) == [0, 1, 2]


@pytest.mark.parametrize("protocol", [CLASSIC, CONSUMER], ids=["classic", "consumer"])
def test_members_go_on_from_their_commits_when_their_coordinator_is_killed(
    new_cluster: Callable[..., BrokerCluster], name: str, protocol: dict[str, object]
) -> None:
    """G1, G3: nothing is read twice after a commit, and nobody has to leave."""
    cluster = new_cluster(3, *FAST, *QUICK).start()
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(name, PARTITIONS, 3)])[name].result(30)
    settings = {**protocol, "reconnect.backoff.max.ms": 200, "log_level": 0}
    with (
        member(cluster, name, name, **settings) as first,
        member(cluster, name, name, **settings) as second,
    ):
        until(lambda: is_shared(first, second), "both have a share")
        produce(cluster, name, range(300))
        until(lambda: len(first.values) + len(second.values) == 300, "300 records are read")
        for one in (first, second):
            one.commit()
        found = leaders(cluster, CONSUMER_OFFSETS)
        cluster[found[partition_for(name, len(found))]].kill()
        produce(cluster, name, range(300, 600))
        until(lambda: len(set(first.values + second.values)) == 600, "the next 300 are read")
        for one in (first, second):
            one.commit()
        assert sorted(first.values + second.values) == list(range(600))
        assert is_shared(first, second)
    with member(cluster, name, name, **settings) as third:
        until(lambda: third.owned == {0, 1, 2}, "the next member owns everything")
        produce(cluster, name, range(600, 630))
        until(lambda: len(third.values) >= 30, "it goes on from their commits")
        assert sorted(third.values) == list(range(600, 630))
