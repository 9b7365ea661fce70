"""FindCoordinator: who coordinates a group or transactional id; several keys from version 4 (KIP-699)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import Int8, Int16, Int32, Message, schema, versions


@schema("0-6", flexible="3+", key=10)
class FindCoordinatorRequest(Message):
    key: Annotated[str, versions("0-3")] = ""
    key_type: Annotated[Int8, versions("1+")] = 0
    coordinator_keys: Annotated[list[str], versions("4+")] = []


class Coordinator(Message):
    key: str = ""
    node_id: Int32 = 0
    host: str = ""
    port: Int32 = 0
    error_code: Int16 = 0
    error_message: str | None = ""


@schema("0-6", flexible="3+", key=10)
class FindCoordinatorResponse(Message):
    throttle_time_ms: Annotated[Int32, versions("1+")] = 0
    error_code: Annotated[Int16, versions("0-3")] = 0
    error_message: Annotated[str | None, versions("1-3")] = ""
    node_id: Annotated[Int32, versions("0-3")] = 0
    host: Annotated[str, versions("0-3")] = ""
    port: Annotated[Int32, versions("0-3")] = 0
    coordinators: Annotated[list[Coordinator], versions("4+")] = []
