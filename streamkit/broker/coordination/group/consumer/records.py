"""The records of consumer groups, in Kafka's schemas; `modern.records` has the changes that all kinds share.

A group is the sum of six kinds of records: its epoch (3), what each member asks for (5), the epoch of the
target assignment (6) and each member's part of it (7), what each member has (8), and the topics that each
regular expression means (16).
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from streamkit.broker.coordination.group.modern.partitions import TargetPartitionsValue
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
from streamkit.protocol.schema import (
    ZERO_UUID,
    Int8,
    Int32,
    Int64,
    Message,
    Uuid,
    nullable,
    schema,
    tag,
)


@schema("0", flexible="0+")
class GroupMetadataValue(Message):
    epoch: Int32 = 0
    metadata_hash: Annotated[Int64, tag(0)] = 0


class ClassicProtocol(Message):
    name: str = ""
    metadata: bytes = b""


class ClassicMemberMetadata(Message):
    session_timeout_ms: Int32 = 0
    supported_protocols: list[ClassicProtocol] = []


@schema("0", flexible="0+")
class MemberMetadataValue(Message):
    instance_id: str | None = None
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    subscribed_topic_names: list[str] = []
    subscribed_topic_regex: str | None = None
    rebalance_timeout_ms: Int32 = -1
    server_assignor: str | None = None
    classic_member_metadata: Annotated[ClassicMemberMetadata | None, nullable("0+"), tag(0)] = None


class CurrentTopicPartitions(Message):
    topic_id: Uuid = ZERO_UUID
    partitions: list[Int32] = []
    assignment_epochs: Annotated[list[Int32] | None, nullable("0+"), tag(0)] = None


@schema("0", flexible="0+")
class CurrentAssignmentValue(Message):
    member_epoch: Int32 = 0
    previous_member_epoch: Int32 = 0
    state: Int8 = 0
    assigned_partitions: list[CurrentTopicPartitions] = []
    partitions_pending_revocation: list[CurrentTopicPartitions] = []


@schema("0")
class RegularExpressionKey(Message):
    group_id: str = ""
    regular_expression: str = ""


@schema("0", flexible="0+")
class RegularExpressionValue(Message):
    topics: list[str] = []
    version: Int64 = 0
    timestamp: Int64 = 0


class RegexChange(NamedTuple):
    """The topics that a regular expression means, or nobody uses it any more."""

    group_id: str
    regex: str
    value: RegularExpressionValue | None


SCHEMAS = Schemas(
    Schema(3, EpochChange, GroupKey, GroupMetadataValue),
    Schema(5, MemberChange, MemberKey, MemberMetadataValue),
    Schema(6, TargetEpochChange, GroupKey, TargetEpochValue),
    Schema(7, TargetChange, MemberKey, TargetPartitionsValue),
    Schema(8, CurrentChange, MemberKey, CurrentAssignmentValue),
    Schema(16, RegexChange, RegularExpressionKey, RegularExpressionValue),
)
