"""Partitions moved, moved elsewhere while they move, cancelled, listed."""

from __future__ import annotations

from typing import Any

import pytest

from streamkit.broker.controller.image import ConfigResource, ResourceType
from streamkit.broker.controller.reassignment import list_reassignments
from streamkit.broker.controller.records import RECOVERING
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from streamkit.protocol.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsTopics,
)
from tests.broker.controller.cluster import Cluster, alter_isr, move, topic
from tests.broker.controller.test_configs import alter

ORDERS = ConfigResource(ResourceType.TOPIC, "orders")


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster(brokers=6)
    made.create(topic("orders", assignments={0: [1, 2, 3], 1: [2, 3, 1]}))
    return made


def ongoing(cluster: Cluster, **asked: list[int]) -> dict[tuple[str, int], tuple[list[int], ...]]:
    topics = [ListPartitionReassignmentsTopics(name=n, partition_indexes=i) for n, i in asked.items()]
    response = list_reassignments(
        cluster.image, ListPartitionReassignmentsRequest(topics=topics if asked else None)
    )
    return {
        (one.name, move.partition_index): (move.replicas, move.adding_replicas, move.removing_replicas)
        for one in response.topics
        for move in one.partitions
    }


def test_a_move_adds_first_and_drops_last(cluster: Cluster) -> None:
    assert move(cluster, [4, 5, 1]).error_code == ErrorCode.NONE
    after = cluster.partition()
    assert (after.replicas, after.adding_replicas, after.removing_replicas) == (
        (4, 5, 1, 2, 3),
        (4, 5),
        (2, 3),
    )
    assert (after.isr, after.leader, after.leader_epoch) == ((1, 2, 3), 1, 0)
    assert len(after.directories) == 5
    assert ongoing(cluster) == {("orders", 0): ([4, 5, 1, 2, 3], [4, 5], [2, 3])}
    assert ongoing(cluster, orders=[0, 1, 9], nothing=[0]) == ongoing(cluster)
    assert ongoing(cluster, orders=[1]) == {}


def test_an_order_or_fewer_replicas_are_done_at_once(cluster: Cluster) -> None:
    move(cluster, [3, 2, 1])
    assert (cluster.partition().replicas, cluster.partition().leader) == ((3, 2, 1), 1)
    move(cluster, [2, 3])
    after = cluster.partition()
    assert (after.replicas, after.isr, after.leader, after.leader_epoch) == ((2, 3), (2, 3), 2, 1)
    assert ongoing(cluster) == {}


def test_a_move_elsewhere_drops_what_came_for_the_first(cluster: Cluster) -> None:
    move(cluster, [4, 5, 1])
    move(cluster, [1, 2, 6])
    after = cluster.partition()
    assert (after.replicas, after.adding_replicas, after.removing_replicas) == (
        (1, 2, 6, 4, 5, 3),
        (6,),
        (4, 5, 3),
    )


def test_a_move_back_to_where_it_came_from_ends_it(cluster: Cluster) -> None:
    move(cluster, [4, 5, 1])
    move(cluster, [1, 2, 3])
    after = cluster.partition()
    assert (after.replicas, after.isr) == ((1, 2, 3), (1, 2, 3))
    assert not after.is_being_reassigned


def test_a_cancelled_move_goes_back(cluster: Cluster) -> None:
    move(cluster, [4, 5, 6])
    assert move(cluster, None).error_code == ErrorCode.NONE
    after = cluster.partition()
    assert (after.replicas, after.isr, after.leader) == ((1, 2, 3), (1, 2, 3), 1)
    assert after.directories == cluster.replayed().topics["orders"].partitions[0].directories
    assert not after.is_being_reassigned


def test_a_move_whose_old_replicas_fell_out_is_cancelled_uncleanly_or_not_at_all(cluster: Cluster) -> None:
    move(cluster, [4, 5])
    alter_isr(cluster, [1, 4])
    cluster.fence(1)
    assert (cluster.partition().leader, cluster.partition().isr) == (4, (4,))
    assert move(cluster, None).error_code == ErrorCode.INVALID_REPLICA_ASSIGNMENT
    alter(cluster, ORDERS, ("unclean.leader.election.enable", 0, "true"))
    assert move(cluster, None).error_code == ErrorCode.NONE
    after = cluster.partition()
    assert (after.replicas, after.isr, after.leader_recovery_state) == ((1, 2, 3), (2,), RECOVERING)


REFUSED: dict[str, tuple[list[int] | None, dict[str, Any], ErrorCode]] = {
    "no such topic": ([1], {"name": "nothing"}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    "no such partition": ([1], {"index": 2}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    "nowhere": ([], {}, ErrorCode.INVALID_REPLICA_ASSIGNMENT),
    "twice to one broker": ([1, 1], {}, ErrorCode.INVALID_REPLICA_ASSIGNMENT),
    "to a stranger": ([1, 77], {}, ErrorCode.INVALID_REPLICA_ASSIGNMENT),
    "another factor": ([1], {"allow_replication_factor_change": False}, ErrorCode.INVALID_REPLICATION_FACTOR),
    "nothing to cancel": (None, {}, ErrorCode.NO_REASSIGNMENT_IN_PROGRESS),
}


@pytest.mark.parametrize(("replicas", "fields", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_a_move_that_is_refused(
    cluster: Cluster, replicas: list[int] | None, fields: dict[str, Any], code: ErrorCode
) -> None:
    before = len(cluster.log)
    refused = move(cluster, replicas, **fields)
    assert refused.error_code == code and refused.error_message
    assert len(cluster.log) == before


def test_a_partition_named_twice_is_moved_not_at_all(cluster: Cluster) -> None:
    twice = [ReassignablePartition(partition_index=0, replicas=[4, 5])] * 2
    request = AlterPartitionReassignmentsRequest(topics=[ReassignableTopic(name="orders", partitions=twice)])
    (answered,) = cluster.apply(cluster.controller.reassign_partitions(request)).responses
    assert {one.error_code for one in answered.partitions} == {ErrorCode.INVALID_REQUEST}
    assert ongoing(cluster) == {}
