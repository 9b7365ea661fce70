"""What a quorum node must not forget, on disk: `quorum-state` in Kafka's JSON, and where snapshots lie."""

from __future__ import annotations

import json
from typing import Final

from streamkit.broker.raft.log_view import SnapshotId
from streamkit.broker.raft.ready import ElectionState
from streamkit.broker.raft.voters import NO_DIRECTORY, ReplicaKey
from streamkit.broker.storage.identity import decode_uuid, encode_uuid
from streamkit.errors import RefusedError

STATE_FILE: Final = "quorum-state"
SNAPSHOT_SUFFIX: Final = ".checkpoint"
PART_SUFFIX: Final = ".part"
NOBODY: Final = -1


def encode_state(state: ElectionState) -> bytes:
    """Version 1 of Kafka's QuorumStateData."""
    voted = state.voted or ReplicaKey(NOBODY)
    return json.dumps(
        {
            "leaderId": state.leader_id,
            "leaderEpoch": state.epoch,
            "votedId": voted.id,
            "votedDirectoryId": encode_uuid(voted.directory_id),
            "data_version": 1,
        },
        separators=(",", ":"),
    ).encode()


def decode_state(data: bytes, path: str) -> ElectionState:
    """Of version 0 or 1; raises RefusedError, because a node that forgot its vote may vote twice."""
    try:
        fields = json.loads(data)
        directory_id = (
            decode_uuid(fields["votedDirectoryId"]) if "votedDirectoryId" in fields else NO_DIRECTORY
        )
        voted = ReplicaKey(int(fields["votedId"]), directory_id)
        return ElectionState(
            epoch=int(fields["leaderEpoch"]),
            leader_id=int(fields["leaderId"]),
            voted=None if voted.id == NOBODY else voted,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise RefusedError(
            f"{path} cannot be read: {error}",
            hint="restore it from a copy, or start with an empty --data-dir and admit the node anew",
        ) from None


def snapshot_name(snapshot: SnapshotId) -> str:
    return f"{snapshot.end_offset:020d}-{snapshot.epoch:010d}{SNAPSHOT_SUFFIX}"


def snapshot_ids(names: list[str]) -> list[SnapshotId]:
    """Of all whole snapshots in a directory, the oldest first."""
    found = []
    for name in names:
        end_offset, dash, epoch = name.removesuffix(SNAPSHOT_SUFFIX).partition("-")
        if name.endswith(SNAPSHOT_SUFFIX) and dash and end_offset.isdecimal() and epoch.isdecimal():
            found.append(SnapshotId(int(end_offset), int(epoch)))
    return sorted(found)
