"""A streams group as an operator sees it (StreamsGroupDescribe)."""

from __future__ import annotations

from collections.abc import Iterable

from streamkit.broker.coordination.group.streams.group import StreamsGroup
from streamkit.broker.coordination.group.streams.internal_topics import (
    ConfiguredSubtopology,
    InternalTopic,
)
from streamkit.broker.coordination.group.streams.member import StreamsMember
from streamkit.broker.coordination.group.streams.tasks import Tasks, task_ids
from streamkit.protocol.messages import streams_group_heartbeat as said
from streamkit.protocol.messages.streams_group_describe import (
    Assignment,
    DescribedGroup,
    Endpoint,
    KeyValue,
    Member,
    Subtopology,
    TaskIds,
    TopicInfo,
    Topology,
)


def describe(group: StreamsGroup) -> DescribedGroup:
    return DescribedGroup(
        group_id=group.group_id,
        group_state=group.state.value,
        group_epoch=group.epoch,
        assignment_epoch=group.target_epoch,
        topology=_topology(group),
        members=[_member(group, member) for member in group.members.values()],
    )


def _topology(group: StreamsGroup) -> Topology | None:
    """With the numbers of partitions that were decided, once they are."""
    topology, configured = group.topology, group.soft.configured
    if topology is None:
        return None
    if configured is not None and configured.is_ready:
        found = [_configured(name, one) for name, one in configured.subtopologies.items()]
    else:
        found = [_as_said(one) for one in topology.subtopologies.values()]
    return Topology(epoch=topology.epoch, subtopologies=found)


def _configured(name: str, one: ConfiguredSubtopology) -> Subtopology:
    return Subtopology(
        subtopology_id=name,
        source_topics=list(one.source_topics),
        repartition_sink_topics=list(one.repartition_sinks),
        state_changelog_topics=[_internal(topic) for topic in one.changelogs],
        repartition_source_topics=[_internal(topic) for topic in one.repartition_sources],
    )


def _internal(topic: InternalTopic) -> TopicInfo:
    return TopicInfo(
        name=topic.name,
        partitions=topic.partitions,
        replication_factor=topic.replication_factor,
        topic_configs=[KeyValue(key=key, value=value) for key, value in topic.configs],
    )


def _as_said(one: said.Subtopology) -> Subtopology:
    return Subtopology(
        subtopology_id=one.subtopology_id,
        source_topics=sorted(one.source_topics),
        repartition_sink_topics=sorted(one.repartition_sink_topics),
        state_changelog_topics=_infos(one.state_changelog_topics),
        repartition_source_topics=_infos(one.repartition_source_topics),
    )


def _infos(topics: Iterable[said.TopicInfo]) -> list[TopicInfo]:
    return [
        TopicInfo(
            name=topic.name,
            partitions=topic.partitions,
            replication_factor=topic.replication_factor,
            topic_configs=[KeyValue(key=one.key, value=one.value) for one in topic.topic_configs],
        )
        for topic in sorted(topics, key=lambda topic: topic.name)
    ]


def _member(group: StreamsGroup, member: StreamsMember) -> Member:
    endpoint = member.user_endpoint
    return Member(
        member_id=member.member_id,
        member_epoch=member.epoch,
        rack_id=member.rack_id,
        client_id=member.client_id,
        client_host=member.client_host,
        topology_epoch=member.topology_epoch,
        process_id=member.process_id,
        user_endpoint=None if endpoint is None else Endpoint(host=endpoint.host, port=endpoint.port),
        client_tags=[KeyValue(key=key, value=value) for key, value in member.client_tags],
        assignment=_assignment(member.assigned),
        target_assignment=_assignment(group.part_of(member.member_id)),
    )


def _assignment(tasks: Tasks) -> Assignment:
    return Assignment(
        active_tasks=task_ids(TaskIds, tasks.active),
        standby_tasks=task_ids(TaskIds, tasks.standby),
        warmup_tasks=task_ids(TaskIds, tasks.warmup),
    )
