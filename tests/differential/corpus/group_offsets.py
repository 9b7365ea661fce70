"""What is kept of groups: OffsetCommit, OffsetFetch, OffsetDelete, lists and descriptions of groups."""

from __future__ import annotations

from typing import Any

from streamkit.protocol.api import ApiKey
from streamkit.protocol.messages.delete_groups import DeleteGroupsRequest
from streamkit.protocol.messages.describe_groups import DescribeGroupsRequest
from streamkit.protocol.messages.leave_group import MemberIdentity
from streamkit.protocol.messages.list_groups import ListGroupsRequest
from streamkit.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from streamkit.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from streamkit.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from tests.differential.corpus.groups import join, joined, leave, subscription, sync
from tests.differential.scenario import Client, Topic, scenario

UNKNOWN_ID = b"\7" * 16
FIRST_WITH_IDS = 10
FIRST_WITH_MANY_GROUPS = 8
BY_NAME = 9


def commit(
    group: str,
    topic: Topic,
    offset: int = 5,
    *,
    partition: int = 0,
    metadata: str | None = "m",
    epoch: int = -1,
    **member: Any,
) -> OffsetCommitRequest:
    one = OffsetCommitRequestPartition(
        partition_index=partition,
        committed_offset=offset,
        committed_metadata=metadata,
        committed_leader_epoch=epoch,
    )
    return OffsetCommitRequest(
        group_id=group,
        topics=[OffsetCommitRequestTopic(name=topic.name, topic_id=topic.id, partitions=[one])],
        **member,
    )


@scenario(ApiKey.OFFSET_COMMIT, "2-10")
async def commits_without_members(client: Client) -> None:
    group, topic = await client.group(), await client.topic(partitions=2)
    await client.valid(commit(group, topic))
    await client.valid(commit(group, topic, 7, partition=1, metadata=None))
    await client.valid(commit(group, topic, 3, metadata="", epoch=0))
    await client.boundary(commit(group, topic, metadata="x" * 4096))
    await client.boundary(commit(group, topic, 2**63 - 1, epoch=9))
    await client.boundary(OffsetCommitRequest(group_id=group))
    await client.boundary(commit(group, topic, retention_time_ms=1000))
    await client.boundary(commit(group, topic, 0))


@scenario(ApiKey.OFFSET_COMMIT, "2-10")
async def commits_refused(client: Client) -> None:
    group, topic = await client.group(), await client.topic()
    await client.wrong(commit(group, Topic(client.name("unknown"), UNKNOWN_ID)))
    await client.wrong(commit(group, topic, partition=3))
    await client.wrong(commit(group, topic, partition=-1))
    await client.wrong(commit(group, topic, metadata="x" * 4097))
    await client.setup(commit(group, topic))
    await client.wrong(commit(group, topic, generation_id_or_member_epoch=4, member_id="nobody"))
    await client.wrong(commit("", topic))
    await client.wrong(commit(group, topic, -1))
    await client.wrong(commit(group, topic, -2))
    await client.wrong(commit(group, topic, member_id="somebody"))
    await client.wrong(commit(group, topic, group_instance_id=""))


@scenario(ApiKey.OFFSET_COMMIT, "2-10")
async def commits_of_members(client: Client) -> None:
    member, topic = await joined(client), await client.topic()
    mine = {"generation_id_or_member_epoch": member.generation, "member_id": member.id}
    await client.valid(commit(member.group, topic, **mine))
    await client.wrong(commit(member.group, topic, **{**mine, "generation_id_or_member_epoch": 77}))
    await client.wrong(commit(member.group, topic, **{**mine, "generation_id_or_member_epoch": -1}))
    await client.wrong(commit(member.group, topic, **{**mine, "member_id": "nobody"}))
    await client.wrong(commit(member.group, topic))
    await client.setup(leave(client, member.group, MemberIdentity(member_id=member.id)))
    await client.valid(commit(member.group, topic))
    await client.wrong(commit(member.group, topic, **mine))


