"""Groups of Kafka Streams (KIP-1071): heartbeats with topologies, and descriptions."""

from __future__ import annotations

import asyncio
from typing import Any

from streamkit.protocol.api import ApiKey
from streamkit.protocol.messages.streams_group_describe import StreamsGroupDescribeRequest
from streamkit.protocol.messages.streams_group_heartbeat import (
    CopartitionGroup,
    StreamsGroupHeartbeatRequest,
    StreamsGroupHeartbeatRequestTaskIds,
    Subtopology,
    Topology,
)
from tests.differential.corpus.groups import joined
from tests.differential.scenario import Client, scenario

HEARTBEAT, DESCRIBE = ApiKey.STREAMS_GROUP_HEARTBEAT, ApiKey.STREAMS_GROUP_DESCRIBE
MEMBER = "AAAAAAAAAAAAAAAAAAAAAA"
JOIN, LEAVE = 0, -1
ASSIGNED_S = 20


def reading(*topics: str, epoch: int = 0, **fields: Any) -> Topology:
    return Topology(
        epoch=epoch, subtopologies=[Subtopology(subtopology_id="0", source_topics=list(topics), **fields)]
    )


def beat(group: str, epoch: int, member: str = MEMBER, **fields: Any) -> StreamsGroupHeartbeatRequest:
    return StreamsGroupHeartbeatRequest(group_id=group, member_id=member, member_epoch=epoch, **fields)


def joining(group: str, topology: Topology | None, **fields: Any) -> StreamsGroupHeartbeatRequest:
    settings = {
        "rebalance_timeout_ms": 60_000, "topology": topology, "active_tasks": [], "standby_tasks": [],
        "warmup_tasks": [], "process_id": "p", "client_tags": [],
    }  # fmt: skip
    return beat(group, JOIN, **{**settings, **fields})


async def member_of(client: Client, *topics: str) -> tuple[str, int]:
    """The group, and the epoch of its only member once it has its tasks."""
    group = await client.group()
    answer = await client.setup(joining(group, reading(*topics)))
    async with asyncio.timeout(ASSIGNED_S):
        while not answer.active_tasks:
            await asyncio.sleep(0.1)
            answer = await client.quietly(beat(group, answer.member_epoch))
    return group, answer.member_epoch


def owned(*partitions: int) -> list[StreamsGroupHeartbeatRequestTaskIds]:
    return [StreamsGroupHeartbeatRequestTaskIds(subtopology_id="0", partitions=list(partitions))]


@scenario(HEARTBEAT, "0")
async def a_member_with_tasks(client: Client) -> None:
    topic = await client.topic(partitions=2)
    group, epoch = await member_of(client, topic.name)
    tasks = {"active_tasks": owned(0, 1), "standby_tasks": [], "warmup_tasks": []}
    await client.valid(beat(group, epoch, **tasks))
    await client.valid(beat(group, epoch))
    await client.valid(beat(group, epoch, rebalance_timeout_ms=30_000))
    await client.valid(beat(group, LEAVE))
    await client.wrong(beat(group, epoch))


@scenario(HEARTBEAT, "0")
async def tasks_that_cannot_be(client: Client) -> None:
    topic, group = await client.topic(), await client.group()
    await client.boundary(joining(await client.group("missing"), reading(client.name("unknown"))))
    await client.wrong(joining("", reading(topic.name)))
    await client.wrong(joining(group, None))
    await client.wrong(joining(group, reading(topic.name), active_tasks=None))
    await client.wrong(joining(group, reading(topic.name), active_tasks=owned(0)))
    await client.wrong(joining(group, reading(topic.name), rebalance_timeout_ms=-1))
    await client.wrong(joining(group, reading(topic.name), process_id=None))
    await client.wrong(joining(group, reading(topic.name), process_id=""))
    await client.wrong(joining(group, reading(topic.name), instance_id=""))
    await client.wrong(joining(group, reading(topic.name), rack_id=""))
    await client.wrong(beat(group, JOIN, ""))
    await client.wrong(beat(group, -7))
    copartition = [CopartitionGroup(source_topics=[9])]
    await client.wrong(joining(group, reading(topic.name, copartition_groups=copartition)))
    classic = await joined(client, suffix="classic")
    await client.wrong(joining(classic.group, reading(topic.name)))


@scenario(HEARTBEAT, "0")
async def members_that_fall_behind(client: Client) -> None:
    topic = await client.topic()
    group, epoch = await member_of(client, topic.name)
    await client.wrong(beat(group, epoch + 7))
    await client.wrong(beat(group, epoch, "nobody"))
    await client.wrong(beat(group, LEAVE, "nobody"))
    await client.wrong(beat(client.name("never"), epoch))
    await client.wrong(beat(group, epoch, topology=reading(topic.name, epoch=3)))


@scenario(DESCRIBE, "0")
async def groups_of_streams(client: Client) -> None:
    topic = await client.topic(partitions=2)
    group, epoch = await member_of(client, topic.name)
    tasks = {"active_tasks": owned(0, 1), "standby_tasks": [], "warmup_tasks": []}
    await client.quietly(beat(group, epoch, **tasks))
    await client.valid(StreamsGroupDescribeRequest(group_ids=[group]))
    await client.valid(StreamsGroupDescribeRequest(group_ids=[group], include_authorized_operations=True))
    await client.setup(beat(group, LEAVE))
    await client.valid(StreamsGroupDescribeRequest(group_ids=[group]))
    await client.boundary(StreamsGroupDescribeRequest())
    classic = await joined(client, suffix="classic")
    await client.wrong(StreamsGroupDescribeRequest(group_ids=[classic.group]))
    await client.wrong(StreamsGroupDescribeRequest(group_ids=[client.name("never")]))
    await client.wrong(StreamsGroupDescribeRequest(group_ids=[""]))
