"""GetTelemetrySubscriptions: which of its metrics a client shall push, and how often (KIP-714)."""

from __future__ import annotations

from streamkit.protocol.schema import ZERO_UUID, Int8, Int16, Int32, Message, Uuid, schema


@schema("0", flexible="0+", key=71)
class GetTelemetrySubscriptionsRequest(Message):
    client_instance_id: Uuid = ZERO_UUID


@schema("0", flexible="0+", key=71)
class GetTelemetrySubscriptionsResponse(Message):
    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    client_instance_id: Uuid = ZERO_UUID
    subscription_id: Int32 = 0
    accepted_compression_types: list[Int8] = []
    push_interval_ms: Int32 = 0
    telemetry_max_bytes: Int32 = 0
    delta_temporality: bool = False
    requested_metrics: list[str] = []
