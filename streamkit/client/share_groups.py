"""What an operator asks of share groups: who is in one, how far it has come, and that it begins elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from streamkit.client.groups import coordinator, refuse_members
from streamkit.client.node import Node, check
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
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
)
from streamkit.protocol.messages.share_group_describe import DescribedGroup, ShareGroupDescribeRequest
from streamkit.protocol.messages.share_group_describe import Member as DescribedMember

NOT_KNOWN = -1


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


async def described(node: Node, name: str) -> ShareGroup | None:
    """The share group of that name; None if there is none."""
    if not node.serves(ApiKey.SHARE_GROUP_DESCRIBE):
        return None
    async with coordinator(node, name) as one:
        (group,) = (await one.ask(ShareGroupDescribeRequest(group_ids=[name]))).groups
        if group.error_code == ErrorCode.GROUP_ID_NOT_FOUND:
            return None
        check(group.error_code, group.error_message)
        partitions = await _partitions(one, name)
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


async def _partitions(node: Node, name: str) -> list[SharePartition]:
    everything = DescribeShareGroupOffsetsRequestGroup(group_id=name, topics=None)
    (group,) = (await node.ask(DescribeShareGroupOffsetsRequest(groups=[everything]))).groups
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


async def reset(node: Node, name: str, offsets: Mapping[tuple[str, int], int]) -> None:
    """Begin delivery of these partitions at these offsets. Raises RefusedError, AnsweredError."""
    topics: dict[str, list[AlterShareGroupOffsetsRequestPartition]] = {}
    for (topic, number), offset in offsets.items():
        part = AlterShareGroupOffsetsRequestPartition(partition_index=number, start_offset=offset)
        topics.setdefault(topic, []).append(part)
    request = AlterShareGroupOffsetsRequest(
        group_id=name,
        topics=[
            AlterShareGroupOffsetsRequestTopic(topic_name=topic, partitions=parts)
            for topic, parts in topics.items()
        ],
    )
    async with coordinator(node, name) as one:
        answer = await one.ask(request)
    refuse_members(name, answer.error_code)
    check(answer.error_code, answer.error_message)
    for result in answer.responses:
        for part in result.partitions:
            check(part.error_code, part.error_message)


async def forget(node: Node, name: str, topic: str) -> None:
    """Forget how far a topic has been delivered. Raises RefusedError, AnsweredError."""
    request = DeleteShareGroupOffsetsRequest(
        group_id=name, topics=[DeleteShareGroupOffsetsRequestTopic(topic_name=topic)]
    )
    async with coordinator(node, name) as one:
        answer = await one.ask(request)
    refuse_members(name, answer.error_code)
    check(answer.error_code, answer.error_message)
    for result in answer.responses:
        check(result.error_code, result.error_message)
