"""Brokers and producer ids."""

from __future__ import annotations

from streamkit.broker.controller.features import SUPPORTED
from streamkit.broker.controller.records import METADATA_VERSION
from tests.broker.controller.cluster import Cluster, topic


def test_a_new_log_begins_with_the_version_a_reader_must_know() -> None:
    cluster = Cluster()
    assert cluster.image.features == {"metadata.version": METADATA_VERSION, "group.version": 1}
    before = len(cluster.log)
    cluster.register(1)
    assert len(cluster.log) == before + 1


def test_a_brokers_epoch_is_the_offset_of_its_registration() -> None:
    cluster = Cluster(brokers=0)
    first = cluster.register(1)
    assert first == len(SUPPORTED)
    assert cluster.register(2) == first + 1
    assert cluster.register(1) == first + 2
    assert cluster.image.brokers[1].epoch == first + 2
    endpoint = cluster.image.brokers[2].endpoint("PLAINTEXT")
    assert endpoint is not None and (endpoint.host, endpoint.port) == ("localhost", 9002)
    assert cluster.image.brokers[2].endpoint("OTHER") is None


def test_after_an_unclean_stop_every_partition_led_begins_a_leader_epoch() -> None:
    cluster = Cluster(brokers=2)
    cluster.create(topic("a", assignments={0: [1, 2], 1: [2, 1]}))
    cluster.register(1, clean_start=False)
    first, second = cluster.image.topics["a"].partitions
    assert (first.leader, first.leader_epoch, first.partition_epoch) == (1, 1, 1)
    assert (second.leader, second.leader_epoch, second.partition_epoch) == (2, 0, 0)
    assert cluster.changes.changed_partitions == [(cluster.image.topics["a"], 0)]
    cluster.register(1)
    assert cluster.image.topics["a"].partitions[0].leader_epoch == 1


def test_producer_ids_are_given_out_once() -> None:
    cluster = Cluster()
    first = cluster.apply(cluster.controller.allocate_producer_ids(1, 1))
    second = cluster.apply(cluster.controller.allocate_producer_ids(1, 1))
    assert (first.first, first.size, second.first) == (0, 1000, 1000)
    assert cluster.replayed().next_producer_id == 2000