def fetch(
    client: Client,
    group: str,
    *topics: Topic,
    everything: bool = False,
    partitions: tuple[int, ...] = (0,),
    stable: bool = False,
    **member: Any,
) -> OffsetFetchRequest:
    indexes = list(partitions)
    if client.version < FIRST_WITH_MANY_GROUPS:
        asked = [OffsetFetchRequestTopic(name=one.name, partition_indexes=indexes) for one in topics]
        return OffsetFetchRequest(group_id=group, topics=None if everything else asked, require_stable=stable)
    by_id = [
        OffsetFetchRequestTopics(name=one.name, topic_id=one.id, partition_indexes=indexes) for one in topics
    ]
    one = OffsetFetchRequestGroup(group_id=group, topics=None if everything else by_id, **member)
    return OffsetFetchRequest(groups=[one], require_stable=stable)


@scenario(ApiKey.OFFSET_FETCH, "1-10")
async def commits_come_back(client: Client) -> None:
    group, topic, other = await client.group(), await client.topic("t", 2), await client.topic("u")
    await client.setup(commit(group, topic, 5, epoch=0))
    await client.setup(commit(group, other, 6, metadata=None))
    await client.valid(fetch(client, group, topic))
    await client.valid(fetch(client, group, topic, other, partitions=(0, 1)))
    if client.version > 1:
        await client.valid(fetch(client, group, everything=True))
    await client.valid(fetch(client, group, other, stable=True))
    if client.version > 1:
        await client.boundary(fetch(client, await client.group("empty"), everything=True))
    await client.boundary(fetch(client, group))
    await client.boundary(fetch(client, group, topic, partitions=()))
    await client.boundary(fetch(client, group, topic, topic))


@scenario(ApiKey.OFFSET_FETCH, "1-10")
async def commits_that_are_not_there(client: Client) -> None:
    group, topic = await client.group(), await client.topic()
    await client.wrong(fetch(client, group, topic))
    await client.wrong(fetch(client, group, Topic(client.name("unknown"), UNKNOWN_ID)))
    await client.wrong(fetch(client, "", topic))
    await client.wrong(fetch(client, client.name("never"), topic, partitions=(-1, 9)))
    await client.wrong(fetch(client, group, Topic("")))
    if client.version >= FIRST_WITH_MANY_GROUPS:
        await client.wrong(fetch(client, group, topic, member_id="nobody", member_epoch=1))
        await client.wrong(fetch(client, group, topic, member_id="nobody"))
        await client.boundary(OffsetFetchRequest(groups=[]))
        twice = [OffsetFetchRequestGroup(group_id=group, topics=None)] * 2
        await client.boundary(OffsetFetchRequest(groups=twice))


@scenario(ApiKey.OFFSET_FETCH, "1-10")
async def commits_of_a_deleted_topic(client: Client) -> None:
    from streamkit.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState

    group, topic = await client.group(), await client.topic()
    await client.setup(commit(group, topic))
    await client.setup(DeleteTopicsRequest(topics=[DeleteTopicState(name=topic.name)], timeout_ms=5000))
    await client.gone(topic)
    await client.until(fetch_all(group), lambda answer: not answer.groups[0].topics, BY_NAME)
    await client.wrong(fetch(client, group, topic))


def fetch_all(group: str) -> OffsetFetchRequest:
    return OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group, topics=None)])


def forget(group: str, *topics: str, partition: int = 0) -> OffsetDeleteRequest:
    one = [OffsetDeleteRequestPartition(partition_index=partition)]
    return OffsetDeleteRequest(
        group_id=group, topics=[OffsetDeleteRequestTopic(name=name, partitions=one) for name in topics]
    )


@scenario(ApiKey.OFFSET_DELETE, "0")
async def commits_are_forgotten(client: Client) -> None:
    group, topic = await client.group(), await client.topic(partitions=4)
    for partition in range(4):
        await client.setup(commit(group, topic, partition=partition))
    for partition in range(3):
        await client.valid(forget(group, topic.name, partition=partition))
    await client.setup(commit(group, topic))
    await client.boundary(forget(group, topic.name, partition=1))
    await client.boundary(forget(group))
    await client.wrong(forget(group, client.name("unknown")))
    await client.wrong(forget(group, topic.name, client.name("unknown")))
    await client.wrong(forget(group, topic.name, partition=9))
    await client.wrong(forget(client.name("never"), topic.name))
    await client.wrong(forget("", topic.name))


