"""A share group as an operator sees it: its members, and which share-partitions it has."""

from __future__ import annotations

from collections.abc import Iterable

from streamkit.broker.coordination.group.cluster import Cluster
from streamkit.broker.coordination.group.modern.partitions import Partition, existing
from streamkit.broker.coordination.group.share.group import ShareGroup
from streamkit.broker.coordination.group.share.member import ShareMember
from streamkit.broker.coordination.group.share.target import NO_OFFSET
from streamkit.protocol.messages.describe_share_group_offsets import (
    DescribeShareGroupOffsetsRequestTopic,
    DescribeShareGroupOffsetsResponsePartition,
    DescribeShareGroupOffsetsResponseTopic,
)
from streamkit.protocol.messages.share_group_describe import Assignment, DescribedGroup, TopicPartitions
from streamkit.protocol.messages.share_group_describe import Member as DescribedMember
from streamkit.protocol.schema import ZERO_UUID


def describe(group: ShareGroup, assignor: str) -> DescribedGroup:
    return DescribedGroup(
        group_id=group.group_id,
        group_state=group.state.value,
        group_epoch=group.epoch,
        assignment_epoch=group.target_epoch,
        assignor_name=assignor,
        members=[_described(group, member) for member in group.members.values()],
    )


def _described(group: ShareGroup, member: ShareMember) -> DescribedMember:
    return DescribedMember(
        member_id=member.member_id,
        rack_id=member.rack_id,
        member_epoch=member.epoch,
        client_id=member.client_id,
        client_host=member.client_host,
        subscribed_topic_names=list(member.topics),
        assignment=_assignment(group, member.assigned),
    )


def _assignment(group: ShareGroup, partitions: Iterable[Partition]) -> Assignment:
    return Assignment(
        topic_partitions=[
            TopicPartitions(topic_id=topic.topic_id, topic_name=topic.name, partitions=numbers)
            for topic, numbers in existing(group.cluster, partitions)
        ]
    )


# ── offsets ─────────────────────────────────────────────────────────────────────────────────────────────


def all_places(group: ShareGroup) -> list[DescribeShareGroupOffsetsResponseTopic]:
    """Every share-partition whose state has been begun, of topics that still exist; nothing is known yet."""
    found = existing(group.cluster, group.states.initialized)
    return [_places(topic.name, topic.topic_id, numbers) for topic, numbers in found]


def named_places(
    cluster: Cluster, topics: Iterable[DescribeShareGroupOffsetsRequestTopic]
) -> list[DescribeShareGroupOffsetsResponseTopic]:
    """The share-partitions that are asked for; a topic that does not exist has no id."""
    found = ((wanted, cluster.topic(wanted.topic_name)) for wanted in topics)
    return [
        _places(wanted.topic_name, ZERO_UUID if topic is None else topic.topic_id, wanted.partitions)
        for wanted, topic in found
    ]


def _places(name: str, topic_id: bytes, numbers: Iterable[int]) -> DescribeShareGroupOffsetsResponseTopic:
    return DescribeShareGroupOffsetsResponseTopic(
        topic_name=name,
        topic_id=topic_id,
        partitions=[
            DescribeShareGroupOffsetsResponsePartition(partition_index=number, start_offset=NO_OFFSET)
            for number in numbers
        ],
    )
