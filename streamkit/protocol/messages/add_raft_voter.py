"""AddRaftVoter: a node becomes a voter of the metadata quorum (KIP-853)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import ZERO_UUID, Int16, Int32, Message, UInt16, Uuid, schema, versions


class Listener(Message):
    name: str = ""
    host: str = ""
    port: UInt16 = 0


@schema("0-1", flexible="0+", key=80)
class AddRaftVoterRequest(Message):
    cluster_id: str | None = ""
    timeout_ms: Int32 = 0
    voter_id: Int32 = 0
    voter_directory_id: Uuid = ZERO_UUID
    listeners: list[Listener] = []
    ack_when_committed: Annotated[bool, versions("1+")] = True


@schema("0-1", flexible="0+", key=80)
class AddRaftVoterResponse(Message):
    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    error_message: str | None = ""
