"""Envelope: a request that a broker passes on to the active controller for a client (KIP-590)."""

from __future__ import annotations

from streamkit.protocol.schema import Int16, Message, schema


@schema("0", flexible="0+", key=58)
class EnvelopeRequest(Message):
    request_data: bytes = b""
    request_principal: bytes | None = b""
    client_host_address: bytes = b""


@schema("0", flexible="0+", key=58)
class EnvelopeResponse(Message):
    response_data: bytes | None = None
    error_code: Int16 = 0
