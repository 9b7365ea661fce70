"""ListGroups: the groups that a broker coordinates, by state (KIP-518) and type (KIP-848)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import Int16, Int32, Message, schema, versions


@schema("0-5", flexible="3+", key=16)
class ListGroupsRequest(Message):
    states_filter: Annotated[list[str], versions("4+")] = []
    types_filter: Annotated[list[str], versions("5+")] = []


class ListedGroup(Message):
    group_id: str = ""
    protocol_type: str = ""
    group_state: Annotated[str, versions("4+")] = ""
    group_type: Annotated[str, versions("5+")] = ""


@schema("0-5", flexible="3+", key=16)
class ListGroupsResponse(Message):
    throttle_time_ms: Annotated[Int32, versions("1+")] = 0
    error_code: Int16 = 0
    groups: list[ListedGroup] = []
