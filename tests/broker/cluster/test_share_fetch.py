"""Share-partitions among three brokers: who does not lead one says who does."""

from __future__ import annotations

from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages import share_fetch
from streamkit.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from tests.support.broker_cluster import BrokerCluster, Node
from tests.support.share_members import Queue


async def test_who_does_not_lead_names_the_leader(cluster: BrokerCluster, name: str) -> None:
    Queue(cluster.bootstrap, name, replicas=3)
    topic_id, leader = await led(cluster, name)
    other = next(node for node in cluster.running if node is not leader)
    wanted = share_fetch.ShareFetchRequest(
        group_id=name,
        member_id="m",
        max_wait_ms=60_000,
        max_records=1,
        topics=[
            share_fetch.FetchTopic(
                topic_id=topic_id, partitions=[share_fetch.FetchPartition(partition_index=0)]
            )
        ],
    )
    response = await other.ask(wanted, 2)
    ((one,),) = [topic.partitions for topic in response.responses]
    assert one.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert one.current_leader.leader_id == leader.node_id
    assert [(node.node_id, node.port) for node in response.node_endpoints] == [(leader.node_id, leader.port)]


async def led(cluster: BrokerCluster, topic: str) -> tuple[bytes, Node]:
    """The topic's id, and who leads its first partition."""
    asked = MetadataRequest(topics=[MetadataRequestTopic(name=topic)])
    answer = await cluster.running[0].ask(asked, 12)
    ((one,),) = [answer.topics]
    return one.topic_id, cluster[one.partitions[0].leader_id]
