"""BrokerHeartbeat: a broker lives, has caught up, or wants to go (KIP-631)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import Int16, Int32, Int64, Message, Uuid, schema, tag, versions


@schema("0-2", flexible="0+", key=63)
class BrokerHeartbeatRequest(Message):
    broker_id: Int32 = 0
    broker_epoch: Int64 = -1
    current_metadata_offset: Int64 = 0
    want_fence: bool = False
    want_shut_down: bool = False
    offline_log_dirs: Annotated[list[Uuid], versions("1+"), tag(0)] = []
    cordoned_log_dirs: Annotated[list[Uuid] | None, versions("2+"), tag(1)] = None


@schema("0-2", flexible="0+", key=63)
class BrokerHeartbeatResponse(Message):
    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    is_caught_up: bool = False
    is_fenced: bool = True
    should_shut_down: bool = False
