"""A consumer group as an operator sees it (ConsumerGroupDescribe)."""

from __future__ import annotations

from collections.abc import Iterable

from streamkit.broker.coordination.group.consumer.group import ConsumerGroup
from streamkit.broker.coordination.group.consumer.member import ConsumerMember
from streamkit.broker.coordination.group.consumer.target import assignor_name
from streamkit.broker.coordination.group.modern.partitions import Partition, existing
from streamkit.protocol.messages.consumer_group_describe import (
    Assignment,
    DescribedGroup,
    TopicPartitions,
)
from streamkit.protocol.messages.consumer_group_describe import Member as DescribedMember

CLASSIC_MEMBER = 0
CONSUMER_MEMBER = 1


def describe(group: ConsumerGroup) -> DescribedGroup:
    return DescribedGroup(
        group_id=group.group_id,
        group_state=group.state.value,
        group_epoch=group.epoch,
        assignment_epoch=group.target_epoch,
        assignor_name=assignor_name(group),
        members=[_described(group, member) for member in group.members.values()],
    )


def _described(group: ConsumerGroup, member: ConsumerMember) -> DescribedMember:
    return DescribedMember(
        member_id=member.member_id,
        instance_id=member.instance_id,
        rack_id=member.rack_id,
        member_epoch=member.epoch,
        client_id=member.client_id,
        client_host=member.client_host,
        subscribed_topic_names=list(member.topics),
        subscribed_topic_regex=member.regex,
        assignment=_assignment(group, member.assigned),
        target_assignment=_assignment(group, group.target.get(member.member_id, ())),
        member_type=CLASSIC_MEMBER if member.uses_classic_protocol else CONSUMER_MEMBER,
    )


def _assignment(group: ConsumerGroup, partitions: Iterable[Partition]) -> Assignment:
    return Assignment(
        topic_partitions=[
            TopicPartitions(topic_id=topic.topic_id, topic_name=topic.name, partitions=numbers)
            for topic, numbers in existing(group.cluster, partitions)
        ]
    )
