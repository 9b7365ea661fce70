"""The records of streams groups, in Kafka's schemas, and what each of them changes.

A group is the sum of six kinds of records: its epoch (17), what each member says of itself (19), the epoch of
the target assignment (20) and each member's part of it (21), what each member has (22), and the topology that
all members run (23). A *change* is one such record as a value: decisions write changes, replaying reads them
back. A change whose value is None deletes what it names.
"""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple, TypeAlias

from streamkit.broker.coordination.framing import (
    framed_key,
    framed_value,
    schema_of,
    unframed_key,
    unframed_value,
)
from streamkit.broker.coordination.shard import CoordinatorRecord
from streamkit.protocol.messages.streams_group_heartbeat import Subtopology
from streamkit.protocol.schema import Int8, Int32, Int64, Message, UInt16, nullable, schema, tag

VALUE_VERSION: Final = 0
NEVER_VALIDATED: Final = -1


class GroupKey(Message):
    group_id: str = ""


class MemberKey(Message):
    group_id: str = ""
    member_id: str = ""


class KeyValue(Message):
    key: str = ""
    value: str = ""


@schema("0", key=17)
class GroupMetadataKey(GroupKey):
    pass


@schema("0", flexible="0+", key=17)
class GroupMetadataValue(Message):
    epoch: Int32 = 0
    metadata_hash: Int64 = 0
    validated_topology_epoch: Annotated[Int32, tag(0)] = NEVER_VALIDATED
    last_assignment_configs: Annotated[list[KeyValue] | None, nullable("0+"), tag(1)] = None


@schema("0", key=19)
class MemberMetadataKey(MemberKey):
    pass


class Endpoint(Message):
    host: str = ""
    port: UInt16 = 0


@schema("0", flexible="0+", key=19)
class MemberMetadataValue(Message):
    instance_id: str | None = None
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    rebalance_timeout_ms: Int32 = -1
    topology_epoch: Int32 = 0
    process_id: str = ""
    user_endpoint: Endpoint | None = None
    client_tags: list[KeyValue] = []


@schema("0", key=20)
class TargetAssignmentMetadataKey(GroupKey):
    pass


@schema("0", flexible="0+", key=20)
class TargetAssignmentMetadataValue(Message):
    assignment_epoch: Int32 = 0
    assignment_timestamp: Annotated[Int64, tag(0)] = 0


@schema("0", key=21)
class TargetAssignmentMemberKey(MemberKey):
    pass


class TargetTaskIds(Message):
    subtopology_id: str = ""
    partitions: list[Int32] = []


@schema("0", flexible="0+", key=21)
class TargetAssignmentMemberValue(Message):
    active_tasks: list[TargetTaskIds] = []
    standby_tasks: list[TargetTaskIds] = []
    warmup_tasks: list[TargetTaskIds] = []


@schema("0", key=22)
class CurrentAssignmentKey(MemberKey):
    pass


class CurrentTaskIds(Message):
    subtopology_id: str = ""
    partitions: list[Int32] = []
    assignment_epochs: Annotated[list[Int32] | None, nullable("0+"), tag(0)] = None


@schema("0", flexible="0+", key=22)
class CurrentAssignmentValue(Message):
    member_epoch: Int32 = 0
    previous_member_epoch: Int32 = 0
    state: Int8 = 0
    active_tasks: list[CurrentTaskIds] = []
    standby_tasks: list[CurrentTaskIds] = []
    warmup_tasks: list[CurrentTaskIds] = []
    active_tasks_pending_revocation: list[CurrentTaskIds] = []
    standby_tasks_pending_revocation: list[CurrentTaskIds] = []
    warmup_tasks_pending_revocation: list[CurrentTaskIds] = []


@schema("0", key=23)
class TopologyKey(GroupKey):
    pass


@schema("0", flexible="0+", key=23)
class TopologyValue(Message):
    """A topology as the member said it that came first: request and record have the same fields."""

    epoch: Int32 = 0
    subtopologies: list[Subtopology] = []


class EpochChange(NamedTuple):
    """The group began an epoch, or was deleted."""

    group_id: str
    value: GroupMetadataValue | None


class MemberChange(NamedTuple):
    """A member said who it is, or is gone."""

    group_id: str
    member_id: str
    value: MemberMetadataValue | None


class TargetEpochChange(NamedTuple):
    """The target assignment is that of an epoch, or deleted."""

    group_id: str
    value: TargetAssignmentMetadataValue | None


class TargetChange(NamedTuple):
    """A member's part of the target assignment."""

    group_id: str
    member_id: str
    value: TargetAssignmentMemberValue | None


class CurrentChange(NamedTuple):
    """What a member has, and in which epoch it is."""

    group_id: str
    member_id: str
    value: CurrentAssignmentValue | None


class TopologyChange(NamedTuple):
    """What the members run."""

    group_id: str
    value: TopologyValue | None


Change: TypeAlias = (
    EpochChange | MemberChange | TargetEpochChange | TargetChange | CurrentChange | TopologyChange
)


def record_of(change: Change) -> CoordinatorRecord:
    """The record that says this."""
    value = None if change.value is None else framed_value(change.value, VALUE_VERSION)
    return CoordinatorRecord(framed_key(_key_of(change)), value)


def _key_of(change: Change) -> Message:
    match change:
        case EpochChange(group_id):
            return GroupMetadataKey(group_id=group_id)
        case TargetEpochChange(group_id):
            return TargetAssignmentMetadataKey(group_id=group_id)
        case TopologyChange(group_id):
            return TopologyKey(group_id=group_id)
        case MemberChange(group_id, member_id):
            return MemberMetadataKey(group_id=group_id, member_id=member_id)
        case TargetChange(group_id, member_id):
            return TargetAssignmentMemberKey(group_id=group_id, member_id=member_id)
        case CurrentChange(group_id, member_id):
            return CurrentAssignmentKey(group_id=group_id, member_id=member_id)


def parse(key: bytes, value: bytes | None) -> Change | None:
    """What a record says; None for a schema that is not of this file. Raises MalformedMessageError."""
    kind = schema_of(key)
    if kind == GroupMetadataKey.KEY:
        content = None if value is None else unframed_value(GroupMetadataValue, value)
        return EpochChange(unframed_key(GroupMetadataKey, key).group_id, content)
    if kind == TargetAssignmentMetadataKey.KEY:
        target = None if value is None else unframed_value(TargetAssignmentMetadataValue, value)
        return TargetEpochChange(unframed_key(TargetAssignmentMetadataKey, key).group_id, target)
    if kind == TopologyKey.KEY:
        topology = None if value is None else unframed_value(TopologyValue, value)
        return TopologyChange(unframed_key(TopologyKey, key).group_id, topology)
    return _parse_member(kind, key, value)


def _parse_member(kind: int, key: bytes, value: bytes | None) -> Change | None:
    if kind == MemberMetadataKey.KEY:
        member = unframed_key(MemberMetadataKey, key)
        said = None if value is None else unframed_value(MemberMetadataValue, value)
        return MemberChange(member.group_id, member.member_id, said)
    if kind == TargetAssignmentMemberKey.KEY:
        target = unframed_key(TargetAssignmentMemberKey, key)
        part = None if value is None else unframed_value(TargetAssignmentMemberValue, value)
        return TargetChange(target.group_id, target.member_id, part)
    if kind == CurrentAssignmentKey.KEY:
        current = unframed_key(CurrentAssignmentKey, key)
        has = None if value is None else unframed_value(CurrentAssignmentValue, value)
        return CurrentChange(current.group_id, current.member_id, has)
    return None
