"""ListConfigResources: the names of what has a configuration (KIP-1142)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import Int8, Int16, Int32, Message, schema, versions


@schema("0-1", flexible="0+", key=74)
class ListConfigResourcesRequest(Message):
    resource_types: Annotated[list[Int8], versions("1+")] = []


class ConfigResource(Message):
    resource_name: str = ""
    resource_type: Annotated[Int8, versions("1+")] = 16


@schema("0-1", flexible="0+", key=74)
class ListConfigResourcesResponse(Message):
    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    config_resources: list[ConfigResource] = []
