"""UpdateRaftVoter: a voter has other endpoints, or supports another protocol version (KIP-853)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import ZERO_UUID, Int16, Int32, Message, UInt16, Uuid, schema, tag


class Listener(Message):
    name: str = ""
    host: str = ""
    port: UInt16 = 0


class KRaftVersionFeature(Message):
    min_supported_version: Int16 = 0
    max_supported_version: Int16 = 0


@schema("0", flexible="0+", key=82)
class UpdateRaftVoterRequest(Message):
    cluster_id: str | None = ""
    current_leader_epoch: Int32 = 0
    voter_id: Int32 = 0
    voter_directory_id: Uuid = ZERO_UUID
    listeners: list[Listener] = []
    k_raft_version_feature: KRaftVersionFeature = KRaftVersionFeature()


class CurrentLeader(Message):
    leader_id: Int32 = -1
    leader_epoch: Int32 = -1
    host: str = ""
    port: Int32 = 0


@schema("0", flexible="0+", key=82)
class UpdateRaftVoterResponse(Message):
    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    current_leader: Annotated[CurrentLeader, tag(0)] = CurrentLeader()
