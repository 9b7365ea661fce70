"""Groups of the new protocol (KIP-848): heartbeats and descriptions."""

from __future__ import annotations

import asyncio
from typing import Any

from streamkit.protocol.api import ApiKey
from streamkit.protocol.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from streamkit.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatRequestTopicPartitions,
)
from tests.differential.corpus.group_offsets import commit
from tests.differential.corpus.groups import joined
from tests.differential.scenario import Client, Topic, scenario

HEARTBEAT, DESCRIBE = ApiKey.CONSUMER_GROUP_HEARTBEAT, ApiKey.CONSUMER_GROUP_DESCRIBE
JOIN, LEAVE, LEAVE_FOR_A_WHILE = 0, -1, -2
ASSIGNED_S = 20


def beat(group: str, member: str, epoch: int, **fields: Any) -> ConsumerGroupHeartbeatRequest:
    return ConsumerGroupHeartbeatRequest(group_id=group, member_id=member, member_epoch=epoch, **fields)


def joining(
    client: Client, group: str, *topics: str, member: str | None = None, **fields: Any
) -> ConsumerGroupHeartbeatRequest:
    """From version 1 on, members name themselves."""
    name = (
        member
        if member is not None
        else ("AAAAAAAAAAAAAAAAAAAAAA" if client.version or client.api is not HEARTBEAT else "")
    )
    settings = {
        "rebalance_timeout_ms": 60_000,
        "subscribed_topic_names": list(topics),
        "topic_partitions": [],
        **fields,
    }
    return beat(group, name, JOIN, **settings)


async def assigned(client: Client, group: str, answer: Any) -> Any:
    """The first answer that carries an assignment; when the target is computed is chance."""
    async with asyncio.timeout(ASSIGNED_S):
        while not (answer.assignment and answer.assignment.topic_partitions):
            await asyncio.sleep(0.1)
            answer = await client.quietly(beat(group, answer.member_id, answer.member_epoch))
    return answer


async def member_of(client: Client, topic: Topic, **fields: Any) -> tuple[str, Any]:
    group = await client.group()
    answer = await client.setup(joining(client, group, topic.name, member="AAAAAAAAAAAAAAAAAAAAAA", **fields))
    return group, await assigned(client, group, answer)


def owned(topic: Topic, *partitions: int) -> list[ConsumerGroupHeartbeatRequestTopicPartitions]:
    return [ConsumerGroupHeartbeatRequestTopicPartitions(topic_id=topic.id, partitions=list(partitions))]


@scenario(HEARTBEAT, "0-1")
async def a_member_of_the_new_protocol(client: Client) -> None:
    topic = await client.topic(partitions=3)
    group, mine = await member_of(client, topic)
    await client.valid(beat(group, mine.member_id, mine.member_epoch))
    await client.valid(beat(group, mine.member_id, mine.member_epoch, topic_partitions=owned(topic, 0, 1, 2)))
    await client.valid(beat(group, mine.member_id, mine.member_epoch, subscribed_topic_names=[topic.name]))
    await client.boundary(beat(group, mine.member_id, mine.member_epoch, rebalance_timeout_ms=30_000))
    await client.boundary(beat(group, mine.member_id, mine.member_epoch, rack_id="r"))
    await client.valid(beat(group, mine.member_id, LEAVE))
    await client.wrong(beat(group, mine.member_id, mine.member_epoch))


@scenario(HEARTBEAT, "0")
async def members_named_by_the_broker(client: Client) -> None:
    topic, group = await client.topic(), await client.group()
    mine = await client.valid(joining(client, group, topic.name))
    await client.valid(beat(group, mine.member_id, mine.member_epoch))
    await client.valid(beat(group, mine.member_id, LEAVE))


@scenario(HEARTBEAT, "0-1")
async def members_that_fall_behind(client: Client) -> None:
    topic = await client.topic()
    group, mine = await member_of(client, topic)
    more = [topic.name, client.name("later")]
    mine = await client.setup(beat(group, mine.member_id, mine.member_epoch, subscribed_topic_names=more))
    await client.wrong(beat(group, mine.member_id, mine.member_epoch + 1))
    await client.wrong(beat(group, mine.member_id, mine.member_epoch - 1, topic_partitions=owned(topic, 5)))
    await client.wrong(beat(group, "nobody", 1))
    await client.wrong(beat(group, "nobody", LEAVE))
    await client.wrong(beat(client.name("never"), mine.member_id, 1))
    await client.wrong(beat(client.name("never"), mine.member_id, LEAVE))


