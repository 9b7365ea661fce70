"""The records of the cluster's metadata log, as KRaft defines them, and their frame.

Only what this broker writes or replays is declared. A record's value is a frame version (1), the record's key
and version, all unsigned varints, and then the record itself; the log's keys are null. Records are written in
the versions of the finalized `metadata.version`, which a log states in its first record so that a reader
knows what it may meet.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

from streamkit.protocol.codec import decode, encode
from streamkit.protocol.errors import MalformedMessageError
from streamkit.protocol.primitives import read_uvarint, uvarint
from streamkit.protocol.schema import (
    ZERO_UUID,
    Buffer,
    Int8,
    Int16,
    Int32,
    Int64,
    Message,
    UInt16,
    Uuid,
    schema,
    tag,
    versions,
)

METADATA_VERSION_FEATURE: Final = "metadata.version"
GROUP_VERSION_FEATURE: Final = "group.version"  # KIP-848
STREAMS_VERSION_FEATURE: Final = "streams.version"  # KIP-1071
TRANSACTION_VERSION_FEATURE: Final = "transaction.version"  # KIP-890
SHARE_VERSION_FEATURE: Final = "share.version"  # KIP-932
METADATA_VERSION: Final = 29  # 4.2-IV1; no record differs from those of 4.0-IV3
OLDEST_METADATA_VERSION: Final = 21  # 3.9-IV0, with which the first logs of this broker were written
FIRST_WITH_ELR_RECORDS: Final = 23  # 4.0-IV1: eligible leader replicas in partition records (KIP-966)
ELR_FEATURE: Final = "eligible.leader.replicas.version"
FRAME_VERSION: Final = 1

NO_LEADER: Final = -1
NO_LEADER_CHANGE: Final = -2

RECOVERED: Final = 0
RECOVERING: Final = 1  # elected uncleanly, and not yet sure of what its log holds (KIP-704)
NO_RECOVERY_CHANGE: Final = -1

UNFENCE: Final = -1
FENCE: Final = 1
IN_CONTROLLED_SHUTDOWN: Final = 1


class BrokerEndpoint(Message):
    name: str = ""
    host: str = ""
    port: UInt16 = 0
    security_protocol: Int16 = 0


class BrokerFeature(Message):
    name: str = ""
    min_supported_version: Int16 = 0
    max_supported_version: Int16 = 0


@schema("0-3", flexible="0+", key=0)
class RegisterBrokerRecord(Message):
    """A broker process begins; its epoch fences every earlier process of the same broker."""

    broker_id: Int32 = 0
    is_migrating_zk_broker: Annotated[bool, versions("2+")] = False
    incarnation_id: Uuid = ZERO_UUID
    broker_epoch: Int64 = 0
    end_points: list[BrokerEndpoint] = []
    features: list[BrokerFeature] = []
    rack: str | None = None
    fenced: bool = True
    in_controlled_shutdown: Annotated[bool, versions("1+")] = False
    log_dirs: Annotated[list[Uuid], versions("3+"), tag(0)] = []


@schema("0", flexible="0+", key=1)
class UnregisterBrokerRecord(Message):
    """A broker is forgotten."""

    broker_id: Int32 = 0
    broker_epoch: Int64 = 0


@schema("0", flexible="0+", key=2)
class TopicRecord(Message):
    """A topic begins; its partitions follow."""

    name: str = ""
    topic_id: Uuid = ZERO_UUID


@schema("0-2", flexible="0+", key=3)
class PartitionRecord(Message):
    """A partition begins."""

    partition_id: Int32 = -1
    topic_id: Uuid = ZERO_UUID
    replicas: list[Int32] = []
    isr: list[Int32] = []
    removing_replicas: list[Int32] = []
    adding_replicas: list[Int32] = []
    leader: Int32 = NO_LEADER
    leader_recovery_state: Annotated[Int8, tag(0)] = RECOVERED
    leader_epoch: Int32 = -1
    partition_epoch: Int32 = -1
    directories: Annotated[list[Uuid], versions("1+")] = []
    eligible_leader_replicas: Annotated[list[Int32] | None, versions("2+"), tag(1)] = None
    last_known_elr: Annotated[list[Int32] | None, versions("2+"), tag(2)] = None


@schema("0", flexible="0+", key=4)
class ConfigRecord(Message):
    """One configuration key of a resource is set, or deleted by a null value."""

    resource_type: Int8 = 0
    resource_name: str = ""
    name: str = ""
    value: str | None = ""


@schema("0-2", flexible="0+", key=5)
class PartitionChangeRecord(Message):
    """A partition changes in what is not null; a stated leader, even the same, begins a leader epoch."""

    partition_id: Int32 = -1
    topic_id: Uuid = ZERO_UUID
    isr: Annotated[list[Int32] | None, tag(0)] = None
    leader: Annotated[Int32, tag(1)] = NO_LEADER_CHANGE
    replicas: Annotated[list[Int32] | None, tag(2)] = None
    removing_replicas: Annotated[list[Int32] | None, tag(3)] = None
    adding_replicas: Annotated[list[Int32] | None, tag(4)] = None
    leader_recovery_state: Annotated[Int8, tag(5)] = NO_RECOVERY_CHANGE
    eligible_leader_replicas: Annotated[list[Int32] | None, versions("2+"), tag(6)] = None
    last_known_elr: Annotated[list[Int32] | None, versions("2+"), tag(7)] = None
    directories: Annotated[list[Uuid] | None, versions("1+"), tag(8)] = None


@schema("0", flexible="0+", key=9)
class RemoveTopicRecord(Message):
    """A topic ends, with its partitions and its configuration."""

    topic_id: Uuid = ZERO_UUID


@schema("0", flexible="0+", key=12)
class FeatureLevelRecord(Message):
    """A feature of the cluster is finalized at a level."""

    name: str = ""
    feature_level: Int16 = 0


@schema("0", flexible="0+", key=15)
class ProducerIdsRecord(Message):
    """A block of producer ids was given to a broker; `next_producer_id` begins the next block."""

    broker_id: Int32 = 0
    broker_epoch: Int64 = -1
    next_producer_id: Int64 = 0


@schema("0-2", flexible="0+", key=17)
class BrokerRegistrationChangeRecord(Message):
    """A broker is fenced or unfenced, shuts down, or loses a log directory; 0 and [] change nothing."""

    broker_id: Int32 = 0
    broker_epoch: Int64 = 0
    fenced: Annotated[Int8, tag(0)] = 0
    in_controlled_shutdown: Annotated[Int8, versions("1+"), tag(1)] = 0
    log_dirs: Annotated[list[Uuid], versions("2+"), tag(2)] = []


@schema("0", flexible="0+", key=20)
class NoOpRecord(Message):
    """Nothing changes; the log's end moves."""


