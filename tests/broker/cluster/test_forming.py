"""Three processes become one cluster, whoever is there first, and stay one whoever is lost."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from streamkit.broker.storage.log_directory import format_directory
from streamkit.net.peer import PeerError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from streamkit.protocol.messages.delete_topics import DeleteTopicsRequest
from streamkit.protocol.messages.describe_cluster import DescribeClusterRequest
from streamkit.protocol.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumRequestPartitionData,
    DescribeQuorumRequestTopicData,
)
from streamkit.protocol.messages.find_coordinator import FindCoordinatorRequest
from streamkit.protocol.messages.init_producer_id import InitProducerIdRequest
from streamkit.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from streamkit.runtime.os.disk import OsDisk
from streamkit.runtime.os.rng import SystemRng
from tests.support.broker_cluster import BrokerCluster, Node

Seen = TypeVar("Seen")

CONTROLLERS = 2
THE_QUORUM = DescribeQuorumRequest(
    topics=[
        DescribeQuorumRequestTopicData(
            topic_name="__cluster_metadata", partitions=[DescribeQuorumRequestPartitionData()]
        )
    ]
)


def wanted(name: str, *, partitions: int = 3, replicas: int = 3) -> CreateTopicsRequest:
    topic = CreatableTopic(name=name, num_partitions=partitions, replication_factor=replicas)
    return CreateTopicsRequest(topics=[topic])


async def created(node: Node, name: str, **how: int) -> int:
    """The error of creating a topic."""
    answer = await node.ask(wanted(name, **how), 7)
    code: int = answer.topics[0].error_code
    return code


async def described(node: Node, name: str) -> Any:
    """A topic as the node tells it."""
    request = MetadataRequest(topics=[MetadataRequestTopic(name=name)], allow_auto_topic_creation=False)
    return (await node.ask(request, 12)).topics[0]


async def until(look: Callable[[], Awaitable[Seen]], holds: Callable[[Seen], bool]) -> Seen:
    """What is seen once it is as it must become; nodes that cannot be reached are looked at again."""
    async with asyncio.timeout(20):
        while True:
            try:
                seen = await look()
            except PeerError:
                seen = None
            if seen is not None and holds(seen):
                return seen
            await asyncio.sleep(0.05)


def exists(topic: Any) -> bool:
    return bool(topic.error_code == ErrorCode.NONE)


def cluster_id_in(data_dir: Path) -> str:
    lines = (data_dir / "meta.properties").read_text().splitlines()
    return next(line.removeprefix("cluster.id=") for line in lines if line.startswith("cluster.id="))


async def test_three_nodes_are_one_cluster_and_say_the_same_of_it(cluster: BrokerCluster) -> None:
    nodes = [cluster[1], cluster[2], cluster[3]]
    answers = [
        await until(partial(node.ask, MetadataRequest(topics=[]), 12), lambda seen: len(seen.brokers) == 3)
        for node in nodes
    ]
    assert {answer.cluster_id for answer in answers} == {cluster_id_in(node.data_dir) for node in nodes}
    for answer in answers:
        assert sorted((one.node_id, one.port) for one in answer.brokers) == [
            (node.node_id, node.port) for node in nodes
        ]
    leader = await cluster.leader()
    assert {answer.controller_id for answer in answers} == {leader.node_id}
    for node in nodes:
        controllers = await node.ask(DescribeClusterRequest(endpoint_type=CONTROLLERS), 1, of_controller=True)
        assert controllers.controller_id == leader.node_id
        assert controllers.cluster_id == answers[0].cluster_id
        assert sorted((one.broker_id, one.port) for one in controllers.brokers) == [
            (node.node_id, node.controller_port) for node in nodes
        ]


async def test_what_a_node_was_asked_to_create_is_there_when_it_answers(
    cluster: BrokerCluster, name: str
) -> None:
    leader = await cluster.leader()
    for node in (cluster[1], cluster[2], cluster[3]):
        topic = f"{name}-{node.node_id}"
        assert await created(node, topic) == ErrorCode.NONE
        here = await described(node, topic)
        assert [one.error_code for one in here.partitions] == [ErrorCode.NONE] * 3, node is leader
        assert await created(node, topic) == ErrorCode.TOPIC_ALREADY_EXISTS
        for other in (cluster[1], cluster[2], cluster[3]):
            assert await until(partial(described, other, topic), exists) == here
        deleted = await node.ask(DeleteTopicsRequest(topic_names=[topic]), 4)
        assert deleted.responses[0].error_code == ErrorCode.NONE
        assert (await described(node, topic)).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


async def test_a_topic_is_made_on_the_way_at_any_node(cluster: BrokerCluster, name: str) -> None:
    for node in (cluster[1], cluster[2], cluster[3]):
        topic = f"{name}-{node.node_id}"
        request = MetadataRequest(topics=[MetadataRequestTopic(name=topic)])
        told = (await node.ask(request, 12)).topics[0]
        assert told.error_code == ErrorCode.NONE
        assert sorted(told.partitions[0].replica_nodes) == [1, 2, 3], "default.replication.factor is 3"


async def test_no_producer_id_is_given_out_twice(cluster: BrokerCluster) -> None:
    answers = [
        await node.ask(InitProducerIdRequest(transactional_id=None), 4)
        for node in (cluster[1], cluster[2], cluster[3])
        for _ in range(2)
    ]
    assert {answer.error_code for answer in answers} == {ErrorCode.NONE}
    assert len({answer.producer_id for answer in answers}) == 6


async def test_any_node_describes_the_quorum(cluster: BrokerCluster) -> None:
    leader = await cluster.leader()
    for node in (cluster[1], cluster[2], cluster[3]):
        quorum = (await node.ask(THE_QUORUM, 2)).topics[0].partitions[0]
        assert quorum.leader_id == leader.node_id
        assert sorted(one.replica_id for one in quorum.current_voters) == [1, 2, 3]
        assert quorum.high_watermark > 0


async def test_the_loss_of_the_controller_is_overcome_and_it_comes_back_by_the_same_command(
    new_cluster: Callable[..., BrokerCluster],
) -> None:
    cluster = new_cluster(3).start()
    assert await created(cluster[1], "before") == ErrorCode.NONE
    cluster_id = cluster_id_in(cluster[1].data_dir)
    lost = await cluster.leader()
    lost.kill()
    for node in cluster.running:
        assert await created(node, f"after-{node.node_id}", replicas=1) == ErrorCode.NONE
        told = await node.ask(MetadataRequest(topics=[]), 12)
        assert told.cluster_id == cluster_id
    leader = await cluster.leader()
    assert leader is not lost
    lost.start()
    assert cluster_id_in(lost.data_dir) == cluster_id
    for name in ("before", *(f"after-{node.node_id}" for node in cluster.running if node is not lost)):
        topic = await until(lambda name=name: described(lost, name), lambda t: t.error_code == ErrorCode.NONE)
        assert topic.partitions
    assert await created(lost, "again", replicas=1) == ErrorCode.NONE


async def test_a_node_outside_the_voters_is_a_broker_only(
    new_cluster: Callable[..., BrokerCluster],
) -> None:
    cluster = new_cluster(1).start()
    joined = cluster.broker_only(7).start()
    answer = await until(lambda: joined.ask(MetadataRequest(topics=[]), 12), lambda a: len(a.brokers) == 2)
    assert answer.cluster_id == cluster_id_in(joined.data_dir) == cluster_id_in(cluster[1].data_dir)
    assert await created(joined, "t", replicas=1) == ErrorCode.NONE
    quorum = (await joined.ask(THE_QUORUM, 2)).topics[0].partitions[0]
    assert [one.replica_id for one in quorum.current_voters] == [1]
    assert [one.replica_id for one in quorum.observers] == [7]


async def test_internal_topics_wait_for_the_third_broker(
    new_cluster: Callable[..., BrokerCluster], name: str
) -> None:
    cluster = new_cluster(3).start(1, 2)
    of_group = FindCoordinatorRequest(coordinator_keys=[name])
    for node in (cluster[1], cluster[2]):
        answer = await node.ask(of_group, 4)
        assert answer.coordinators[0].error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
        assert (await described(node, "__consumer_offsets")).error_code == (
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        )
    cluster.start(3)
    found = await until(
        partial(cluster[1].ask, of_group, 4), lambda seen: seen.coordinators[0].error_code == ErrorCode.NONE
    )
    assert found.coordinators[0].node_id in (1, 2, 3)
    topic = await until(partial(described, cluster[3], "__consumer_offsets"), exists)
    assert {len(one.replica_nodes) for one in topic.partitions} == {3}


async def test_a_controller_that_is_silent_is_replaced_and_knows_it_when_it_wakes_up(
    new_cluster: Callable[..., BrokerCluster],
) -> None:
    cluster = new_cluster(3).start()
    silent = await cluster.leader()
    assert silent.process is not None
    silent.process.send_signal(signal.SIGSTOP)
    others = [node for node in cluster.running if node is not silent]
    try:
        for node in others:
            assert await created(node, f"meanwhile-{node.node_id}", replicas=1) == ErrorCode.NONE
    finally:
        silent.process.send_signal(signal.SIGCONT)
    assert await created(silent, "awake", replicas=1) == ErrorCode.NONE
    for node in others:
        assert exists(await until(partial(described, node, "awake"), exists))
        assert exists(await described(silent, f"meanwhile-{node.node_id}"))


async def test_a_node_without_its_quorum_says_what_it_waits_for_and_starts_when_it_comes(
    new_cluster: Callable[..., BrokerCluster],
) -> None:
    cluster = new_cluster(3)
    first = cluster[1]
    starting = asyncio.get_running_loop().run_in_executor(None, first.start)
    async with asyncio.timeout(20):
        while not any("waiting for the quorum" in line for line in first.log):
            await asyncio.sleep(0.05)
    assert not starting.done()
    assert cluster_id_in(first.data_dir) == ""
    await asyncio.get_running_loop().run_in_executor(None, cluster.start, 2)
    await starting
    assert cluster_id_in(first.data_dir) == cluster_id_in(cluster[2].data_dir) != ""


async def test_a_directory_of_another_cluster_is_named_while_its_node_waits(
    new_cluster: Callable[..., BrokerCluster],
) -> None:
    cluster = new_cluster(1).start()
    stranger = cluster.broker_only(7)
    await format_directory(OsDisk(), str(stranger.data_dir), node_id=7, cluster_id="other", rng=SystemRng())
    starting = asyncio.get_running_loop().run_in_executor(None, stranger.start)
    async with asyncio.timeout(20):
        while not any("belongs to another cluster" in line for line in stranger.log):
            await asyncio.sleep(0.05)
    stranger.kill()
    with pytest.raises(AssertionError, match="did not become ready"):
        await starting
