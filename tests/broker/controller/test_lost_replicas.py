"""AssignReplicasToDirs: a broker lost a replica; who counts on it, who leads, what is never given up."""

from __future__ import annotations

import pytest

from streamkit.broker.controller.lost_replicas import LOST
from streamkit.broker.controller.partition_rules import MIN_INSYNC_REPLICAS
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.assign_replicas_to_dirs import (
    AssignReplicasToDirsRequest,
    AssignReplicasToDirsRequestDirectoryData,
    AssignReplicasToDirsRequestPartitionData,
    AssignReplicasToDirsRequestTopicData,
    AssignReplicasToDirsResponse,
)
from tests.broker.controller.cluster import Cluster, alter_isr, topic

SOLE = ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster(brokers=4)
    made.create(topic("orders", assignments={0: [1, 2, 3]}, configs={MIN_INSYNC_REPLICAS: "2"}))
    return made


def assign(
    cluster: Cluster,
    broker_id: int,
    *,
    directory: bytes = LOST,
    topic_id: bytes = b"",
    index: int = 0,
    epoch: int | None = None,
) -> AssignReplicasToDirsResponse:
    partition = AssignReplicasToDirsRequestPartitionData(partition_index=index)
    lost = AssignReplicasToDirsRequestTopicData(
        topic_id=topic_id or cluster.image.topics["orders"].topic_id, partitions=[partition]
    )
    request = AssignReplicasToDirsRequest(
        broker_id=broker_id,
        broker_epoch=cluster.image.brokers[broker_id].epoch if epoch is None else epoch,
        directories=[AssignReplicasToDirsRequestDirectoryData(id=directory, topics=[lost])],
    )
    return cluster.apply(cluster.controller.assign_replicas(request))


def lose(cluster: Cluster, broker_id: int, **facts: object) -> int:
    response = assign(cluster, broker_id, **facts)  # type: ignore[arg-type]
    assert not response.error_code
    return response.directories[0].topics[0].partitions[0].error_code


def test_a_leader_resigns_to_one_in_sync(cluster: Cluster) -> None:
    assert lose(cluster, 1) == 0
    after = cluster.partition()
    assert (after.leader, after.leader_epoch, after.isr, after.elr) == (2, 1, (2, 3), ())


def test_a_follower_leaves_the_isr_and_the_leader_stays(cluster: Cluster) -> None:
    assert lose(cluster, 3) == 0
    after = cluster.partition()
    assert (after.leader, after.leader_epoch, after.isr, after.elr) == (1, 0, (1, 2), ())


def test_an_eligible_replica_is_so_no_longer(cluster: Cluster) -> None:
    alter_isr(cluster, [1])
    assert cluster.partition().elr == (2, 3)
    assert lose(cluster, 2) == 0
    assert (cluster.partition().isr, cluster.partition().elr) == ((1,), (3,))


def test_the_last_in_sync_gives_way_to_one_that_is_eligible(cluster: Cluster) -> None:
    alter_isr(cluster, [1])
    assert lose(cluster, 1) == 0
    assert cluster.partition().leader in (2, 3)


def test_the_last_in_sync_is_let_go_for_an_eligible_one_that_is_away(cluster: Cluster) -> None:
    alter_isr(cluster, [1, 2])
    cluster.fence(3, 2)
    assert (cluster.partition().isr, cluster.partition().elr) == ((1,), (2,))
    assert lose(cluster, 1) == 0
    after = cluster.partition()
    assert (after.leader, after.isr, after.elr) == (-1, (), (2,))
    cluster.beat(2)
    assert (cluster.partition().leader, cluster.partition().isr) == (2, (2,))


def test_the_last_that_may_hold_everything_is_never_given_up(cluster: Cluster) -> None:
    alter_isr(cluster, [1])
    lose(cluster, 2)
    lose(cluster, 3)
    before, length = cluster.partition(), len(cluster.log)
    assert lose(cluster, 1) == SOLE
    assert (cluster.partition(), len(cluster.log)) == (before, length)


def test_what_counts_no_longer_changes_nothing(cluster: Cluster) -> None:
    lose(cluster, 1)
    length = len(cluster.log)
    assert lose(cluster, 1) == 0
    assert len(cluster.log) == length


def test_refusals(cluster: Cluster) -> None:
    assert assign(cluster, 1, epoch=-1).error_code == ErrorCode.STALE_BROKER_EPOCH
    assert lose(cluster, 1, topic_id=b"x" * 16) == ErrorCode.UNKNOWN_TOPIC_ID
    assert lose(cluster, 1, index=1) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert lose(cluster, 4) == ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert lose(cluster, 1, directory=b"y" * 16) == ErrorCode.LOG_DIR_NOT_FOUND
    own = cluster.image.brokers[1].log_dirs[0]
    assert lose(cluster, 1, directory=own) == 0
    assert cluster.partition().isr == (1, 2, 3)
