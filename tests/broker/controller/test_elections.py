"""Elections that are asked for: preferred, unclean, by balance, by a changed configuration."""

from __future__ import annotations

import pytest

from streamkit.broker.controller.image import ALL_BROKERS, ConfigResource, ResourceType
from streamkit.broker.controller.leadership import PREFERRED, UNCLEAN, imbalanced
from streamkit.broker.controller.records import NO_LEADER, RECOVERING
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from tests.broker.controller.cluster import Cluster, alter_isr, state, topic
from tests.broker.controller.test_configs import alter

ORDERS = ConfigResource(ResourceType.TOPIC, "orders")


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster(brokers=3, min_insync_replicas="2")
    made.create(topic("orders", assignments={0: [1, 2, 3], 1: [2, 3, 1]}))
    return made


def elect(
    cluster: Cluster, election_type: int, partitions: list[int] | None, name: str = "orders"
) -> dict[int, int]:
    """The error of each partition that the answer names; None asks for all partitions there are."""
    asked = None if partitions is None else [TopicPartitions(topic=name, partitions=partitions)]
    request = ElectLeadersRequest(election_type=election_type, topic_partitions=asked)
    response = cluster.apply(cluster.controller.elect_leaders(request))
    assert not response.error_code
    return {
        one.partition_id: one.error_code
        for result in response.replica_election_results
        for one in result.partition_result
    }


def come_back(cluster: Cluster, broker_id: int) -> None:
    """Fence a broker, unfence it, and let every partition take it into the ISR again."""
    cluster.fence(broker_id)
    cluster.beat(broker_id)
    alter_isr(cluster, [1, 2, 3], broker_id=cluster.partition().leader)


def test_the_preferred_replica_takes_its_leadership_back(cluster: Cluster) -> None:
    assert elect(cluster, PREFERRED, [0]) == {0: ErrorCode.ELECTION_NOT_NEEDED}
    come_back(cluster, 1)
    assert cluster.partition().leader == 2
    assert elect(cluster, PREFERRED, [0]) == {0: ErrorCode.NONE}
    assert (cluster.partition().leader, cluster.partition().leader_epoch) == (1, 2)


def test_not_before_it_is_in_sync(cluster: Cluster) -> None:
    cluster.fence(1)
    cluster.beat(1)
    assert elect(cluster, PREFERRED, [0, 9]) == {
        0: ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE,
        9: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }
    assert elect(cluster, PREFERRED, [0], "nothing") == {0: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}


def test_asked_for_all_only_those_that_need_one_are_named(cluster: Cluster) -> None:
    assert elect(cluster, PREFERRED, None) == {}
    come_back(cluster, 1)
    assert elect(cluster, PREFERRED, None) == {0: ErrorCode.NONE}


def test_an_unclean_election_takes_place_only_without_a_leader(cluster: Cluster) -> None:
    assert elect(cluster, UNCLEAN, [0]) == {0: ErrorCode.ELECTION_NOT_NEEDED}
    cluster.fence(1, 2, 3)
    assert elect(cluster, UNCLEAN, [0]) == {0: ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE}
    cluster.beat(1)
    assert cluster.partition().leader == NO_LEADER
    assert elect(cluster, UNCLEAN, [0]) == {0: ErrorCode.NONE}
    after = cluster.partition()
    assert (after.leader, after.isr, after.elr, after.leader_recovery_state) == (1, (1,), (), RECOVERING)


def test_no_such_kind_of_election(cluster: Cluster) -> None:
    request = ElectLeadersRequest(election_type=7, topic_partitions=None)
    assert cluster.apply(cluster.controller.elect_leaders(request)).error_code == ErrorCode.INVALID_REQUEST
    asked = [TopicPartitions(topic="orders", partitions=[0])]
    request = ElectLeadersRequest(election_type=7, topic_partitions=asked)
    (result,) = cluster.apply(cluster.controller.elect_leaders(request)).replica_election_results
    assert [one.error_code for one in result.partition_result] == [ErrorCode.INVALID_REQUEST]


def test_balance_gives_back_what_a_broker_misses(cluster: Cluster) -> None:
    cluster.fence(1)
    cluster.beat(1)
    assert imbalanced(cluster.image) == 1
    assert cluster.apply(cluster.controller.balance_leaders()) == 0, "it is not in sync yet"
    alter_isr(cluster, [1, 2, 3], broker_id=2)
    assert cluster.apply(cluster.controller.balance_leaders()) == 1
    assert (cluster.partition().leader, imbalanced(cluster.image)) == (1, 0)


def test_balance_waits_until_enough_is_missed(cluster: Cluster) -> None:
    come_back(cluster, 1)
    cluster.create(topic("more", assignments={index: [1, 2] for index in range(9)}))
    assert imbalanced(cluster.image) == 1
    assert cluster.apply(cluster.controller.balance_leaders()) == 0, "1 of 10 is not more than 10%"
    cluster.create(topic("b", assignments={0: [2, 1]}))
    cluster.fence(1)
    cluster.beat(1)
    assert cluster.apply(cluster.controller.balance_leaders()) == 0
    alter_isr(cluster, [1, 2, 3], broker_id=2)
    assert cluster.apply(cluster.controller.balance_leaders()) == 1
    assert cluster.partition().leader == 1


def test_fewer_needed_in_sync_gives_the_eligible_up_in_the_same_batch(cluster: Cluster) -> None:
    alter_isr(cluster, [1])
    assert cluster.partition().elr == (2, 3)
    alter(cluster, ORDERS, ("min.insync.replicas", 0, "3"))
    assert cluster.partition().elr == (2, 3)
    alter(cluster, ORDERS, ("min.insync.replicas", 0, "1"), validate_only=True)
    assert cluster.partition().elr == (2, 3)
    alter(cluster, ORDERS, ("min.insync.replicas", 0, "1"))
    assert cluster.partition().elr == ()
    assert state(cluster.replayed()) == state(cluster.image)


def test_fewer_needed_for_all_topics(cluster: Cluster) -> None:
    alter_isr(cluster, [1])
    alter(cluster, ALL_BROKERS, ("min.insync.replicas", 0, "1"))
    assert cluster.partition().elr == ()


def test_of_a_single_broker_it_cannot_be_altered(cluster: Cluster) -> None:
    refused = alter(cluster, ConfigResource(ResourceType.BROKER, "1"), ("min.insync.replicas", 0, "1"))
    assert refused.error_code == ErrorCode.INVALID_CONFIG


def test_what_was_set_for_all_brokers_can_be_another_but_not_none(cluster: Cluster) -> None:
    """KIP-966: what the brokers were started with may differ."""
    alter(cluster, ALL_BROKERS, ("min.insync.replicas", 0, "1"))
    refused = alter(cluster, ALL_BROKERS, ("min.insync.replicas", 1, None))
    assert (refused.error_code, refused.error_message) == (
        ErrorCode.INVALID_CONFIG,
        "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.",
    )
    assert alter(cluster, ALL_BROKERS, ("min.insync.replicas", 0, "2")).error_code == 0


def test_unclean_elections_allowed_take_place_at_once(cluster: Cluster) -> None:
    cluster.fence(1, 2, 3)
    cluster.beat(1)
    assert cluster.partition().leader == NO_LEADER
    alter(cluster, ORDERS, ("unclean.leader.election.enable", 0, "true"))
    assert (cluster.partition().leader, cluster.partition().leader_recovery_state) == (1, RECOVERING)
    cluster.fence(1)
    cluster.beat(2)
    assert cluster.partition().leader == 2, "and whenever one is needed from then on"
