"""PushTelemetry: a client's metrics, in the OpenTelemetry format (KIP-714)."""

from __future__ import annotations

from streamkit.protocol.schema import ZERO_UUID, Int8, Int16, Int32, Message, Uuid, schema


@schema("0", flexible="0+", key=72)
class PushTelemetryRequest(Message):
    client_instance_id: Uuid = ZERO_UUID
    subscription_id: Int32 = 0
    terminating: bool = False
    compression_type: Int8 = 0
    metrics: bytes = b""


@schema("0", flexible="0+", key=72)
class PushTelemetryResponse(Message):
    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
