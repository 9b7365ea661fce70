"""AlterPartition: the ISR that a leader wants, each way to be refused, and the end of a reassignment."""

from __future__ import annotations

from typing import Any

import pytest

from streamkit.broker.controller.partition_rules import MIN_INSYNC_REPLICAS
from streamkit.broker.controller.records import RECOVERED, RECOVERING
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.alter_partition import (
    AlterPartitionRequest,
    AlterPartitionRequestPartitionData,
    AlterPartitionRequestTopicData,
    BrokerState,
)
from streamkit.protocol.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from tests.broker.controller.cluster import Cluster, alter_isr, move, topic


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster(brokers=4)
    made.create(topic("orders", assignments={0: [1, 2, 3]}, configs={MIN_INSYNC_REPLICAS: "2"}))
    return made


def test_an_isr_shrinks_and_grows(cluster: Cluster) -> None:
    small = alter_isr(cluster, [1])
    assert (small.isr, small.leader_id, small.leader_epoch, small.partition_epoch) == ([1], 1, 0, 1)
    assert cluster.partition().elr == (2, 3)
    large = alter_isr(cluster, [1, 3])
    assert (large.isr, large.partition_epoch) == ([1, 3], 2)
    assert cluster.partition().elr == ()


def test_version_2_names_replicas_without_their_epochs(cluster: Cluster) -> None:
    assert alter_isr(cluster, [], new_isr_with_epochs=[], new_isr=[1, 2]).isr == [1, 2]
    unchecked = [BrokerState(broker_id=1), BrokerState(broker_id=3)]
    assert alter_isr(cluster, [], new_isr_with_epochs=unchecked).isr == [1, 3]


def test_what_is_so_already_changes_nothing(cluster: Cluster) -> None:
    before = len(cluster.log)
    assert alter_isr(cluster, [1, 2, 3]).partition_epoch == 0
    assert len(cluster.log) == before


REFUSED: dict[str, tuple[list[int], dict[str, Any], ErrorCode]] = {
    "no such topic": ([1], {"topic_id": b"x" * 16}, ErrorCode.UNKNOWN_TOPIC_ID),
    "no such partition": ([1], {"partition_index": 1}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    "a leader epoch yet to come": ([1], {"leader_epoch": 9}, ErrorCode.NOT_CONTROLLER),
    "a partition epoch yet to come": ([1], {"partition_epoch": 9}, ErrorCode.NOT_CONTROLLER),
    "an earlier leader epoch": ([1], {"leader_epoch": -1}, ErrorCode.FENCED_LEADER_EPOCH),
    "an earlier partition epoch": ([1], {"partition_epoch": -1}, ErrorCode.INVALID_UPDATE_VERSION),
    "not the leader": ([1, 2], {"broker_id": 2}, ErrorCode.INVALID_REQUEST),
    "without the leader": ([2, 3], {}, ErrorCode.INVALID_REQUEST),
    "not a replica": ([1, 4], {}, ErrorCode.INVALID_REQUEST),
    "a replica twice": ([1, 2, 2], {}, ErrorCode.INVALID_REQUEST),
    "recovering in company": ([1, 2], {"leader_recovery_state": RECOVERING}, ErrorCode.INVALID_REQUEST),
    "recovering anew": ([1], {"leader_recovery_state": RECOVERING}, ErrorCode.INVALID_REQUEST),
    "no such recovery state": ([1], {"leader_recovery_state": 7}, ErrorCode.INVALID_REQUEST),
    "another process": (
        [],
        {"new_isr_with_epochs": [BrokerState(broker_id=1), BrokerState(broker_id=2, broker_epoch=0)]},
        ErrorCode.INELIGIBLE_REPLICA,
    ),
}


@pytest.mark.parametrize(("isr", "fields", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_an_isr_that_is_refused(
    cluster: Cluster, isr: list[int], fields: dict[str, Any], code: ErrorCode
) -> None:
    before = len(cluster.log)
    assert alter_isr(cluster, isr, **fields).error_code == code
    assert len(cluster.log) == before


def test_the_fenced_and_those_who_go_are_not_let_in(cluster: Cluster) -> None:
    cluster.fence(2)
    assert alter_isr(cluster, [1, 2, 3]).error_code == ErrorCode.INELIGIBLE_REPLICA
    cluster.beat(3, want_shut_down=True)
    assert alter_isr(cluster, [1, 3]).error_code == ErrorCode.INELIGIBLE_REPLICA
    assert cluster.partition().isr == (1,)


def test_an_earlier_process_of_the_leader_is_stale(cluster: Cluster) -> None:
    for broker_id, epoch, code in (
        (1, 0, ErrorCode.STALE_BROKER_EPOCH),
        (9, 0, ErrorCode.BROKER_ID_NOT_REGISTERED),
    ):
        request = AlterPartitionRequest(broker_id=broker_id, broker_epoch=epoch)
        assert cluster.apply(cluster.controller.alter_partition(request)).error_code == code


def test_a_partition_asked_for_twice_is_refused_the_second_time(cluster: Cluster) -> None:
    asked = AlterPartitionRequestPartitionData(partition_index=0, new_isr=[1, 2])
    request = AlterPartitionRequest(
        broker_id=1,
        broker_epoch=cluster.image.brokers[1].epoch,
        topics=[
            AlterPartitionRequestTopicData(
                topic_id=cluster.image.topics["orders"].topic_id, partitions=[asked, asked]
            )
        ],
    )
    (answered,) = cluster.apply(cluster.controller.alter_partition(request)).topics
    assert [one.error_code for one in answered.partitions] == [ErrorCode.NONE, ErrorCode.INVALID_REQUEST]
    assert cluster.partition().partition_epoch == 1


def test_a_leader_elected_uncleanly_recovers_alone_and_then_lets_others_in(cluster: Cluster) -> None:
    cluster.fence(1, 2, 3)
    cluster.clock.ms += 60_000
    cluster.registered(3, process=1)
    cluster.registered(2, process=1)
    cluster.beat(2)
    unclean = ElectLeadersRequest(
        election_type=1, topic_partitions=[TopicPartitions(topic="orders", partitions=[0])]
    )
    cluster.apply(cluster.controller.elect_leaders(unclean))
    assert (cluster.partition().leader, cluster.partition().leader_recovery_state) == (2, RECOVERING)
    cluster.beat(3)
    waiting = alter_isr(cluster, [2, 3], broker_id=2, leader_recovery_state=RECOVERING)
    assert waiting.error_code == ErrorCode.INVALID_REQUEST
    assert alter_isr(cluster, [2], broker_id=2, leader_recovery_state=RECOVERED).isr == [2]
    assert alter_isr(cluster, [2, 3], broker_id=2).isr == [2, 3]


def test_the_isr_that_ends_a_move_may_cost_the_leadership(cluster: Cluster) -> None:
    assert not move(cluster, [4, 2]).error_code
    answered = alter_isr(cluster, [1, 2, 3, 4])
    assert answered.error_code == ErrorCode.NEW_LEADER_ELECTED
    after = cluster.partition()
    assert (after.replicas, after.isr, after.leader, after.leader_epoch) == ((4, 2), (2, 4), 4, 1)
    assert not after.is_being_reassigned
