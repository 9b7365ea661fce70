"""DescribeGroups: state, protocol and members of classic groups."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import Int16, Int32, Message, schema, versions


@schema("0-6", flexible="5+", key=15)
class DescribeGroupsRequest(Message):
    groups: list[str] = []
    include_authorized_operations: Annotated[bool, versions("3+")] = False


class DescribedGroupMember(Message):
    member_id: str = ""
    group_instance_id: Annotated[str | None, versions("4+")] = None
    client_id: str = ""
    client_host: str = ""
    member_metadata: bytes = b""
    member_assignment: bytes = b""


class DescribedGroup(Message):
    error_code: Int16 = 0
    error_message: Annotated[str | None, versions("6+")] = None
    group_id: str = ""
    group_state: str = ""
    protocol_type: str = ""
    protocol_data: str = ""
    members: list[DescribedGroupMember] = []
    authorized_operations: Annotated[Int32, versions("3+")] = -2147483648


@schema("0-6", flexible="5+", key=15)
class DescribeGroupsResponse(Message):
    throttle_time_ms: Annotated[Int32, versions("1+")] = 0
    groups: list[DescribedGroup] = []
