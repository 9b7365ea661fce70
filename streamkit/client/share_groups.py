"""What an operator asks of share groups: which there are, who is in one, and how far its queue has come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from streamkit.client.cluster import members as cluster_members
from streamkit.client.node import AnsweredError, Node, check
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.describe_share_group_offsets import (
    DescribeShareGroupOffsetsRequest,
    DescribeShareGroupOffsetsRequestGroup,
)
from streamkit.protocol.messages.find_coordinator import FindCoordinatorRequest
from streamkit.protocol.messages.list_groups import ListGroupsRequest
from streamkit.protocol.messages.share_group_describe import DescribedGroup, ShareGroupDescribeRequest
from streamkit.protocol.messages.share_group_describe import Member as DescribedMember

SHARE = "share"
GROUP_KEY = 0
NOT_KNOWN = -1


class ListedGroup(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    state: str


class Member(msgspec.Struct, frozen=True, kw_only=True):
    member: str
    client: str
    host: str
    partitions: list[tuple[str, int]]
    """Topics and numbers; other members may have them as well."""


class SharePartition(msgspec.Struct, frozen=True, kw_only=True):
    """A partition as the group shares it. None: nothing was fetched from it yet, or nobody says."""

    topic: str
    partition: int
    start: int | None
    """Below it, delivery is over."""
    lag: int | None
    """Records at and above it whose delivery is not."""


class ShareGroup(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    state: str
    assignor: str
    members: list[Member]
    partitions: list[SharePartition]


async def listed(node: Node) -> list[ListedGroup]:
    """The share groups of the cluster: each broker knows those that it coordinates."""
    found = []
    for broker in (await cluster_members(node)).brokers:
        if broker.is_fenced:
            continue
        async with node.other(broker.host, broker.port) as one:
            answer = await one.ask(ListGroupsRequest(types_filter=[SHARE]))
        check(answer.error_code)
        found += [
            ListedGroup(name=group.group_id, state=group.group_state)
            for group in answer.groups
            if group.group_type.lower() == SHARE
        ]
    return sorted(found, key=lambda group: group.name)


async def described(node: Node, name: str) -> ShareGroup | None:
    """The share group of that name; None if there is none."""
    if not node.serves(ApiKey.SHARE_GROUP_DESCRIBE):
        return None
    async with _coordinator(node, name) as coordinator:
        (group,) = (await coordinator.ask(ShareGroupDescribeRequest(group_ids=[name]))).groups
        if group.error_code == ErrorCode.GROUP_ID_NOT_FOUND:
            return None
        check(group.error_code, group.error_message)
        partitions = await _partitions(coordinator, name)
    return _described(group, partitions)


def _described(group: DescribedGroup, partitions: list[SharePartition]) -> ShareGroup:
    return ShareGroup(
        name=group.group_id,
        state=group.group_state,
        assignor=group.assignor_name,
        members=[_member(one) for one in group.members],
        partitions=partitions,
    )


def _member(member: DescribedMember) -> Member:
    return Member(
        member=member.member_id,
        client=member.client_id,
        host=member.client_host,
        partitions=[
            (topic.topic_name, number)
            for topic in member.assignment.topic_partitions
            for number in topic.partitions
        ],
    )


async def _partitions(coordinator: Node, name: str) -> list[SharePartition]:
    everything = DescribeShareGroupOffsetsRequestGroup(group_id=name, topics=None)
    (group,) = (await coordinator.ask(DescribeShareGroupOffsetsRequest(groups=[everything]))).groups
    check(group.error_code, group.error_message)
    found = [
        SharePartition(
            topic=topic.topic_name,
            partition=one.partition_index,
            start=None if one.error_code or one.start_offset == NOT_KNOWN else one.start_offset,
            lag=None if one.error_code or one.lag == NOT_KNOWN else one.lag,
        )
        for topic in group.topics
        for one in topic.partitions
    ]
    return sorted(found, key=lambda one: (one.topic, one.partition))


@asynccontextmanager
async def _coordinator(node: Node, name: str) -> AsyncIterator[Node]:
    """A connection to the broker that coordinates the group; raises AnsweredError."""
    answer = await node.ask(FindCoordinatorRequest(key=name, key_type=GROUP_KEY, coordinator_keys=[name]))
    if not answer.coordinators:
        raise AnsweredError(answer.error_code, answer.error_message)
    (found,) = answer.coordinators
    check(found.error_code, found.error_message)
    async with node.other(found.host, found.port) as coordinator:
        yield coordinator
