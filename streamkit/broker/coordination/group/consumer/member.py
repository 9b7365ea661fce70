"""One member of a consumer group: what it asked for, and what it has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from msgspec.structs import replace

from streamkit.broker.coordination.group.consumer.records import (
    ClassicMemberMetadata,
    CurrentAssignmentValue,
    CurrentTopicPartitions,
    MemberMetadataValue,
)
from streamkit.broker.coordination.group.modern.member import Member, member_state
from streamkit.broker.coordination.group.modern.partitions import Partition, by_topic

Epochs: TypeAlias = Mapping[Partition, int]
"""Partitions, each with the epoch in which the member was given it (KIP-1251)."""

NOTHING: Final[Epochs] = {}


class ConsumerMember(Member, frozen=True, kw_only=True):
    """A member. It may use `assigned` now; `revoking` is still its own until it confirms that it let go.

    Invariants: `assigned` and `revoking` are disjoint; `revoking` is empty unless the state is UNREVOKED.
    """

    instance_id: str | None = None
    topics: tuple[str, ...] = ()
    """Subscribed by name, sorted."""
    regex: str = ""
    """Empty without one."""
    rebalance_timeout_ms: int = -1
    assignor: str | None = None
    classic: ClassicMemberMetadata | None = None
    """Set iff it speaks the classic protocol."""
    assigned: Epochs = NOTHING
    revoking: Epochs = NOTHING

    @property
    def uses_classic_protocol(self) -> bool:
        return self.classic is not None

    @property
    def held(self) -> Iterable[Partition]:
        """What nobody else may have."""
        yield from self.assigned
        yield from self.revoking

    def wants_the_same_as(self, other: ConsumerMember) -> bool:
        """Whether both are subscribed to the same."""
        return self.topics == other.topics and self.regex == other.regex

    # ── records ────────────────────────────────────────────────────────────────────────────────────────

    def metadata(self) -> MemberMetadataValue:
        return MemberMetadataValue(
            instance_id=self.instance_id,
            rack_id=self.rack_id,
            client_id=self.client_id,
            client_host=self.client_host,
            subscribed_topic_names=list(self.topics),
            subscribed_topic_regex=self.regex,
            rebalance_timeout_ms=self.rebalance_timeout_ms,
            server_assignor=self.assignor,
            classic_member_metadata=self.classic,
        )

    def with_metadata(self, value: MemberMetadataValue) -> ConsumerMember:
        return replace(
            self,
            instance_id=value.instance_id,
            rack_id=value.rack_id,
            client_id=value.client_id,
            client_host=value.client_host,
            topics=tuple(sorted(set(value.subscribed_topic_names))),
            regex=value.subscribed_topic_regex or "",
            rebalance_timeout_ms=value.rebalance_timeout_ms,
            assignor=value.server_assignor,
            classic=value.classic_member_metadata,
        )

    def current(self) -> CurrentAssignmentValue:
        return CurrentAssignmentValue(
            member_epoch=self.epoch,
            previous_member_epoch=self.previous_epoch,
            state=self.state,
            assigned_partitions=_recorded(self.assigned),
            partitions_pending_revocation=_recorded(self.revoking),
        )

    def with_current(self, value: CurrentAssignmentValue) -> ConsumerMember:
        return replace(
            self,
            epoch=value.member_epoch,
            previous_epoch=value.previous_member_epoch,
            state=member_state(value.state),
            assigned=_read(value.assigned_partitions, value.member_epoch),
            revoking=_read(value.partitions_pending_revocation, value.member_epoch),
        )


def _recorded(partitions: Epochs) -> list[CurrentTopicPartitions]:
    return [
        CurrentTopicPartitions(
            topic_id=topic_id,
            partitions=indexes,
            assignment_epochs=[partitions[Partition(topic_id, index)] for index in indexes],
        )
        for topic_id, indexes in by_topic(partitions).items()
    ]


def _read(topics: Iterable[CurrentTopicPartitions], member_epoch: int) -> Epochs:
    """Brokers before KIP-1251 wrote no epochs; then only commits of the member's own epoch are taken."""
    partitions: dict[Partition, int] = {}
    for topic in topics:
        epochs = topic.assignment_epochs or [member_epoch] * len(topic.partitions)
        for index, epoch in zip(topic.partitions, epochs, strict=False):
            partitions[Partition(topic.topic_id, index)] = epoch
    return partitions
