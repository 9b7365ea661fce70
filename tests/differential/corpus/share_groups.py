"""Share groups (KIP-932): members, fetching and acknowledging, their offsets, and the state kept of them."""

from __future__ import annotations

import asyncio
from typing import Any

from streamkit.protocol.api import ApiKey
from streamkit.protocol.messages import share_acknowledge, share_fetch
from streamkit.protocol.messages.alter_share_group_offsets import (
    AlterShareGroupOffsetsRequest,
    AlterShareGroupOffsetsRequestPartition,
    AlterShareGroupOffsetsRequestTopic,
)
from streamkit.protocol.messages.delete_share_group_offsets import (
    DeleteShareGroupOffsetsRequest,
    DeleteShareGroupOffsetsRequestTopic,
)
from streamkit.protocol.messages.describe_share_group_offsets import (
    DescribeShareGroupOffsetsRequest,
    DescribeShareGroupOffsetsRequestGroup,
    DescribeShareGroupOffsetsRequestTopic,
)
from streamkit.protocol.messages.share_group_describe import ShareGroupDescribeRequest
from streamkit.protocol.messages.share_group_heartbeat import ShareGroupHeartbeatRequest
from tests.differential.corpus.configs import GROUP, SET, change, seen
from tests.differential.corpus.groups import joined
from tests.differential.scenario import Client, Topic, scenario

MEMBER, OTHER = "AAAAAAAAAAAAAAAAAAAAAA", "BBBBBBBBBBBBBBBBBBBBBB"
JOIN, LEAVE = 0, -1
OPEN, CLOSE = 0, -1
ACCEPT, RELEASE, REJECT, RENEW = 1, 2, 3, 4
ACQUIRED_S = 20
UNKNOWN_ID = b"\7" * 16


def beat(
    group: str, epoch: int, *topics: str, member: str = MEMBER, **fields: Any
) -> ShareGroupHeartbeatRequest:
    names = list(topics) or None
    return ShareGroupHeartbeatRequest(
        group_id=group, member_id=member, member_epoch=epoch, **{"subscribed_topic_names": names, **fields}
    )


async def sharing(client: Client, topic: Topic, records: int = 0, suffix: str = "g") -> str:
    """A group with one member, which has the topic's partitions, from their beginning."""
    group = await client.group(suffix)
    await client.setup(change(GROUP, group, ("share.auto.offset.reset", SET, "earliest")))
    await seen(client, GROUP, group, "share.auto.offset.reset", "earliest")
    if records:
        await client.records(topic, records)
    await client.quietly(beat(group, JOIN, topic.name))
    await client.until(
        beat(group, JOIN, topic.name),
        lambda answer: bool(answer.assignment and answer.assignment.topic_partitions),
    )
    return group


@scenario(ApiKey.SHARE_GROUP_HEARTBEAT, "1")
async def members_share(client: Client) -> None:
    topic = await client.topic(partitions=2)
    group = await sharing(client, topic)
    mine = await client.valid(beat(group, JOIN, topic.name))
    await client.valid(beat(group, mine.member_epoch))
    await client.valid(beat(group, mine.member_epoch, topic.name))
    await client.boundary(beat(group, mine.member_epoch, rack_id="r"))
    await client.valid(beat(group, LEAVE))
    await client.wrong(beat(group, mine.member_epoch))
    await client.wrong(beat(group, LEAVE))


@scenario(ApiKey.SHARE_GROUP_HEARTBEAT, "1")
async def members_do_not_share(client: Client) -> None:
    topic = await client.topic()
    group = await sharing(client, topic)
    await client.wrong(beat(group, 99))
    await client.wrong(beat(group, -2))
    await client.wrong(beat(group, 1, member="nobody"))
    await client.wrong(beat(group, 1, member=""))
    await client.wrong(beat("", JOIN, topic.name))
    await client.wrong(beat(client.name("never"), 1))
    await client.wrong(beat(client.name("new"), JOIN))
    await client.wrong(beat(client.name("new"), JOIN, topic.name, rack_id=""))
    await client.wrong(beat(client.name("new"), JOIN, topic.name, member=""))
    classic = await joined(client, suffix="classic")
    await client.wrong(beat(classic.group, JOIN, topic.name))


@scenario(ApiKey.SHARE_GROUP_DESCRIBE, "1")
async def share_groups_described(client: Client) -> None:
    topic = await client.topic()
    group = await sharing(client, topic)
    await client.valid(ShareGroupDescribeRequest(group_ids=[group]))
    await client.valid(ShareGroupDescribeRequest(group_ids=[group], include_authorized_operations=True))
    classic = await joined(client, suffix="classic")
    await client.wrong(ShareGroupDescribeRequest(group_ids=[classic.group]))
    await client.wrong(ShareGroupDescribeRequest(group_ids=[client.name("never")]))
    await client.wrong(ShareGroupDescribeRequest(group_ids=[""]))
    await client.boundary(ShareGroupDescribeRequest())
    await client.setup(beat(group, LEAVE))
    await client.valid(ShareGroupDescribeRequest(group_ids=[group]))


