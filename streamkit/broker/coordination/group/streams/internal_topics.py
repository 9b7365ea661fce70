"""The topics that a topology needs, held against those that there are: what is missing, what does not fit.

The numbers of partitions follow from the source topics, in this order:

    repartition topic   as its developer said; else the most of what the subtopologies that write it read
    copartition groups  all have as many: the source topics' number, which must be one; or, of repartition
                        topics alone, the number that was said, or the highest
    changelog topic     the most of what its subtopology reads, which is also the number of its tasks

A topology is *ready* when every topic is there with its number of partitions. Until then nobody is given
tasks, and members are told why not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Final, NamedTuple, TypeAlias

from streamkit.broker.coordination.group.cluster import Cluster
from streamkit.broker.coordination.group.streams.topology import (
    Topology,
    copartition_groups,
    read_topics,
)
from streamkit.broker.coordination.shard import Refusal
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.streams_group_heartbeat import Subtopology, TopicInfo

TOPICS_NAMED: Final = 3
"""More are only counted, where members are told of them."""

Counts: TypeAlias = dict[str, int]
Known: TypeAlias = Callable[[str], int | None]


class StatusCode(IntEnum):
    """What a heartbeat's answer tells of the group, by Kafka's numbers."""

    STALE_TOPOLOGY = 0
    MISSING_SOURCE_TOPICS = 1
    INCORRECTLY_PARTITIONED_TOPICS = 2
    MISSING_INTERNAL_TOPICS = 3
    SHUTDOWN_APPLICATION = 4
    ASSIGNMENT_DELAYED = 5


class Problem(NamedTuple):
    """Why a topology is not ready."""

    status: StatusCode
    detail: str


class InternalTopic(NamedTuple):
    """A topic as its developer wants it; 0 replicas are as many as the broker makes by default."""

    name: str
    partitions: int
    replication_factor: int
    configs: tuple[tuple[str, str], ...]


class ConfiguredSubtopology(NamedTuple):
    tasks: int
    source_topics: tuple[str, ...]
    repartition_sinks: tuple[str, ...]
    repartition_sources: tuple[InternalTopic, ...]
    changelogs: tuple[InternalTopic, ...]

    @property
    def is_stateful(self) -> bool:
        return bool(self.changelogs)

    @property
    def read_topics(self) -> Iterable[str]:
        yield from self.source_topics
        yield from (topic.name for topic in self.repartition_sources)


class ConfiguredTopology(NamedTuple):
    """A topology over the topics that there are."""

    subtopologies: Mapping[str, ConfiguredSubtopology]
    """Empty unless the topology is ready, or only lacks `missing`."""
    missing: tuple[InternalTopic, ...] = ()
    problem: Problem | None = None

    @property
    def is_ready(self) -> bool:
        return self.problem is None


class _UnfitError(Exception):
    def __init__(self, status: StatusCode, detail: str) -> None:
        super().__init__(detail)
        self.problem = Problem(status, detail)


def configure(topology: Topology, cluster: Cluster) -> ConfiguredTopology:
    """Raises Refusal for a topology that no topics could ever fit."""

    def existing(topic: str) -> int | None:
        found = cluster.topic(topic)
        return None if found is None else found.partitions

    try:
        _check_sources(topology, existing)
        counts = _partition_counts(topology, existing)
        subtopologies = {
            name: _configured(one, _known(existing, counts), counts)
            for name, one in topology.subtopologies.items()
        }
        missing = _missing(subtopologies.values(), existing)
    except _UnfitError as error:
        return ConfiguredTopology({}, problem=error.problem)
    problem = None
    if missing:
        names = _summary([topic.name for topic in missing])
        problem = Problem(StatusCode.MISSING_INTERNAL_TOPICS, f"Internal topics are missing: {names}")
    return ConfiguredTopology(subtopologies, missing, problem)


def _check_sources(topology: Topology, existing: Known) -> None:
    missing = {
        topic
        for one in topology.subtopologies.values()
        for topic in one.source_topics
        if existing(topic) is None
    }
    if missing:
        raise _UnfitError(
            StatusCode.MISSING_SOURCE_TOPICS, f"Source topics {_summary(sorted(missing))} are missing."
        )


def _known(existing: Known, counts: Mapping[str, int]) -> Known:
    """A topic that exists has the partitions that it has, whatever was decided for it."""

    def known(topic: str) -> int | None:
        found = existing(topic)
        return counts.get(topic) if found is None else found

    return known


# ── numbers of partitions ────────────────────────────────────────────────────────────────────────────────


def _partition_counts(topology: Topology, existing: Known) -> Counts:
    """Of every internal topic."""
    counts = _repartition_counts(topology, existing)
    known = _known(existing, counts)
    said = {
        topic.name: bool(topic.partitions)
        for one in topology.subtopologies.values()
        for topic in one.repartition_source_topics
    }
    for one in topology.subtopologies.values():
        for group in copartition_groups(one):
            counts.update(_copartitioned(group, said, known))
    for one in topology.subtopologies.values():
        tasks = _most(read_topics(one), known)
        counts.update({changelog.name: tasks for changelog in one.state_changelog_topics})
    return counts


def _repartition_counts(topology: Topology, existing: Known) -> Counts:
    """Subtopologies read what others write, so counts come to be known one after the other."""
    subtopologies = topology.subtopologies.values()
    counts = {
        topic.name: topic.partitions
        for one in subtopologies
        for topic in one.repartition_source_topics
        if topic.partitions
    }
    unknown = [(sink, one) for one in subtopologies for sink in one.repartition_sink_topics]
    while unknown:
        still_unknown = []
        for sink, writer in unknown:
            if sink in counts:
                continue
            count = _most_so_far(writer, existing, counts)
            if count is None:
                still_unknown.append((sink, writer))
            else:
                counts[sink] = count
        if len(still_unknown) == len(unknown):
            raise _invalid("There may be loops in the topology that cannot be resolved.")
        unknown = still_unknown
    for one in subtopologies:
        for topic in one.repartition_source_topics:
            if topic.name not in counts:
                raise _invalid(f"Repartition topic {topic.name} is never used as a sink.")
    return counts


def _most_so_far(writer: Subtopology, existing: Known, counts: Counts) -> int | None:
    found = [
        *(counts.get(topic.name) for topic in writer.repartition_source_topics),
        *map(_known(existing, counts), writer.source_topics),
    ]
    return max((count for count in found if count is not None), default=None)


def _copartitioned(topics: frozenset[str], said: Mapping[str, bool], known: Known) -> Counts:
    """The number that all repartition topics of a group shall have. `said`: the topology's repartition
    topics, and whether their developer gave a number.
    """
    counts = {topic: _count(topic, known) for topic in sorted(topics)}
    repartition = {topic: count for topic, count in counts.items() if topic in said}
    if not counts:
        return {}
    if len(repartition) < len(counts):
        count = _same({topic: count for topic, count in counts.items() if topic not in said})
    elif any(said[topic] for topic in repartition):
        count = _same({topic: count for topic, count in repartition.items() if said[topic]})
    else:
        count = max(repartition.values())
    for topic, found in repartition.items():
        if said[topic] and found != count:
            raise _UnfitError(
                StatusCode.INCORRECTLY_PARTITIONED_TOPICS,
                f"Number of partitions [{found}] of repartition topic [{topic}] doesn't match number of "
                f"partitions [{count}] of the source topic.",
            )
    return dict.fromkeys(repartition, count)


def _same(counts: Mapping[str, int]) -> int:
    first, *others = counts.values()
    if any(count != first for count in others):
        found = ", ".join(f"{topic}={count}" for topic, count in counts.items())
        raise _UnfitError(
            StatusCode.INCORRECTLY_PARTITIONED_TOPICS,
            f"Following topics do not have the same number of partitions: [{{{found}}}]",
        )
    return first


def _most(topics: Iterable[str], known: Known) -> int:
    return max(_count(topic, known) for topic in topics)


def _count(topic: str, known: Known) -> int:
    """Of a topic that exists or has been decided."""
    count = known(topic)
    assert count is not None, topic
    return count


# ── what there shall be ──────────────────────────────────────────────────────────────────────────────────


def _configured(one: Subtopology, known: Known, counts: Mapping[str, int]) -> ConfiguredSubtopology:
    return ConfiguredSubtopology(
        tasks=_most(read_topics(one), known),
        source_topics=tuple(sorted(one.source_topics)),
        repartition_sinks=tuple(sorted(one.repartition_sink_topics)),
        repartition_sources=_internal(one.repartition_source_topics, counts),
        changelogs=_internal(one.state_changelog_topics, counts),
    )


def _internal(topics: Iterable[TopicInfo], counts: Mapping[str, int]) -> tuple[InternalTopic, ...]:
    return tuple(
        InternalTopic(
            topic.name,
            topic.partitions or counts[topic.name],
            topic.replication_factor,
            tuple((config.key, config.value) for config in topic.topic_configs),
        )
        for topic in sorted(topics, key=lambda topic: topic.name)
    )


def _missing(subtopologies: Iterable[ConfiguredSubtopology], existing: Known) -> tuple[InternalTopic, ...]:
    wanted = {
        topic.name: topic for one in subtopologies for topic in (*one.repartition_sources, *one.changelogs)
    }
    for topic in wanted.values():
        found = existing(topic.name)
        if found is not None and found != topic.partitions:
            raise _UnfitError(
                StatusCode.INCORRECTLY_PARTITIONED_TOPICS,
                f"Existing topic {topic.name} has different number of partitions: "
                f"expected {topic.partitions}, found {found}",
            )
    return tuple(wanted[name] for name in sorted(wanted) if existing(name) is None)


def _summary(names: Sequence[str]) -> str:
    named = ", ".join(names[:TOPICS_NAMED])
    others = len(names) - TOPICS_NAMED
    return f"{named} and {others} additional topics" if others > 0 else named


def _invalid(reason: str) -> Refusal:
    return Refusal(
        ErrorCode.STREAMS_INVALID_TOPOLOGY,
        f"Failed to compute number of partitions for all repartition topics. {reason}",
    )