@scenario(HEARTBEAT, "0-1")
async def heartbeats_refused(client: Client) -> None:
    topic, group = await client.topic(), await client.group()
    good = joining(client, group, topic.name)
    await client.wrong(joining(client, "", topic.name))
    await client.wrong(joining(client, group, topic.name, rebalance_timeout_ms=-1))
    await client.wrong(joining(client, group, topic.name, rebalance_timeout_ms=0))
    await client.wrong(joining(client, group, topic.name, topic_partitions=None))
    await client.wrong(joining(client, group, topic.name, topic_partitions=owned(topic, 0)))
    await client.wrong(joining(client, group, subscribed_topic_names=None))
    await client.wrong(joining(client, group, topic.name, server_assignor="nonsense"))
    await client.wrong(joining(client, group, topic.name, server_assignor=""))
    await client.wrong(joining(client, group, topic.name, instance_id=""))
    await client.wrong(joining(client, group, topic.name, rack_id=""))
    await client.wrong(joining(client, group, ""))
    await client.wrong(joining(client, group, "a b"))
    await client.wrong(beat(group, "", 1))
    await client.wrong(beat(group, "", LEAVE))
    await client.wrong(beat(group, good.member_id or "m", -3))
    await client.wrong(beat(group, good.member_id or "m", LEAVE_FOR_A_WHILE))
    if client.version >= 1:
        await client.wrong(joining(client, group, topic.name, member=""))
        await client.wrong(joining(client, group, subscribed_topic_names=None, subscribed_topic_regex="["))
    other = await joined(client, suffix="connect", protocol_type="connect")
    await client.wrong(joining(client, other.group, topic.name))


@scenario(HEARTBEAT, "0-1")
async def static_members_of_the_new_protocol(client: Client) -> None:
    topic = await client.topic()
    group, mine = await member_of(client, topic, instance_id="i1")
    other = "BBBBBBBBBBBBBBBBBBBBBB" if client.version else ""
    await client.wrong(joining(client, group, topic.name, member=other, instance_id="i1"))
    await client.wrong(beat(group, mine.member_id, mine.member_epoch, instance_id="i2"))
    await client.wrong(beat(group, mine.member_id, LEAVE_FOR_A_WHILE, instance_id="i2"))
    await client.valid(beat(group, mine.member_id, mine.member_epoch, instance_id="i1"))
    await client.valid(beat(group, mine.member_id, LEAVE_FOR_A_WHILE, instance_id="i1"))
    await client.valid(joining(client, group, topic.name, member=other, instance_id="i1"))


@scenario(HEARTBEAT, "0-1")
async def subscriptions_change(client: Client) -> None:
    topic, other = await client.topic(), await client.topic("other")
    group, mine = await member_of(client, topic)
    epoch = mine.member_epoch
    changed = await client.valid(
        beat(group, mine.member_id, epoch, subscribed_topic_names=[client.name("unknown")])
    )
    await client.boundary(beat(group, mine.member_id, changed.member_epoch, subscribed_topic_names=[]))
    await client.boundary(
        beat(
            group,
            mine.member_id,
            changed.member_epoch,
            server_assignor="range",
            subscribed_topic_names=[other.name],
        )
    )


@scenario(DESCRIBE, "0-1")
async def groups_of_the_new_protocol(client: Client) -> None:
    topic = await client.topic(partitions=2)
    group, mine = await member_of(client, topic)
    await client.quietly(beat(group, mine.member_id, mine.member_epoch, topic_partitions=owned(topic, 0, 1)))
    described = lambda *names, operations=False: ConsumerGroupDescribeRequest(  # noqa: E731
        group_ids=list(names), include_authorized_operations=operations
    )
    await client.valid(described(group))
    await client.valid(described(group, operations=True))
    await client.setup(beat(group, mine.member_id, LEAVE))
    await client.valid(described(group))
    await client.boundary(described())
    await client.boundary(described(group, group))
    classic = await joined(client, suffix="classic")
    await client.setup(commit(await client.group("offsets"), topic))
    await client.wrong(described(classic.group))
    await client.wrong(described(client.name("offsets")))
    await client.wrong(described(client.name("never"), group))
    await client.wrong(described(""))