def fetch(
    group: str | None,
    topic: Topic | None,
    epoch: int,
    *acks: tuple[int, int, int],
    partition: int = 0,
    **fields: Any,
) -> share_fetch.ShareFetchRequest:
    """Acknowledgements are (first offset, last offset, type)."""
    batches = [
        share_fetch.AcknowledgementBatch(first_offset=first, last_offset=last, acknowledge_types=[kind])
        for first, last, kind in acks
    ]
    one = share_fetch.FetchPartition(partition_index=partition, acknowledgement_batches=batches)
    topics = [] if topic is None else [share_fetch.FetchTopic(topic_id=topic.id, partitions=[one])]
    settings = {
        "group_id": group, "member_id": MEMBER, "share_session_epoch": epoch, "max_wait_ms": 200,
        "min_bytes": 1, "max_bytes": 1 << 20, "max_records": 100, "batch_size": 100, "topics": topics,
    }  # fmt: skip
    return share_fetch.ShareFetchRequest(**{**settings, **fields})


def acknowledge(
    group: str | None,
    topic: Topic | None,
    epoch: int,
    *acks: tuple[int, int, int],
    partition: int = 0,
    **fields: Any,
) -> share_acknowledge.ShareAcknowledgeRequest:
    batches = [
        share_acknowledge.AcknowledgementBatch(first_offset=first, last_offset=last, acknowledge_types=[kind])
        for first, last, kind in acks
    ]
    one = share_acknowledge.AcknowledgePartition(partition_index=partition, acknowledgement_batches=batches)
    topics = (
        [] if topic is None else [share_acknowledge.AcknowledgeTopic(topic_id=topic.id, partitions=[one])]
    )
    settings = {"group_id": group, "member_id": MEMBER, "share_session_epoch": epoch, "topics": topics}
    return share_acknowledge.ShareAcknowledgeRequest(**{**settings, **fields})


async def acquired(client: Client, group: str, topic: Topic) -> int:
    """The epoch that a member's session has reached when it has been given records."""
    epoch = OPEN
    async with asyncio.timeout(ACQUIRED_S):
        while True:
            answer = await client.quietly(fetch(group, topic, epoch, max_wait_ms=1000))
            epoch += 1
            if any(one.acquired_records for response in answer.responses for one in response.partitions):
                return epoch


@scenario(ApiKey.SHARE_FETCH, "1-2")
async def records_are_shared(client: Client) -> None:
    topic = await client.topic()
    group = await sharing(client, topic, 6)
    await client.valid(fetch(group, topic, OPEN, max_wait_ms=5000))
    await client.valid(fetch(group, topic, 1, (0, 1, ACCEPT), (2, 2, RELEASE), (3, 3, REJECT)))
    await client.valid(fetch(group, topic, 2, (4, 5, ACCEPT)))
    await client.boundary(fetch(group, None, 3))
    await client.valid(fetch(group, topic, CLOSE, (2, 2, ACCEPT)))


@scenario(ApiKey.SHARE_FETCH, "1-2")
async def records_are_not_shared(client: Client) -> None:
    topic = await client.topic()
    group = await sharing(client, topic, 2)
    await client.wrong(fetch(group, topic, 5))
    await client.wrong(fetch(group, Topic("", UNKNOWN_ID), OPEN))
    await client.wrong(fetch("", topic, OPEN))
    await client.wrong(fetch(None, topic, OPEN))
    await client.wrong(fetch(group, topic, OPEN, member_id=""))
    await client.wrong(fetch(group, topic, OPEN, member_id=None))
    await client.wrong(fetch(group, topic, OPEN, (0, 1, ACCEPT)))
    await client.wrong(fetch(group, topic, OPEN, partition=9))


@scenario(ApiKey.SHARE_ACKNOWLEDGE, "1-2")
async def records_are_acknowledged(client: Client) -> None:
    topic = await client.topic()
    group = await sharing(client, topic, 6)
    first = await acquired(client, group, topic)
    await client.valid(acknowledge(group, topic, first, (0, 1, ACCEPT)))
    await client.valid(acknowledge(group, topic, first + 1, (2, 2, RELEASE), (3, 3, REJECT)))
    await client.wrong(acknowledge(group, topic, first + 2, (0, 0, ACCEPT)))
    await client.wrong(acknowledge(group, topic, first + 3, (90, 99, ACCEPT)))
    await client.wrong(acknowledge(group, topic, first + 4, (5, 4, ACCEPT)))
    await client.wrong(acknowledge(group, topic, first + 5, (4, 4, 9)))
    await client.wrong(acknowledge(group, topic, first + 6, (4, 4, RENEW)))
    await client.valid(acknowledge(group, topic, first + 7, (4, 5, ACCEPT)))
    await client.boundary(acknowledge(group, None, first + 8))
    await client.valid(acknowledge(group, None, CLOSE))
    await client.wrong(acknowledge(group, topic, first + 9, (4, 5, ACCEPT)))


