"""JoinGroup: become a member of a classic group and wait for its next generation."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import Int16, Int32, Message, nullable, schema, versions


class JoinGroupRequestProtocol(Message):
    name: str = ""
    metadata: bytes = b""


@schema("0-9", flexible="6+", key=11)
class JoinGroupRequest(Message):
    group_id: str = ""
    session_timeout_ms: Int32 = 0
    rebalance_timeout_ms: Annotated[Int32, versions("1+")] = -1
    member_id: str = ""
    group_instance_id: Annotated[str | None, versions("5+")] = None
    protocol_type: str = ""
    protocols: list[JoinGroupRequestProtocol] = []
    reason: Annotated[str | None, versions("8+")] = None


class JoinGroupResponseMember(Message):
    member_id: str = ""
    group_instance_id: Annotated[str | None, versions("5+")] = None
    metadata: bytes = b""


@schema("0-9", flexible="6+", key=11)
class JoinGroupResponse(Message):
    throttle_time_ms: Annotated[Int32, versions("2+")] = 0
    error_code: Int16 = 0
    generation_id: Int32 = -1
    protocol_type: Annotated[str | None, versions("7+")] = None
    protocol_name: Annotated[str | None, nullable("7+")] = ""
    leader: str = ""
    skip_assignment: Annotated[bool, versions("9+")] = False
    member_id: str = ""
    members: list[JoinGroupResponseMember] = []
