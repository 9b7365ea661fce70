"""What all members of a streams group run: subtopologies, and the topics that they read, write and keep.

A subtopology reads *source topics*, which users make, and *repartition topics*, which some subtopology writes
(its *sinks*); it keeps its state in *changelog topics*. The last two are internal: the coordinator has them
made. A *copartition group* is a set of topics whose equal partitions meet in one task.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from streamkit.broker.coordination.group.streams.records import TopologyValue
from streamkit.broker.coordination.shard import Refusal
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.streams_group_heartbeat import CopartitionGroup, Subtopology
from streamkit.protocol.messages.streams_group_heartbeat import Topology as SaidTopology


class Topology:
    """A topology of one epoch."""

    def __init__(self, value: TopologyValue) -> None:
        self.epoch = value.epoch
        self.subtopologies: Mapping[str, Subtopology] = {
            one.subtopology_id: one for one in sorted(value.subtopologies, key=_id)
        }

    def is_the_same_as(self, other: Topology) -> bool:
        return self.epoch == other.epoch and self.subtopologies == other.subtopologies

    @cached_property
    def sources(self) -> Mapping[str, str]:
        """The subtopology that reads each topic."""
        return {topic: name for name, one in self.subtopologies.items() for topic in read_topics(one)}

    @cached_property
    def required_topics(self) -> frozenset[str]:
        """Every topic without which no task could run."""
        return frozenset(topic for one in self.subtopologies.values() for topic in _required(one))


def said(topology: SaidTopology) -> TopologyValue:
    return TopologyValue(epoch=topology.epoch, subtopologies=topology.subtopologies)


def read_topics(subtopology: Subtopology) -> Iterator[str]:
    yield from subtopology.source_topics
    yield from (topic.name for topic in subtopology.repartition_source_topics)


def _required(subtopology: Subtopology) -> Iterator[str]:
    yield from read_topics(subtopology)
    yield from (topic.name for topic in subtopology.state_changelog_topics)


def copartition_groups(subtopology: Subtopology) -> Iterator[frozenset[str]]:
    """The topics of each group; the subtopology has been checked."""
    for group in subtopology.copartition_groups:
        yield frozenset(
            [
                *(subtopology.source_topics[index] for index in group.source_topics),
                *(
                    subtopology.repartition_source_topics[index].name
                    for index in group.repartition_source_topics
                ),
            ]
        )


def check(topology: SaidTopology) -> None:
    """Refuse what no member may say."""
    for one in topology.subtopologies:
        if one.source_topic_regex:
            raise Refusal(
                ErrorCode.INVALID_REQUEST, "Regular expressions for source topics are not supported yet."
            )
        for changelog in one.state_changelog_topics:
            if changelog.partitions != 0:
                raise _invalid(
                    f"Changelog topic {changelog.name} must have an undefined partition count, "
                    f"but it is set to {changelog.partitions}."
                )


def check_whole(topology: TopologyValue) -> None:
    """Refuse to begin with a topology that no group could run."""
    seen: set[str] = set()
    for one in topology.subtopologies:
        if one.subtopology_id in seen:
            raise _invalid(f"Subtopology {one.subtopology_id} is there twice.")
        seen.add(one.subtopology_id)
        if not any(read_topics(one)):
            raise _invalid(f"No source topics found for subtopology {one.subtopology_id}.")
        for group in one.copartition_groups:
            _check_copartition_group(one, group)


def _check_copartition_group(one: Subtopology, group: CopartitionGroup) -> None:
    for indexes, topics in (
        (group.source_topics, len(one.source_topics)),
        (group.repartition_source_topics, len(one.repartition_source_topics)),
    ):
        if not _are_within(indexes, topics):
            raise Refusal(
                ErrorCode.INVALID_REQUEST,
                f"A copartition group of subtopology {one.subtopology_id} names no topic of it.",
            )


def _are_within(indexes: Iterable[int], count: int) -> bool:
    return all(0 <= index < count for index in indexes)


def _id(subtopology: Subtopology) -> str:
    return subtopology.subtopology_id


def _invalid(reason: str) -> Refusal:
    return Refusal(ErrorCode.STREAMS_INVALID_TOPOLOGY, reason)
