"""Partitions as groups divide them, and as their records say them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from streamkit.broker.coordination.group.cluster import Cluster, Topic
from streamkit.protocol.schema import ZERO_UUID, Int32, Message, Uuid, schema


class Partition(NamedTuple):
    """A partition; ids rather than names, so that a topic that is made again under its name is another."""

    topic_id: bytes
    number: int


class TopicPartitions(Message):
    topic_id: Uuid = ZERO_UUID
    partitions: list[Int32] = []


@schema("0", flexible="0+")
class TargetPartitionsValue(Message):
    """A member's part of a target assignment of partitions."""

    topic_partitions: list[TopicPartitions] = []


def by_topic(partitions: Iterable[Partition]) -> dict[bytes, list[int]]:
    """The numbers of each topic's partitions, all sorted."""
    topics: dict[bytes, list[int]] = {}
    for partition in sorted(partitions):
        topics.setdefault(partition.topic_id, []).append(partition.number)
    return topics


def existing(cluster: Cluster, partitions: Iterable[Partition]) -> Iterator[tuple[Topic, list[int]]]:
    """The same with topics that exist; a group may still know of one that was deleted."""
    for topic_id, numbers in by_topic(partitions).items():
        topic = cluster.topic_by_id(topic_id)
        if topic is not None:
            yield topic, numbers


def recorded(partitions: Iterable[Partition]) -> list[TopicPartitions]:
    """As a record says them."""
    return [
        TopicPartitions(topic_id=topic_id, partitions=numbers)
        for topic_id, numbers in by_topic(partitions).items()
    ]


def read(topics: Iterable[TopicPartitions]) -> frozenset[Partition]:
    return frozenset(Partition(topic.topic_id, number) for topic in topics for number in topic.partitions)


def target_value(partitions: Iterable[Partition]) -> TargetPartitionsValue:
    return TargetPartitionsValue(topic_partitions=recorded(partitions))


def target_partitions(value: TargetPartitionsValue) -> frozenset[Partition]:
    return read(value.topic_partitions)
