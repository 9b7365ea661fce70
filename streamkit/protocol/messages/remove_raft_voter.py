"""RemoveRaftVoter: a voter of the metadata quorum becomes an observer (KIP-853)."""

from __future__ import annotations

from streamkit.protocol.schema import ZERO_UUID, Int16, Int32, Message, Uuid, schema


@schema("0", flexible="0+", key=81)
class RemoveRaftVoterRequest(Message):
    cluster_id: str | None = ""
    voter_id: Int32 = 0
    voter_directory_id: Uuid = ZERO_UUID


@schema("0", flexible="0+", key=81)
class RemoveRaftVoterResponse(Message):
    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    error_message: str | None = ""
