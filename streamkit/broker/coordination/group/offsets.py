"""Committed offsets: how far each group has come in each partition.

Hard state only: a map that `replay` sets. Whoever may write is decided by the group (`check_commit`);
here is what may be written, what is read back, and when an offset has been kept for long enough.

Retention begins when a group becomes empty, or with the commit itself where there is no membership to go by
(a simple consumer that only stores offsets); `retention_began_ms` says which. An offset committed with
a retention of its own (OffsetCommit before version 5) goes by that instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from streamkit.broker.coordination.group.records import (
    OffsetCommitValue,
    offset_record,
    offset_tombstone,
)
from streamkit.broker.coordination.group.vocabulary import Readers
from streamkit.broker.coordination.shard import CoordinatorRecord
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from streamkit.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)
from streamkit.protocol.messages.offset_fetch import (
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopics,
)

NO_OFFSET = -1
BROKER_RETENTION = -1

TopicPartition: TypeAlias = tuple[str, int]


class OffsetLimits(NamedTuple):
    """What the broker's configuration says about offsets."""

    metadata_max_length: int
    retention_ms: int


class CommittedOffsets:
    """The offsets of all groups of a shard."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[TopicPartition, OffsetCommitValue]] = {}

    def replay(self, group_id: str, topic: str, partition: int, value: OffsetCommitValue | None) -> None:
        if value is not None:
            self._groups.setdefault(group_id, {})[topic, partition] = value
            return
        offsets = self._groups.get(group_id, {})
        offsets.pop((topic, partition), None)
        if not offsets:
            self._groups.pop(group_id, None)

    def of(self, group_id: str) -> Mapping[TopicPartition, OffsetCommitValue]:
        return MappingProxyType(self._groups.get(group_id, {}))

    def groups(self) -> Iterator[str]:
        return iter(self._groups)

    def tombstones(self, group_id: str) -> list[CoordinatorRecord]:
        """What deletes all offsets of a group."""
        return [offset_tombstone(group_id, *key) for key in self._groups.get(group_id, {})]

    def tombstones_of_topics(self, topics: frozenset[str]) -> list[CoordinatorRecord]:
        """What deletes the offsets of topics that no longer exist."""
        return [
            offset_tombstone(group_id, *key)
            for group_id, offsets in self._groups.items()
            for key in offsets
            if key[0] in topics
        ]

    def expired(self, group: Readers, now_ms: int, limits: OffsetLimits) -> list[CoordinatorRecord]:
        """What deletes the offsets of a group whose retention has passed."""
        return [
            offset_tombstone(group.group_id, *key)
            for key, value in self._groups.get(group.group_id, {}).items()
            if _is_expired(group, key[0], value, now_ms, limits)
        ]

    def fetch(self, request: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup:
        """The offsets of the partitions named, or all; -1 where nothing is committed."""
        offsets = self._groups.get(request.group_id, {})
        topics = _topics_of(offsets) if request.topics is None else request.topics
        return OffsetFetchResponseGroup(
            group_id=request.group_id,
            topics=[
                OffsetFetchResponseTopics(
                    name=topic.name,
                    topic_id=topic.topic_id,
                    partitions=[
                        _fetched(index, offsets.get((topic.name, index))) for index in topic.partition_indexes
                    ],
                )
                for topic in topics
            ],
        )

    def delete(
        self, request: OffsetDeleteRequest, group: Readers
    ) -> tuple[list[CoordinatorRecord], OffsetDeleteResponse]:
        """Delete single offsets, except of topics that a live member subscribes to."""
        records: list[CoordinatorRecord] = []
        topics = []
        offsets = self._groups.get(request.group_id, {})
        for topic in request.topics:
            needed = group.is_subscribed(topic.name)
            code = ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC if needed else ErrorCode.NONE
            indexes = [partition.partition_index for partition in topic.partitions]
            if not needed:
                present = [index for index in indexes if (topic.name, index) in offsets]
                records += [offset_tombstone(request.group_id, topic.name, index) for index in present]
            answers = [
                OffsetDeleteResponsePartition(partition_index=index, error_code=code) for index in indexes
            ]
            topics.append(OffsetDeleteResponseTopic(name=topic.name, partitions=answers))
        return records, OffsetDeleteResponse(topics=topics)


def commit_offsets(
    request: OffsetCommitRequest, now_ms: int, limits: OffsetLimits
) -> tuple[list[CoordinatorRecord], OffsetCommitResponse]:
    """The records that store what was asked, and the answer for each partition."""
    records: list[CoordinatorRecord] = []
    topics = []
    expires_ms = -1 if request.retention_time_ms == BROKER_RETENTION else now_ms + request.retention_time_ms
    for topic in request.topics:
        answers = []
        for partition in topic.partitions:
            if len(partition.committed_metadata or "") > limits.metadata_max_length:
                code = ErrorCode.OFFSET_METADATA_TOO_LARGE
            else:
                code = ErrorCode.NONE
                value = _committed(topic, partition, now_ms, expires_ms)
                records.append(offset_record(request.group_id, topic.name, partition.partition_index, value))
            answers.append(
                OffsetCommitResponsePartition(partition_index=partition.partition_index, error_code=code)
            )
        topics.append(OffsetCommitResponseTopic(name=topic.name, topic_id=topic.topic_id, partitions=answers))
    return records, OffsetCommitResponse(topics=topics)


def _committed(
    topic: OffsetCommitRequestTopic, partition: OffsetCommitRequestPartition, now_ms: int, expires_ms: int
) -> OffsetCommitValue:
    return OffsetCommitValue(
        offset=partition.committed_offset,
        leader_epoch=partition.committed_leader_epoch,
        metadata=partition.committed_metadata or "",
        commit_timestamp=now_ms,
        expire_timestamp=expires_ms,
        topic_id=topic.topic_id,
    )


def _fetched(index: int, value: OffsetCommitValue | None) -> OffsetFetchResponsePartitions:
    if value is None:
        return OffsetFetchResponsePartitions(partition_index=index, committed_offset=NO_OFFSET)
    return OffsetFetchResponsePartitions(
        partition_index=index,
        committed_offset=value.offset,
        committed_leader_epoch=value.leader_epoch,
        metadata=value.metadata,
    )


def _topics_of(offsets: Mapping[TopicPartition, OffsetCommitValue]) -> list[OffsetFetchRequestTopics]:
    indexes: dict[str, list[int]] = {}
    for topic, index in offsets:
        indexes.setdefault(topic, []).append(index)
    return [OffsetFetchRequestTopics(name=topic, partition_indexes=found) for topic, found in indexes.items()]


def _is_expired(
    group: Readers, topic: str, value: OffsetCommitValue, now_ms: int, limits: OffsetLimits
) -> bool:
    began_ms = group.retention_began_ms(topic, value.commit_timestamp)
    if began_ms is None:
        return False
    if value.expire_timestamp != -1:
        return now_ms >= value.expire_timestamp
    return now_ms - began_ms >= limits.retention_ms
