"""A share group of three real brokers: whoever coordinates it is killed, and the queue goes on."""

from __future__ import annotations

from collections.abc import Callable

from confluent_kafka.admin import AdminClient, NewTopic

from streamkit.broker.coordination.placement import partition_for
from tests.broker.cluster.test_transactions import CONSUMER_OFFSETS, FAST, leaders
from tests.compatibility.members import PARTITIONS, produce
from tests.compatibility.takers import Taker, configure, poll_until, taker
from tests.support.broker_cluster import BrokerCluster

QUICK = (
    *("--set", "group.share.min.heartbeat.interval.ms=100"),
    *("--set", "group.share.heartbeat.interval.ms=200"),
    *("--set", "share.coordinator.state.topic.num.partitions=3"),
)


def test_a_queue_goes_on_when_its_coordinator_is_killed(
    new_cluster: Callable[..., BrokerCluster], name: str
) -> None:
    """Nothing that was acknowledged comes again, and nothing is left out."""
    cluster = new_cluster(3, *FAST, *QUICK).start()
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(name, PARTITIONS, 3)])[name].result(30)
    configure(cluster, name, share_auto_offset_reset="earliest")
    with taker(cluster, name, name) as first, taker(cluster, name, name) as second:
        produce(cluster, name, range(300))
        poll_until(lambda: len(first.values) + len(second.values) == 300, first, second)
        acknowledged(first, second)
        found = leaders(cluster, CONSUMER_OFFSETS)
        cluster[found[partition_for(name, len(found))]].kill()
        produce(cluster, name, range(300, 600))
        poll_until(lambda: len(set(first.values + second.values)) == 600, first, second)
        assert sorted(first.values + second.values)[:300] == list(range(300))


def acknowledged(*takers: Taker) -> None:
    for one in takers:
        one.consumer.commit_sync()
