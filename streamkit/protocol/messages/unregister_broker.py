"""UnregisterBroker: forget a broker that is gone for good (KIP-631)."""

from __future__ import annotations

from streamkit.protocol.schema import Int16, Int32, Message, schema


@schema("0", flexible="0+", key=64)
class UnregisterBrokerRequest(Message):
    broker_id: Int32 = 0


@schema("0", flexible="0+", key=64)
class UnregisterBrokerResponse(Message):
    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    error_message: str | None = ""
