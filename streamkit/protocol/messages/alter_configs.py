"""AlterConfigs: replace all settings of a resource; superseded by IncrementalAlterConfigs."""

from __future__ import annotations

from streamkit.protocol.schema import Int8, Int16, Int32, Message, schema


class AlterableConfig(Message):
    name: str = ""
    value: str | None = ""


class AlterConfigsResource(Message):
    resource_type: Int8 = 0
    resource_name: str = ""
    configs: list[AlterableConfig] = []


@schema("0-2", flexible="2+", key=33)
class AlterConfigsRequest(Message):
    resources: list[AlterConfigsResource] = []
    validate_only: bool = False


class AlterConfigsResourceResponse(Message):
    error_code: Int16 = 0
    error_message: str | None = ""
    resource_type: Int8 = 0
    resource_name: str = ""


@schema("0-2", flexible="2+", key=33)
class AlterConfigsResponse(Message):
    throttle_time_ms: Int32 = 0
    responses: list[AlterConfigsResourceResponse] = []
