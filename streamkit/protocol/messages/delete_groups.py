"""DeleteGroups: forget empty groups and their committed offsets."""

from __future__ import annotations

from streamkit.protocol.schema import Int16, Int32, Message, schema


@schema("0-2", flexible="2+", key=42)
class DeleteGroupsRequest(Message):
    groups_names: list[str] = []


class DeletableGroupResult(Message):
    group_id: str = ""
    error_code: Int16 = 0


@schema("0-2", flexible="2+", key=42)
class DeleteGroupsResponse(Message):
    throttle_time_ms: Int32 = 0
    results: list[DeletableGroupResult] = []
