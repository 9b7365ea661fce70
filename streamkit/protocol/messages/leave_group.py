"""LeaveGroup: leave a classic group; several members at once from version 3 (KIP-345)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import Int16, Int32, Message, schema, versions


class MemberIdentity(Message):
    member_id: str = ""
    group_instance_id: str | None = None
    reason: Annotated[str | None, versions("5+")] = None


@schema("0-5", flexible="4+", key=13)
class LeaveGroupRequest(Message):
    group_id: str = ""
    member_id: Annotated[str, versions("0-2")] = ""
    members: Annotated[list[MemberIdentity], versions("3+")] = []


class MemberResponse(Message):
    member_id: str = ""
    group_instance_id: str | None = ""
    error_code: Int16 = 0


@schema("0-5", flexible="4+", key=13)
class LeaveGroupResponse(Message):
    throttle_time_ms: Annotated[Int32, versions("1+")] = 0
    error_code: Int16 = 0
    members: Annotated[list[MemberResponse], versions("3+")] = []
