"""CreateTopics, DeleteTopics and CreatePartitions."""

from __future__ import annotations

from typing import Any

from streamkit.protocol.api import ApiKey
from streamkit.protocol.messages.create_partitions import (
    CreatePartitionsAssignment,
    CreatePartitionsRequest,
    CreatePartitionsTopic,
)
from streamkit.protocol.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from streamkit.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from tests.differential.scenario import Client, scenario

FIRST_WITH_DEFAULTS = 4
FIRST_WITH_STATES = 6


def topic(name: str, partitions: int = 1, replicas: int = 1, **configs: str | None) -> CreatableTopic:
    given = [CreatableTopicConfig(name=key.replace("_", "."), value=value) for key, value in configs.items()]
    return CreatableTopic(name=name, num_partitions=partitions, replication_factor=replicas, configs=given)


def create(*topics: CreatableTopic, **fields: Any) -> CreateTopicsRequest:
    return CreateTopicsRequest(**{"topics": list(topics), "timeout_ms": 10_000, **fields})


def assigned(name: str, *replicas: tuple[int, ...], first: int = 0) -> CreatableTopic:
    rows = [
        CreatableReplicaAssignment(partition_index=n, broker_ids=list(ids))
        for n, ids in enumerate(replicas, first)
    ]
    return CreatableTopic(name=name, num_partitions=-1, replication_factor=-1, assignments=rows)


@scenario(ApiKey.CREATE_TOPICS, "2-7")
async def topics_are_created(client: Client) -> None:
    await client.valid(create(topic(client.name("a"))))
    await client.valid(create(topic(client.name("b"), 3), topic(client.name("c"), cleanup_policy="compact")))
    await client.valid(create(assigned(client.name("d"), (1,), (1,))))
    await client.valid(create(topic(client.name("e"), retention_ms="1000", compression_type="zstd")))
    await client.valid(create(topic(client.name("a-b_c.d"))))
    await client.valid(create(topic(client.name("v"), 2, cleanup_policy="compact"), validate_only=True))
    await client.boundary(create(topic(client.name("defaults"), -1, -1)))
    await client.boundary(create(topic(client.name("null"), retention_ms=None)))
    await client.boundary(create())
    await client.boundary(create(topic("x" * 240 + f"{client.version:09d}")))
    await client.boundary(create(topic(client.name("valid"), -1), validate_only=True))


@scenario(ApiKey.CREATE_TOPICS, "2-7")
async def topics_are_not_created(client: Client) -> None:
    existing = await client.topic()
    await client.wrong(create(topic(existing.name)))
    await client.wrong(create(topic(existing.name), validate_only=True))
    for name in ("", ".", "..", "a b", "é", "x" * 250, "__consumer_offsets"):
        await client.wrong(create(topic(name)))
    for partitions, replicas in ((0, 1), (-2, 1), (1, 0), (1, -2), (1, 2), (1, 32767)):
        await client.wrong(create(topic(client.name("bad"), partitions, replicas)))
    twice = topic(client.name("twice"))
    await client.wrong(create(twice, twice))
    await client.wrong(create(twice, twice, topic(client.name("good"))))
    collides = client.name("col.lides")
    await client.setup(create(topic(collides)))
    await client.wrong(create(topic(collides.replace(".", "_"))))


@scenario(ApiKey.CREATE_TOPICS, "2-7")
async def configs_are_refused(client: Client) -> None:
    for key, value in (
        ("no_such", "1"), ("retention_ms", "abc"), ("retention_ms", "-2"), ("cleanup_policy", "shred"),
        ("segment_bytes", "1"), ("compression_type", "brotli"),
        ("min_insync_replicas", "0"),
        ("max_message_bytes", "-1"), ("unclean_leader_election_enable", "maybe"), ("retention_ms", ""),
        ("retention_bytes", "99999999999999999999"), ("", "1"), ("message_timestamp_type", "Never"),
        ("min_cleanable_dirty_ratio", "1.5"), ("remote_storage_enable", "true"),
    ):  # fmt: skip
        await client.wrong(create(topic(client.name("bad"), **{key: value}), validate_only=True))
    for key, value in (
        ("cleanup_policy", "compact,delete"), ("cleanup_policy", "delete,compact"), ("retention_ms", "-1"),
        ("min_cleanable_dirty_ratio", "0"), ("segment_bytes", "1048576"),
        ("unclean_leader_election_enable", "TRUE"),
        ("retention_ms", " 5 "), ("follower_replication_throttled_replicas", "*"),
        ("leader_replication_throttled_replicas", "0:1"), ("message_timestamp_after_max_ms", "0"),
    ):  # fmt: skip
        await client.boundary(create(topic(client.name("ok"), **{key: value}), validate_only=True))


@scenario(ApiKey.CREATE_TOPICS, "2-7")
async def no_time_left(client: Client) -> None:
    await client.boundary(create(topic(client.name("in-time")), timeout_ms=0, validate_only=True))


@scenario(ApiKey.CREATE_TOPICS, "2-7")
async def no_cleanup_at_all(client: Client) -> None:
    await client.boundary(create(topic(client.name("kept"), cleanup_policy=""), validate_only=True))


