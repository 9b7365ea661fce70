"""ApiVersions: what the broker serves; asked before the client knows any version that the broker speaks."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import Int16, Int32, Int64, Message, schema, tag, versions


@schema("0-4", flexible="3+", key=18)
class ApiVersionsRequest(Message):
    client_software_name: Annotated[str, versions("3+")] = ""
    client_software_version: Annotated[str, versions("3+")] = ""


class ApiVersion(Message):
    api_key: Int16 = 0
    min_version: Int16 = 0
    max_version: Int16 = 0


class SupportedFeatureKey(Message):
    name: str = ""
    min_version: Int16 = 0
    max_version: Int16 = 0


class FinalizedFeatureKey(Message):
    name: str = ""
    max_version_level: Int16 = 0
    min_version_level: Int16 = 0


@schema("0-4", flexible="3+", key=18)
class ApiVersionsResponse(Message):
    error_code: Int16 = 0
    api_keys: list[ApiVersion] = []
    throttle_time_ms: Annotated[Int32, versions("1+")] = 0
    supported_features: Annotated[list[SupportedFeatureKey], versions("3+"), tag(0)] = []
    finalized_features_epoch: Annotated[Int64, versions("3+"), tag(1)] = -1
    finalized_features: Annotated[list[FinalizedFeatureKey], versions("3+"), tag(2)] = []
    zk_migration_ready: Annotated[bool, versions("3+"), tag(3)] = False