class ControllerEndpoint(Message):
    name: str = ""
    host: str = ""
    port: UInt16 = 0
    security_protocol: Int16 = 0


class ControllerFeature(Message):
    name: str = ""
    min_supported_version: Int16 = 0
    max_supported_version: Int16 = 0


@schema("0", flexible="0+", key=27)
class RegisterControllerRecord(Message):
    """A controller process begins (KIP-919)."""

    controller_id: Int32 = 0
    incarnation_id: Uuid = ZERO_UUID
    zk_migration_ready: bool = False
    end_points: list[ControllerEndpoint] = []
    features: list[ControllerFeature] = []


MetadataRecord: TypeAlias = (
    RegisterBrokerRecord
    | UnregisterBrokerRecord
    | TopicRecord
    | PartitionRecord
    | ConfigRecord
    | PartitionChangeRecord
    | RemoveTopicRecord
    | FeatureLevelRecord
    | ProducerIdsRecord
    | BrokerRegistrationChangeRecord
    | NoOpRecord
    | RegisterControllerRecord
)

_BY_KEY: Final[dict[int, type[MetadataRecord]]] = {
    record.KEY: record
    for record in (
        RegisterBrokerRecord, UnregisterBrokerRecord, TopicRecord, PartitionRecord, ConfigRecord,
        PartitionChangeRecord, RemoveTopicRecord, FeatureLevelRecord, ProducerIdsRecord,
        BrokerRegistrationChangeRecord, NoOpRecord, RegisterControllerRecord,
    )
}  # fmt: skip


def encode_record(record: MetadataRecord, metadata_version: int = METADATA_VERSION) -> bytes:
    """The value of a log record whose finalized `metadata.version` is `metadata_version`."""
    version = record_version(record, metadata_version)
    return b"".join((uvarint(FRAME_VERSION), uvarint(record.KEY), uvarint(version), encode(record, version)))


def record_version(record: MetadataRecord, metadata_version: int) -> int:
    """The version in which readers at `metadata_version` expect this record."""
    if isinstance(record, PartitionRecord | PartitionChangeRecord):
        return 2 if metadata_version >= FIRST_WITH_ELR_RECORDS else 1
    return record.VERSIONS.last


def decode_record(value: Buffer) -> MetadataRecord:
    """The record in the value of a log record; raises MalformedMessageError."""
    try:
        frame_version, pos = read_uvarint(value, 0)
        key, pos = read_uvarint(value, pos)
        version, pos = read_uvarint(value, pos)
    except IndexError:
        raise MalformedMessageError("the frame of a metadata record ends early") from None
    if frame_version != FRAME_VERSION:
        raise MalformedMessageError(f"a metadata record has frame version {frame_version}")
    record = _BY_KEY.get(key)
    if record is None or version not in record.VERSIONS:
        raise MalformedMessageError(f"metadata record {key} version {version} is not known")
    return decode(record, value, version, pos)
