"""The records of streams groups, in Kafka's schemas; `modern.records` has the changes that all kinds share.

A group is the sum of six kinds of records: its epoch (17), what each member says of itself (19), the epoch of
the target assignment (20) and each member's part of it (21), what each member has (22), and the topology that
all members run (23).
"""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

from streamkit.broker.coordination.group.modern.records import (
    CurrentChange,
    EpochChange,
    GroupKey,
    MemberChange,
    MemberKey,
    Schema,
    Schemas,
    TargetChange,
    TargetEpochChange,
    TargetEpochValue,
)
from streamkit.protocol.messages.streams_group_heartbeat import Subtopology
from streamkit.protocol.schema import Int8, Int32, Int64, Message, UInt16, nullable, schema, tag

NEVER_VALIDATED: Final = -1


class KeyValue(Message):
    key: str = ""
    value: str = ""


@schema("0", flexible="0+")
class GroupMetadataValue(Message):
    epoch: Int32 = 0
    metadata_hash: Int64 = 0
    validated_topology_epoch: Annotated[Int32, tag(0)] = NEVER_VALIDATED
    last_assignment_configs: Annotated[list[KeyValue] | None, nullable("0+"), tag(1)] = None


class Endpoint(Message):
    host: str = ""
    port: UInt16 = 0


@schema("0", flexible="0+")
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


class TargetTaskIds(Message):
    subtopology_id: str = ""
    partitions: list[Int32] = []


@schema("0", flexible="0+")
class TargetAssignmentMemberValue(Message):
    active_tasks: list[TargetTaskIds] = []
    standby_tasks: list[TargetTaskIds] = []
    warmup_tasks: list[TargetTaskIds] = []


class CurrentTaskIds(Message):
    subtopology_id: str = ""
    partitions: list[Int32] = []
    assignment_epochs: Annotated[list[Int32] | None, nullable("0+"), tag(0)] = None


@schema("0", flexible="0+")
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


@schema("0", flexible="0+")
class TopologyValue(Message):
    """A topology as the member said it that came first: request and record have the same fields."""

    epoch: Int32 = 0
    subtopologies: list[Subtopology] = []


class TopologyChange(NamedTuple):
    """What the members run."""

    group_id: str
    value: TopologyValue | None


SCHEMAS = Schemas(
    Schema(17, EpochChange, GroupKey, GroupMetadataValue),
    Schema(19, MemberChange, MemberKey, MemberMetadataValue),
    Schema(20, TargetEpochChange, GroupKey, TargetEpochValue),
    Schema(21, TargetChange, MemberKey, TargetAssignmentMemberValue),
    Schema(22, CurrentChange, MemberKey, CurrentAssignmentValue),
    Schema(23, TopologyChange, GroupKey, TopologyValue),
)
