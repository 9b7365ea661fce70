"""A share group as an operator sees it (ShareGroupDescribe)."""

from __future__ import annotations

from collections.abc import Iterable

from streamkit.broker.coordination.group.consumer.member import Partition, by_topic
from streamkit.broker.coordination.group.share.group import ShareGroup
from streamkit.broker.coordination.group.share.member import ShareMember
from streamkit.protocol.messages.share_group_describe import Assignment, DescribedGroup, TopicPartitions
from streamkit.protocol.messages.share_group_describe import Member as DescribedMember


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
    """Topics that exist; a member may still look into one that was deleted."""
    topics = by_topic(partitions)
    found = ((group.cluster.topic_by_id(topic_id), numbers) for topic_id, numbers in topics.items())
    return Assignment(
        topic_partitions=[
            TopicPartitions(topic_id=topic.topic_id, topic_name=topic.name, partitions=numbers)
            for topic, numbers in found
            if topic is not None
        ]
    )
