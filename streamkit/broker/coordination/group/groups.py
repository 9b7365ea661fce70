"""The groups of one shard, of every kind under one set of names, and the offsets under those names.

A name that only has offsets is a classic group without members. It gives way to a group of any other kind,
comes back when that is deleted before its offsets, and is forgotten with the last of them.
"""

from __future__ import annotations

from typing import Any, TypeAlias, TypeVar

from streamkit.broker.config import BrokerConfig
from streamkit.broker.coordination.deadlines import Deadlines
from streamkit.broker.coordination.group.classic.group import ClassicGroup, ClassicState
from streamkit.broker.coordination.group.cluster import Cluster
from streamkit.broker.coordination.group.consumer.group import ConsumerGroup
from streamkit.broker.coordination.group.modern.draft import Draft
from streamkit.broker.coordination.group.modern.group import ModernGroup
from streamkit.broker.coordination.group.offsets import CommittedOffsets
from streamkit.broker.coordination.group.records import group_tombstone
from streamkit.broker.coordination.group.share.group import ShareGroup
from streamkit.broker.coordination.group.streams.group import StreamsGroup
from streamkit.broker.coordination.group.transactional_offsets import TransactionalOffsets
from streamkit.broker.coordination.group.vocabulary import Timer
from streamkit.broker.coordination.shard import Decision, Refusal
from streamkit.protocol.error_codes import ErrorCode

Group: TypeAlias = ClassicGroup | ConsumerGroup | ShareGroup | StreamsGroup
Kind = TypeVar("Kind", bound=ModernGroup[Any, Any])


class Groups:
    """`by_id` holds every group that has members, records of its own, or offsets."""

    def __init__(self, config: BrokerConfig, cluster: Cluster) -> None:
        self.config = config
        self.cluster = cluster
        self.deadlines: Deadlines[Timer] = Deadlines()
        self.by_id: dict[str, Group] = {}
        self.offsets = CommittedOffsets()
        self.transactional = TransactionalOffsets()

    def get(self, group_id: str) -> Group | None:
        return self.by_id.get(group_id)

    def new(self, kind: type[Kind], group_id: str) -> Kind:
        """An empty group, which is not one of the shard's yet."""
        return kind(group_id, self.config, self.deadlines, self.cluster)

    def new_classic(self, group_id: str) -> ClassicGroup:
        return ClassicGroup(group_id, self.config, self.deadlines)

    def adopt(self, group: Group) -> None:
        """From now on the name means this group."""
        self.by_id[group.group_id] = group

    def of_kind(self, kind: type[Kind], group_id: str) -> Kind:
        """The group, if it is of this kind. Raises Refusal."""
        group = self.by_id.get(group_id)
        if isinstance(group, kind):
            return group
        raise not_of_kind(kind, group_id, exists=group is not None)

    def classic(self, group_id: str) -> ClassicGroup:
        """The classic group of this name, in the place of any other."""
        group = self.by_id.get(group_id)
        if not isinstance(group, ClassicGroup):
            group = self.by_id[group_id] = self.new_classic(group_id)
        return group

    def name(self, group_id: str) -> None:
        """Offsets are kept under this name, whatever kind of group it is."""
        if group_id not in self.by_id:
            self.classic(group_id)

    def delete(self, group_id: str) -> None:
        """The records of the group itself are gone; its offsets may be there still."""
        group = self.by_id.pop(group_id, None)
        if isinstance(group, ClassicGroup):
            group.state = ClassicState.DEAD
        if group is not None and self._has_offsets(group_id):
            self.classic(group_id)

    def forget_if_unused(self, group_id: str) -> None:
        group = self.by_id.get(group_id)
        if isinstance(group, ClassicGroup) and group.is_unused and not self._has_offsets(group_id):
            group.state = ClassicState.DEAD
            del self.by_id[group_id]

    def _has_offsets(self, group_id: str) -> bool:
        return bool(self.offsets.of(group_id)) or self.transactional.has_group(group_id)


def not_of_kind(kind: type[ModernGroup[Any, Any]], group_id: str, *, exists: bool) -> Refusal:
    reason = f"is not a {kind.group_type} group" if exists else "not found"
    return Refusal(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} {reason}.")


def delete_records(group: Group, decision: Decision) -> None:
    """Take back every record of the group itself."""
    if isinstance(group, ClassicGroup):
        decision.records.append(group_tombstone(group.group_id))
    else:
        Draft(group, decision).delete()
