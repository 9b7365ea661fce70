"""The protocol's messages as the state machine sees them: Kafka's RPCs without topics, wrappers and versions.

A request names who sends it and, where a voter is meant, who shall answer: whoever finds another directory
id there refuses (R10). Every reply tells the epoch and the leader that the answering node knows of.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from streamkit.broker.raft.log_view import LogPosition, SnapshotId
from streamkit.broker.raft.voters import ReplicaKey, Voter, VoterSet
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.records.batch import Buffer

NO_LEADER: Final = -1


# -- records that the protocol itself writes


class LeaderChange(msgspec.Struct, frozen=True):
    """The first record of an epoch: it commits everything before it (Raft §5.4.2)."""

    leader_id: int
    voters: tuple[ReplicaKey, ...]
    granting: tuple[ReplicaKey, ...]


class KRaftVersion(msgspec.Struct, frozen=True):
    version: int


class Voters(msgspec.Struct, frozen=True):
    voters: VoterSet


ControlRecord: TypeAlias = LeaderChange | KRaftVersion | Voters


class Batch(msgspec.Struct, frozen=True):
    """Records [base_offset, next_offset) of one epoch; `voters` is set if they change who votes.

    `payload` is what the shell writes: an encoded record batch, or control records that it encodes.
    """

    base_offset: int
    next_offset: int
    epoch: int
    payload: Buffer | tuple[ControlRecord, ...]
    voters: VoterSet | None = None


# -- requests


class VoteRequest(msgspec.Struct, frozen=True):
    """May I lead the next epoch (`pre_vote`, KIP-996), or: I am a candidate for `epoch`."""

    epoch: int
    candidate: ReplicaKey
    voter: ReplicaKey
    last: LogPosition
    pre_vote: bool


class BeginEpochRequest(msgspec.Struct, frozen=True):
    epoch: int
    leader_id: int
    voter: ReplicaKey


class EndEpochRequest(msgspec.Struct, frozen=True):
    """The leader resigns; `candidates` are its voters, the most complete log first."""

    epoch: int
    leader_id: int
    candidates: tuple[ReplicaKey, ...]


class FetchRequest(msgspec.Struct, frozen=True):
    """Give me what follows my log; everything before `last.offset` is on my disk."""

    epoch: int
    replica: ReplicaKey
    last: LogPosition
    high_watermark: int
    max_wait_ms: int


class FetchSnapshotRequest(msgspec.Struct, frozen=True):
    epoch: int
    replica: ReplicaKey
    snapshot: SnapshotId
    position: int


class AddVoterRequest(msgspec.Struct, frozen=True):
    voter: Voter
    timeout_ms: int
    ack_when_committed: bool = True


class RemoveVoterRequest(msgspec.Struct, frozen=True):
    voter: ReplicaKey


class UpdateVoterRequest(msgspec.Struct, frozen=True):
    epoch: int
    voter: Voter


PeerRequest: TypeAlias = (
    VoteRequest | BeginEpochRequest | EndEpochRequest | FetchRequest | FetchSnapshotRequest
)
Request: TypeAlias = PeerRequest | AddVoterRequest | RemoveVoterRequest | UpdateVoterRequest


# -- replies


class VoteReply(msgspec.Struct, frozen=True):
    epoch: int
    leader_id: int = NO_LEADER
    granted: bool = False
    error: ErrorCode = ErrorCode.NONE


class EpochReply(msgspec.Struct, frozen=True):
    """To BeginEpoch and EndEpoch."""

    epoch: int
    leader_id: int = NO_LEADER
    error: ErrorCode = ErrorCode.NONE


class FetchReply(msgspec.Struct, frozen=True):
    """On its way out `records_from` ≥ 0 asks the shell to add the log's batches from there on."""

    epoch: int
    leader_id: int = NO_LEADER
    error: ErrorCode = ErrorCode.NONE
    high_watermark: int = -1
    log_start_offset: int = -1
    diverging: LogPosition | None = None
    snapshot: SnapshotId | None = None
    records_from: int = -1
    batches: tuple[Batch, ...] = ()


class FetchSnapshotReply(msgspec.Struct, frozen=True):
    """On its way out without `data`: the shell adds what the snapshot's file holds at `position`."""

    epoch: int
    leader_id: int = NO_LEADER
    error: ErrorCode = ErrorCode.NONE
    snapshot: SnapshotId = SnapshotId(0, 0)
    size: int = 0
    position: int = 0
    data: Buffer = b""


class VoterChangeReply(msgspec.Struct, frozen=True):
    """To AddVoter, RemoveVoter and UpdateVoter."""

    epoch: int
    leader_id: int = NO_LEADER
    error: ErrorCode = ErrorCode.NONE
    message: str = ""


Reply: TypeAlias = VoteReply | EpochReply | FetchReply | FetchSnapshotReply | VoterChangeReply
