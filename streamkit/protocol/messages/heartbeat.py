"""Heartbeat: stay a member of a classic group, and learn of a rebalance."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import Int16, Int32, Message, schema, versions


@schema("0-4", flexible="4+", key=12)
class HeartbeatRequest(Message):
    group_id: str = ""
    generation_id: Int32 = 0
    member_id: str = ""
    group_instance_id: Annotated[str | None, versions("3+")] = None


@schema("0-4", flexible="4+", key=12)
class HeartbeatResponse(Message):
    throttle_time_ms: Annotated[Int32, versions("1+")] = 0
    error_code: Int16 = 0
