"""Metadata, DescribeCluster and DescribeTopicPartitions: who leads what."""

from __future__ import annotations

from streamkit.protocol.api import ApiKey
from streamkit.protocol.messages.describe_cluster import DescribeClusterRequest
from streamkit.protocol.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    TopicRequest,
)
from streamkit.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from tests.differential.scenario import Client, Topic, scenario

FIRST_WITH_IDS = 12
FIRST_WITH_NULL = 1
FIRST_WITH_FLAG = 4


def named(*names: str, create: bool = False) -> MetadataRequest:
    topics = [MetadataRequestTopic(name=name) for name in names]
    return MetadataRequest(topics=topics, allow_auto_topic_creation=create)


@scenario(ApiKey.METADATA, "0-13")
async def topics_by_name(client: Client) -> None:
    one, three = await client.topic("one"), await client.topic("three", 3)
    await client.valid(named(one.name))
    await client.valid(named(one.name, three.name))
    await client.valid(named(three.name, three.name))
    await client.valid(named("__consumer_offsets", "__transaction_state"))


@scenario(ApiKey.METADATA, "0-13")
async def all_topics_and_none(client: Client) -> None:
    await client.topic()
    await client.boundary(MetadataRequest(topics=[]))
    if client.version >= FIRST_WITH_NULL:
        await client.valid(MetadataRequest(topics=None))


@scenario(ApiKey.METADATA, "8-13")
async def authorized_operations(client: Client) -> None:
    topic = await client.topic()
    for cluster, topics in ((True, False), (False, True), (True, True)):
        asked = [MetadataRequestTopic(name=topic.name)]
        await client.valid(
            MetadataRequest(
                topics=asked,
                include_cluster_authorized_operations=cluster,
                include_topic_authorized_operations=topics,
            )
        )


@scenario(ApiKey.METADATA, "4-13")
async def topics_that_do_not_exist(client: Client) -> None:
    existing = await client.topic()
    await client.wrong(named(client.name("unknown")))
    await client.wrong(named(client.name("unknown"), existing.name))
    for name in ("", ".", "..", "a b", "x" * 250, "é"):
        await client.wrong(named(name))
        await client.wrong(named(name, create=True))
    await client.boundary(named("x" * 249))


@scenario(ApiKey.METADATA, "0-13")
async def invalid_names_are_never_created(client: Client) -> None:
    for name in (".", "..", "a b", "x" * 250):
        await client.wrong(named(name, create=True))


@scenario(ApiKey.METADATA, "0-13")
async def a_topic_is_created_by_asking(client: Client) -> None:
    """What the first answer says of it is a race in both; in the end it is there."""
    name = client.name("auto")
    await client.quietly(named(name, create=True))
    await client.ready(Topic(name))
    await client.valid(named(name, create=True))


@scenario(ApiKey.METADATA, "10-13")
async def topics_by_id(client: Client) -> None:
    topic = await client.topic()
    by_id = [MetadataRequestTopic(topic_id=topic.id, name=None)]
    both = [MetadataRequestTopic(topic_id=topic.id, name=topic.name)]
    unknown = [MetadataRequestTopic(topic_id=b"\7" * 16, name=None)]
    served = client.valid if client.version >= FIRST_WITH_IDS else client.wrong
    await served(MetadataRequest(topics=by_id))
    await served(MetadataRequest(topics=by_id * 2))
    await client.wrong(MetadataRequest(topics=both))
    await client.wrong(MetadataRequest(topics=unknown))
    await client.wrong(MetadataRequest(topics=[*by_id, *unknown]))
    await client.wrong(MetadataRequest(topics=[*by_id, MetadataRequestTopic(name=topic.name)]))
    await client.wrong(MetadataRequest(topics=[MetadataRequestTopic(name=None)]))


@scenario(ApiKey.DESCRIBE_CLUSTER, "0-2")
async def the_cluster(client: Client) -> None:
    await client.valid(DescribeClusterRequest())
    await client.valid(DescribeClusterRequest(include_cluster_authorized_operations=True))
    await client.valid(DescribeClusterRequest(include_fenced_brokers=True))


@scenario(ApiKey.DESCRIBE_CLUSTER, "0-2")
async def other_kinds_of_endpoints(client: Client) -> None:
    for kind in (2, 0, 3, -1):
        await client.wrong(DescribeClusterRequest(endpoint_type=kind))


def described(*names: str, limit: int = 2000, cursor: Cursor | None = None) -> DescribeTopicPartitionsRequest:
    topics = [TopicRequest(name=name) for name in names]
    return DescribeTopicPartitionsRequest(topics=topics, response_partition_limit=limit, cursor=cursor)


@scenario(ApiKey.DESCRIBE_TOPIC_PARTITIONS, "0")
async def pages_of_partitions(client: Client) -> None:
    a, b = await client.topic("a", 3), await client.topic("b", 2)
    await client.valid(described(a.name))
    await client.valid(described(b.name, a.name))
    await client.valid(described(a.name, b.name, limit=2))
    await client.valid(
        described(a.name, b.name, limit=2, cursor=Cursor(topic_name=a.name, partition_index=2))
    )
    await client.valid(described(a.name, b.name, cursor=Cursor(topic_name=b.name, partition_index=1)))
    await client.boundary(described(a.name, b.name, limit=3))
    await client.boundary(described(a.name, limit=1))
    await client.boundary(described(a.name, cursor=Cursor(topic_name=a.name, partition_index=3)))
    await client.boundary(described(a.name, a.name))


@scenario(ApiKey.DESCRIBE_TOPIC_PARTITIONS, "0")
async def pages_of_nothing(client: Client) -> None:
    topic = await client.topic()
    await client.wrong(described(client.name("unknown")))
    await client.wrong(described(client.name("unknown"), topic.name))
    await client.wrong(described(""))
    await client.wrong(described("a b"))
    await client.wrong(described(topic.name, limit=0))
    await client.wrong(described(topic.name, limit=-1))
    await client.wrong(described(topic.name, cursor=Cursor(topic_name="", partition_index=0)))
    await client.wrong(described(topic.name, cursor=Cursor(topic_name=topic.name, partition_index=-1)))
    await client.wrong(described(topic.name, cursor=Cursor(topic_name=topic.name, partition_index=99)))
    await client.wrong(
        described(topic.name, cursor=Cursor(topic_name=client.name("unknown"), partition_index=0))
    )
