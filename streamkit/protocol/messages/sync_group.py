"""SyncGroup: the leader hands in the assignment of a generation, every member takes its part."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import Int16, Int32, Message, schema, versions


class SyncGroupRequestAssignment(Message):
    member_id: str = ""
    assignment: bytes = b""


@schema("0-5", flexible="4+", key=14)
class SyncGroupRequest(Message):
    group_id: str = ""
    generation_id: Int32 = 0
    member_id: str = ""
    group_instance_id: Annotated[str | None, versions("3+")] = None
    protocol_type: Annotated[str | None, versions("5+")] = None
    protocol_name: Annotated[str | None, versions("5+")] = None
    assignments: list[SyncGroupRequestAssignment] = []


@schema("0-5", flexible="4+", key=14)
class SyncGroupResponse(Message):
    throttle_time_ms: Annotated[Int32, versions("1+")] = 0
    error_code: Int16 = 0
    protocol_type: Annotated[str | None, versions("5+")] = None
    protocol_name: Annotated[str | None, versions("5+")] = None
    assignment: bytes = b""
