"""One member of a share group: what it asked for, and what it has, which others may have as well."""

from __future__ import annotations

from msgspec.structs import replace

from streamkit.broker.coordination.group.modern.member import Member
from streamkit.broker.coordination.group.modern.partitions import Partition, read, recorded
from streamkit.broker.coordination.group.share.records import CurrentAssignmentValue, MemberMetadataValue


class ShareMember(Member, frozen=True, kw_only=True):
    """A member, which is always STABLE: nobody has to let go of anything."""

    topics: tuple[str, ...] = ()
    """Sorted."""
    assigned: frozenset[Partition] = frozenset()

    def given(self, partitions: frozenset[Partition], epoch: int) -> ShareMember:
        """The member with its part of an epoch's target."""
        return replace(self.at_epoch(epoch), assigned=partitions)

    # ── records ────────────────────────────────────────────────────────────────────────────────────────

    def metadata(self) -> MemberMetadataValue:
        return MemberMetadataValue(
            rack_id=self.rack_id,
            client_id=self.client_id,
            client_host=self.client_host,
            subscribed_topic_names=list(self.topics),
        )

    def with_metadata(self, value: MemberMetadataValue) -> ShareMember:
        return replace(
            self,
            rack_id=value.rack_id,
            client_id=value.client_id,
            client_host=value.client_host,
            topics=tuple(sorted(set(value.subscribed_topic_names))),
        )

    def current(self) -> CurrentAssignmentValue:
        return CurrentAssignmentValue(
            member_epoch=self.epoch,
            previous_member_epoch=self.previous_epoch,
            state=self.state,
            assigned_partitions=recorded(self.assigned),
        )

    def with_current(self, value: CurrentAssignmentValue) -> ShareMember:
        return replace(
            self,
            epoch=value.member_epoch,
            previous_epoch=value.previous_member_epoch,
            assigned=read(value.assigned_partitions),
        )
