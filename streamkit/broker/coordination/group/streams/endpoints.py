"""Where each process of an application answers queries, and about which partitions.

Every member is told of all of them, again whenever the *endpoint epoch* has grown since it was last told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from streamkit.broker.coordination.group.cluster import Cluster
from streamkit.broker.coordination.group.streams.group import StreamsGroup
from streamkit.broker.coordination.group.streams.internal_topics import ConfiguredSubtopology
from streamkit.broker.coordination.group.streams.tasks import Task, by_subtopology
from streamkit.protocol.messages.streams_group_heartbeat import (
    EndpointToPartitions,
    StreamsGroupHeartbeatResponseEndpoint,
    TopicPartition,
)


def endpoints(group: StreamsGroup) -> list[EndpointToPartitions]:
    configured = group.soft.configured
    subtopologies = {} if configured is None else configured.subtopologies
    return [
        EndpointToPartitions(
            user_endpoint=StreamsGroupHeartbeatResponseEndpoint(
                host=member.user_endpoint.host, port=member.user_endpoint.port
            ),
            active_partitions=list(_partitions(member.assigned.active, subtopologies, group.cluster)),
            standby_partitions=list(_partitions(member.assigned.standby, subtopologies, group.cluster)),
        )
        for member in group.members.values()
        if member.user_endpoint is not None
    ]


def _partitions(
    tasks: Iterable[Task], subtopologies: Mapping[str, ConfiguredSubtopology], cluster: Cluster
) -> Iterator[TopicPartition]:
    """What the tasks read; a topic may have fewer partitions than its subtopology has tasks."""
    for name, numbers in by_subtopology(tasks).items():
        subtopology = subtopologies.get(name)
        for topic_name in subtopology.read_topics if subtopology is not None else ():
            topic = cluster.topic(topic_name)
            if topic is not None:
                there = [number for number in numbers if number < topic.partitions]
                yield TopicPartition(topic=topic_name, partitions=there)
