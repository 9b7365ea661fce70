"""The protocol's records in the log and in snapshots, in Kafka's format: control batches and their values."""

from __future__ import annotations

from collections.abc import Sequence

from streamkit.broker.raft.messages import ControlRecord, KRaftVersion, LeaderChange, Voters
from streamkit.broker.raft.voters import Endpoint, ReplicaKey, Voter, VoterSet
from streamkit.protocol.codec import decode, encode
from streamkit.protocol.records.batch import Buffer
from streamkit.protocol.records.control import ControlType, decode_key, encode_key
from streamkit.protocol.records.record import Record, decode_records, encode_batch
from streamkit.protocol.schema import ZERO_UUID, Int16, Int32, Int64, Message, UInt16, Uuid, schema


class LeaderChangeVoter(Message):
    voter_id: Int32 = 0


@schema("0", flexible="0+")
class LeaderChangeMessage(Message):
    """Version 0 alone: there is a version 1 with directory ids, but Kafka's readers expect this one."""

    version: Int16 = 0
    leader_id: Int32 = 0
    voters: list[LeaderChangeVoter] = []
    granting_voters: list[LeaderChangeVoter] = []


@schema("0", flexible="0+")
class KRaftVersionRecord(Message):
    version: Int16 = 0
    k_raft_version: Int16 = 0


class VoterEndpoint(Message):
    name: str = ""
    host: str = ""
    port: UInt16 = 0


class VoterVersions(Message):
    min_supported_version: Int16 = 0
    max_supported_version: Int16 = 0


class RecordedVoter(Message):
    voter_id: Int32 = 0
    voter_directory_id: Uuid = ZERO_UUID
    endpoints: list[VoterEndpoint] = []
    k_raft_version_feature: VoterVersions = VoterVersions()


@schema("0", flexible="0+")
class VotersRecord(Message):
    version: Int16 = 0
    voters: list[RecordedVoter] = []


@schema("0", flexible="0+")
class SnapshotHeaderRecord(Message):
    version: Int16 = 0
    last_contained_log_timestamp: Int64 = 0


@schema("0", flexible="0+")
class SnapshotFooterRecord(Message):
    version: Int16 = 0


def encode_control(
    records: Sequence[ControlRecord], now_ms: int, *, base_offset: int = 0, epoch: int = -1
) -> bytes:
    """One control batch of all `records`."""
    encoded = [Record(timestamp=now_ms, key=encode_key(kind), value=v) for kind, v in map(_value, records)]
    return encode_batch(encoded, base_offset=base_offset, leader_epoch=epoch, control=True)


def encode_snapshot_mark(
    kind: ControlType, message: Message, now_ms: int, *, base_offset: int, epoch: int
) -> bytes:
    """The batch that opens or ends a snapshot."""
    record = Record(timestamp=now_ms, key=encode_key(kind), value=encode(message, 0))
    return encode_batch([record], base_offset=base_offset, leader_epoch=epoch, control=True)


def voters_in(batch: Buffer) -> VoterSet | None:
    """The voters that a control batch makes, if it does."""
    found = None
    for record in decode_records(batch):
        if decode_key(record.key) is ControlType.KRAFT_VOTERS:
            found = _voters(decode(VotersRecord, record.value or b"", 0))
    return found


def _value(record: ControlRecord) -> tuple[ControlType, bytes]:
    match record:
        case LeaderChange():
            change = LeaderChangeMessage(
                leader_id=record.leader_id,
                voters=_leader_change_voters(record.voters),
                granting_voters=_leader_change_voters(record.granting),
            )
            return ControlType.LEADER_CHANGE, encode(change, 0)
        case KRaftVersion():
            return ControlType.KRAFT_VERSION, encode(KRaftVersionRecord(k_raft_version=record.version), 0)
        case Voters():
            return ControlType.KRAFT_VOTERS, encode(_record(record.voters), 0)


def _leader_change_voters(keys: Sequence[ReplicaKey]) -> list[LeaderChangeVoter]:
    return [LeaderChangeVoter(voter_id=key.id) for key in keys]


def _record(voters: VoterSet) -> VotersRecord:
    return VotersRecord(
        voters=[
            RecordedVoter(
                voter_id=voter.key.id,
                voter_directory_id=voter.key.directory_id,
                endpoints=[VoterEndpoint(name=e.name, host=e.host, port=e.port) for e in voter.endpoints],
                k_raft_version_feature=VoterVersions(
                    min_supported_version=voter.min_kraft_version,
                    max_supported_version=voter.max_kraft_version,
                ),
            )
            for voter in voters
        ]
    )


def _voters(record: VotersRecord) -> VoterSet:
    return VoterSet(
        Voter(
            key=ReplicaKey(one.voter_id, one.voter_directory_id),
            endpoints=tuple(Endpoint(e.name, e.host, e.port) for e in one.endpoints),
            min_kraft_version=one.k_raft_version_feature.min_supported_version,
            max_kraft_version=one.k_raft_version_feature.max_supported_version,
        )
        for one in record.voters
    )