@scenario(ApiKey.SHARE_ACKNOWLEDGE, "1-2")
async def acknowledgements_of_nobody(client: Client) -> None:
    topic = await client.topic()
    group = await sharing(client, topic)
    await client.wrong(acknowledge(group, topic, OPEN, (0, 0, ACCEPT)))
    await client.wrong(acknowledge("", topic, 1, (0, 0, ACCEPT), member_id=OTHER))
    await client.wrong(acknowledge(None, topic, 1, (0, 0, ACCEPT)))
    await client.wrong(acknowledge(group, topic, 1, (0, 0, ACCEPT), member_id=""))
    await client.wrong(acknowledge(group, topic, 1, (0, 0, ACCEPT), member_id=OTHER))


def offsets_of(
    group: str, *names: str, partitions: tuple[int, ...] = (0,), everything: bool = False
) -> DescribeShareGroupOffsetsRequest:
    topics = [
        DescribeShareGroupOffsetsRequestTopic(topic_name=name, partitions=list(partitions)) for name in names
    ]
    one = DescribeShareGroupOffsetsRequestGroup(group_id=group, topics=None if everything else topics)
    return DescribeShareGroupOffsetsRequest(groups=[one])


@scenario(ApiKey.DESCRIBE_SHARE_GROUP_OFFSETS, "0-1")
async def offsets_of_share_groups(client: Client) -> None:
    topic = await client.topic()
    group = await sharing(client, topic, 4)
    await client.valid(offsets_of(group, topic.name))
    await client.valid(offsets_of(group, everything=True))
    other = offsets_of(group, (await client.topic("other")).name)
    await client.until(other, lambda answer: any(answer.groups[0].topics[0].topic_id))
    await client.valid(other)
    await client.valid(offsets_of(group, topic.name))
    await client.boundary(offsets_of(group))
    await client.boundary(DescribeShareGroupOffsetsRequest())
    await client.wrong(offsets_of(group, topic.name, partitions=(7,)))
    await client.wrong(offsets_of(group, client.name("unknown")))
    await client.wrong(offsets_of(client.name("never"), topic.name))
    await client.wrong(offsets_of("", topic.name))
    classic = await joined(client, suffix="classic")
    await client.wrong(offsets_of(classic.group, topic.name))


def alter(group: str, name: str, offset: int, partition: int = 0) -> AlterShareGroupOffsetsRequest:
    row = AlterShareGroupOffsetsRequestPartition(partition_index=partition, start_offset=offset)
    return AlterShareGroupOffsetsRequest(
        group_id=group, topics=[AlterShareGroupOffsetsRequestTopic(topic_name=name, partitions=[row])]
    )


@scenario(ApiKey.ALTER_SHARE_GROUP_OFFSETS, "0")
async def offsets_of_share_groups_are_set(client: Client) -> None:
    topic = await client.topic()
    group = await sharing(client, topic, 6)
    await client.wrong(alter(group, topic.name, 3))
    await client.setup(beat(group, LEAVE))
    for offset in (3, 0, 5):
        await client.valid(alter(group, topic.name, offset))
        await client.valid(offsets_of(group, topic.name))
    await client.boundary(AlterShareGroupOffsetsRequest(group_id=group))
    await client.boundary(alter(group, topic.name, 99))
    await client.wrong(alter(group, topic.name, -5))
    await client.wrong(alter(group, topic.name, 1, partition=9))
    await client.wrong(alter(group, client.name("unknown"), 1))
    await client.wrong(alter(client.name("never"), topic.name, 1))
    await client.wrong(alter("", topic.name, 1))


def forget(group: str, *names: str) -> DeleteShareGroupOffsetsRequest:
    topics = [DeleteShareGroupOffsetsRequestTopic(topic_name=name) for name in names]
    return DeleteShareGroupOffsetsRequest(group_id=group, topics=topics)


@scenario(ApiKey.DELETE_SHARE_GROUP_OFFSETS, "0")
async def offsets_of_share_groups_are_forgotten(client: Client) -> None:
    topic = await client.topic()
    for suffix in ("a", "b", "c"):
        group = await sharing(client, topic, 2, suffix)
        await client.wrong(forget(group, topic.name))
        await client.setup(beat(group, LEAVE))
        await client.valid(forget(group, topic.name))
        await client.boundary(forget(group, topic.name))
    await client.boundary(forget(group))
    await client.wrong(forget(group, client.name("unknown")))
    await client.wrong(forget(client.name("never"), topic.name))
    await client.wrong(forget("", topic.name))
