"""What steps in and what comes out: the duties of whoever drives a node.

A drain steps any number of events and takes one `Ready`. Its parts are carried out in this order, and the
next event is stepped only afterwards:

1. `state` is made durable (R5: a vote that could be forgotten must not be counted);
2. `log` is applied in order: batches are written, ends are cut off; nothing need be durable yet, that is
   told later by `Flushed`;
3. `chunks` go to the snapshot that is being downloaded; the last of them is made durable, takes the log's
   place, and `SnapshotInstalled` is stepped before anything else;
4. `messages` and `replies` are sent.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from streamkit.broker.raft.log_view import SnapshotId
from streamkit.broker.raft.messages import NO_LEADER, Batch, PeerRequest, Reply, Request
from streamkit.broker.raft.voters import ReplicaKey, VoterSet
from streamkit.protocol.records.batch import Buffer

# -- events


class Tick(msgspec.Struct, frozen=True):
    """Time has passed."""


class Received(msgspec.Struct, frozen=True):
    """A request arrived; its reply will carry the same `token`."""

    token: int
    request: Request


class Answered(msgspec.Struct, frozen=True):
    """`sender` replied to our `request`: the very object that was sent, so no late answer counts twice."""

    sender: int
    request: PeerRequest
    reply: Reply


class Lost(msgspec.Struct, frozen=True):
    """No reply to our `request` will come; `refused`: nobody listens there any more."""

    receiver: int
    request: PeerRequest
    refused: bool = False


class Flushed(msgspec.Struct, frozen=True):
    """The log is on disk below `offset`."""

    offset: int


class SnapshotInstalled(msgspec.Struct, frozen=True):
    """The downloaded snapshot is on disk and the log is empty behind it; `voters` are those in it."""

    snapshot: SnapshotId
    voters: VoterSet | None


class SnapshotTaken(msgspec.Struct, frozen=True):
    """This node made a snapshot, and its log now begins behind `trimmed_to` (None: where it did before)."""

    snapshot: SnapshotId
    trimmed_to: SnapshotId | None = None


class Resign(msgspec.Struct, frozen=True):
    """Lead no more: this node is about to stop."""


Event: TypeAlias = Tick | Received | Answered | Lost | Flushed | SnapshotInstalled | SnapshotTaken | Resign


# -- what is to be done


class ElectionState(msgspec.Struct, frozen=True, gc=False):
    """What a node must never forget: its epoch, its vote in it, and whom it saw lead it."""

    epoch: int = 0
    leader_id: int = NO_LEADER
    voted: ReplicaKey | None = None


class Truncate(msgspec.Struct, frozen=True, gc=False):
    end_offset: int


class SnapshotChunk(msgspec.Struct, frozen=True):
    """Bytes at `position` of a snapshot; a chunk at 0 begins it anew, `last` completes it."""

    snapshot: SnapshotId
    position: int
    data: Buffer
    last: bool


class Send(msgspec.Struct, frozen=True):
    to: int
    request: PeerRequest


class Answer(msgspec.Struct, frozen=True):
    token: int
    reply: Reply


class Ready(msgspec.Struct):
    state: ElectionState | None
    log: list[Batch | Truncate]
    chunks: list[SnapshotChunk]
    messages: list[Send]
    replies: list[Answer]
    high_watermark: int
    wake_at_ms: float
    """When to step a `Tick` at the latest, unless something else happens before."""