@scenario(ApiKey.OFFSET_DELETE, "0")
async def commits_that_a_member_needs(client: Client) -> None:
    from streamkit.protocol.messages.join_group import JoinGroupRequestProtocol

    used, free = await client.topic("used"), await client.topic("free")
    protocols = [JoinGroupRequestProtocol(name="range", metadata=subscription(used.name))]
    member = await joined(client, protocols=protocols)
    mine = {"generation_id_or_member_epoch": member.generation, "member_id": member.id}
    await client.setup(commit(member.group, used, **mine))
    await client.setup(commit(member.group, free, **mine))
    await client.wrong(forget(member.group, used.name))
    await client.boundary(forget(member.group, free.name))
    other = await joined(client, suffix="connect", protocol_type="connect")
    await client.wrong(forget(other.group, used.name))


@scenario(ApiKey.DELETE_GROUPS, "0-2")
async def groups_are_deleted(client: Client) -> None:
    topic = await client.topic()
    for suffix in ("a", "b", "c"):
        await client.setup(commit(await client.group(suffix), topic))
        await client.valid(DeleteGroupsRequest(groups_names=[client.name(suffix)]))
        await client.wrong(DeleteGroupsRequest(groups_names=[client.name(suffix)]))
    member = await joined(client)
    await client.wrong(DeleteGroupsRequest(groups_names=[member.group, client.name("never")]))
    await client.wrong(DeleteGroupsRequest(groups_names=[""]))
    await client.boundary(DeleteGroupsRequest(groups_names=[]))
    await client.setup(leave(client, member.group, MemberIdentity(member_id=member.id)))
    await client.valid(DeleteGroupsRequest(groups_names=[member.group]))


@scenario(ApiKey.DESCRIBE_GROUPS, "0-6")
async def groups_described(client: Client) -> None:
    topic, member = await client.topic(), await joined(client)
    only_offsets = await client.group("only-offsets")
    await client.setup(commit(only_offsets, topic))
    await client.valid(DescribeGroupsRequest(groups=[member.group]))
    await client.valid(
        DescribeGroupsRequest(groups=[member.group, only_offsets], include_authorized_operations=True)
    )
    static = await joined(client, suffix="static", instance="i1", protocol_type="connect")
    await client.setup(
        sync(
            static.group,
            static.generation,
            static.id,
            static.id,
            group_instance_id="i1",
            protocol_type="connect",
        )
    )  # until something of it is written, whether Kafka has heard of it depends on what others write
    await client.valid(DescribeGroupsRequest(groups=[static.group]))
    await client.setup(leave(client, member.group, MemberIdentity(member_id=member.id)))
    await client.valid(DescribeGroupsRequest(groups=[member.group]))
    await client.boundary(DescribeGroupsRequest(groups=[]))
    await client.boundary(DescribeGroupsRequest(groups=[only_offsets] * 2))
    await client.wrong(DescribeGroupsRequest(groups=[client.name("never")]))
    await client.wrong(DescribeGroupsRequest(groups=[""]))
    await client.wrong(DescribeGroupsRequest(groups=[client.name("never"), only_offsets]))


@scenario(ApiKey.LIST_GROUPS, "0-5")
async def groups_listed(client: Client) -> None:
    member = await joined(client)
    await client.setup(join(await client.group("refused"), protocols=[]))
    await client.setup(commit(await client.group("only-offsets"), await client.topic()))
    await client.valid(ListGroupsRequest())
    await client.valid(ListGroupsRequest(states_filter=["Stable"]))
    await client.valid(ListGroupsRequest(states_filter=["Empty", "stable"], types_filter=["classic"]))
    await client.setup(leave(client, member.group, MemberIdentity(member_id=member.id)))
    await client.valid(ListGroupsRequest(types_filter=["Consumer"]))
    await client.wrong(ListGroupsRequest(states_filter=["nonsense"]))
    await client.wrong(ListGroupsRequest(states_filter=[""]))
    await client.wrong(ListGroupsRequest(types_filter=["nonsense"]))
