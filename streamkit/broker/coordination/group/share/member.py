"""One member of a share group: what it asked for, and what it has. Members are values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec.structs import replace

from streamkit.broker.coordination.group.consumer.member import MemberState, Partition, by_topic
from streamkit.broker.coordination.group.share.records import (
    ShareCurrentAssignmentValue,
    ShareMemberMetadataValue,
    ShareTargetMemberValue,
    TopicPartitions,
)

JOINING_EPOCH: Final = 0
LEAVING_EPOCH: Final = -1


class ShareMember(msgspec.Struct, frozen=True, kw_only=True):
    """A member. What it has, others may have as well."""

    member_id: str
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    topics: tuple[str, ...] = ()
    """Sorted."""
    epoch: int = JOINING_EPOCH
    previous_epoch: int = JOINING_EPOCH
    assigned: frozenset[Partition] = frozenset()

    def given(self, partitions: frozenset[Partition], epoch: int) -> ShareMember:
        """The member with its part of an epoch's target; it may not have heard of it yet."""
        return replace(self, epoch=epoch, previous_epoch=self.epoch, assigned=partitions)

    # ── records ────────────────────────────────────────────────────────────────────────────────────────

    def metadata(self) -> ShareMemberMetadataValue:
        return ShareMemberMetadataValue(
            rack_id=self.rack_id,
            client_id=self.client_id,
            client_host=self.client_host,
            subscribed_topic_names=list(self.topics),
        )

    def with_metadata(self, value: ShareMemberMetadataValue) -> ShareMember:
        return replace(
            self,
            rack_id=value.rack_id,
            client_id=value.client_id,
            client_host=value.client_host,
            topics=tuple(sorted(set(value.subscribed_topic_names))),
        )

    def current(self) -> ShareCurrentAssignmentValue:
        return ShareCurrentAssignmentValue(
            member_epoch=self.epoch,
            previous_member_epoch=self.previous_epoch,
            state=MemberState.STABLE,
            assigned_partitions=recorded(self.assigned),
        )

    def with_current(self, value: ShareCurrentAssignmentValue) -> ShareMember:
        return replace(
            self,
            epoch=value.member_epoch,
            previous_epoch=value.previous_member_epoch,
            assigned=read(value.assigned_partitions),
        )

    def without_partitions(self) -> ShareMember:
        """What is left of a member whose assignment was deleted."""
        return replace(
            self, epoch=LEAVING_EPOCH, previous_epoch=LEAVING_EPOCH, assigned=frozenset[Partition]()
        )


def target_value(partitions: Iterable[Partition]) -> ShareTargetMemberValue:
    """A member's part of a target assignment, as a record says it."""
    return ShareTargetMemberValue(topic_partitions=recorded(partitions))


def recorded(partitions: Iterable[Partition]) -> list[TopicPartitions]:
    return [
        TopicPartitions(topic_id=topic_id, partitions=numbers)
        for topic_id, numbers in by_topic(partitions).items()
    ]


def read(topics: Iterable[TopicPartitions]) -> frozenset[Partition]:
    return frozenset(Partition(topic.topic_id, number) for topic in topics for number in topic.partitions)