@scenario(ApiKey.CREATE_TOPICS, "2-7")
async def assignments_are_refused(client: Client) -> None:
    name = client.name("bad")
    for one in (
        assigned(name, (2,)), assigned(name, (1, 1)), assigned(name, ()), assigned(name, (1,), first=1),
        assigned(name, (-1,)), assigned(name, (1,), (1, 2)),
    ):  # fmt: skip
        await client.wrong(create(one))
    rows = [CreatableReplicaAssignment(partition_index=0, broker_ids=[1])]
    await client.wrong(
        create(CreatableTopic(name=name, num_partitions=1, replication_factor=-1, assignments=rows))
    )
    await client.wrong(
        create(CreatableTopic(name=name, num_partitions=-1, replication_factor=1, assignments=rows))
    )
    await client.wrong(
        create(CreatableTopic(name=name, num_partitions=-1, replication_factor=-1, assignments=rows * 2))
    )


def delete(client: Client, *names: str) -> DeleteTopicsRequest:
    if client.version >= FIRST_WITH_STATES:
        return DeleteTopicsRequest(topics=[DeleteTopicState(name=name) for name in names], timeout_ms=10_000)
    return DeleteTopicsRequest(topic_names=list(names), timeout_ms=10_000)


@scenario(ApiKey.DELETE_TOPICS, "1-6")
async def topics_are_deleted(client: Client) -> None:
    names = [(await client.topic(suffix)).name for suffix in "abcd"]
    await client.valid(delete(client, names[0]))
    await client.valid(delete(client, names[1]))
    await client.valid(delete(client, names[2], names[3]))
    await client.boundary(delete(client))
    await client.wrong(delete(client, names[0]))
    await client.wrong(delete(client, client.name("unknown")))
    await client.wrong(delete(client, ""))
    await client.wrong(delete(client, "a b"))
    twice = (await client.topic("twice")).name
    await client.wrong(delete(client, twice, twice))


@scenario(ApiKey.DELETE_TOPICS, "6")
async def topics_are_deleted_by_id(client: Client) -> None:
    a, b = await client.topic("a"), await client.topic("b")
    by_id = DeleteTopicState(topic_id=a.id)
    await client.wrong(
        DeleteTopicsRequest(topics=[DeleteTopicState(name=a.name, topic_id=a.id)], timeout_ms=5000)
    )
    await client.wrong(DeleteTopicsRequest(topics=[by_id, by_id], timeout_ms=5000))
    await client.wrong(DeleteTopicsRequest(topics=[by_id, DeleteTopicState(name=a.name)], timeout_ms=5000))
    await client.wrong(DeleteTopicsRequest(topics=[DeleteTopicState(topic_id=b"\7" * 16)], timeout_ms=5000))
    await client.wrong(DeleteTopicsRequest(topics=[DeleteTopicState()], timeout_ms=5000))
    await client.valid(DeleteTopicsRequest(topics=[by_id, DeleteTopicState(name=b.name)], timeout_ms=5000))
    await client.wrong(DeleteTopicsRequest(topics=[by_id], timeout_ms=5000))


def grow(
    name: str, count: int, *assignments: tuple[int, ...], validate_only: bool = False
) -> CreatePartitionsRequest:
    rows = [CreatePartitionsAssignment(broker_ids=list(ids)) for ids in assignments] or None
    return CreatePartitionsRequest(
        topics=[CreatePartitionsTopic(name=name, count=count, assignments=rows)],
        timeout_ms=10_000,
        validate_only=validate_only,
    )


@scenario(ApiKey.CREATE_PARTITIONS, "0-3")
async def topics_grow(client: Client) -> None:
    name = (await client.topic()).name
    await client.valid(grow(name, 2))
    await client.valid(grow(name, 4, (1,), (1,)))
    await client.valid(grow(name, 9, validate_only=True))
    await client.valid(grow(name, 5))
    await client.boundary(CreatePartitionsRequest(topics=[], timeout_ms=1000))


@scenario(ApiKey.CREATE_PARTITIONS, "0-3")
async def topics_do_not_grow(client: Client) -> None:
    name = (await client.topic(partitions=2)).name
    for count in (2, 1, 0, -1):
        await client.wrong(grow(name, count))
    await client.wrong(grow(client.name("unknown"), 3))
    await client.wrong(grow("", 3))
    await client.wrong(grow(name, 4, (1,)))
    await client.wrong(grow(name, 3, (1,), (1,)))
    await client.wrong(grow(name, 3, (9,)))
    await client.wrong(grow(name, 3, (1, 1)))
    await client.wrong(grow(name, 3, ()))
    one = CreatePartitionsTopic(name=name, count=3, assignments=None)
    await client.wrong(CreatePartitionsRequest(topics=[one, one], timeout_ms=1000))
    none = CreatePartitionsTopic(name=name, count=3, assignments=[])
    await client.boundary(CreatePartitionsRequest(topics=[none], timeout_ms=1000, validate_only=True))
