"""UpdateFeatures: finalize features of the cluster at other levels (KIP-584)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import Int8, Int16, Int32, Message, schema, versions


class FeatureUpdateKey(Message):
    feature: str = ""
    max_version_level: Int16 = 0
    allow_downgrade: Annotated[bool, versions("0")] = False
    upgrade_type: Annotated[Int8, versions("1+")] = 1


@schema("0-2", flexible="0+", key=57)
class UpdateFeaturesRequest(Message):
    timeout_ms: Int32 = 60000
    feature_updates: list[FeatureUpdateKey] = []
    validate_only: Annotated[bool, versions("1+")] = False


class UpdatableFeatureResult(Message):
    feature: str = ""
    error_code: Int16 = 0
    error_message: str | None = ""


@schema("0-2", flexible="0+", key=57)
class UpdateFeaturesResponse(Message):
    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    error_message: str | None = ""
    results: Annotated[list[UpdatableFeatureResult], versions("0-1")] = []
