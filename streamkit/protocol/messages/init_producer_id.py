"""InitProducerId: an id and epoch for an idempotent or transactional producer (KIP-98, KIP-360)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import Int16, Int32, Int64, Message, schema, versions


@schema("0-5", flexible="2+", key=22)
class InitProducerIdRequest(Message):
    transactional_id: str | None = ""
    transaction_timeout_ms: Int32 = 0
    producer_id: Annotated[Int64, versions("3+")] = -1
    producer_epoch: Annotated[Int16, versions("3+")] = -1


@schema("0-5", flexible="2+", key=22)
class InitProducerIdResponse(Message):
    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    producer_id: Int64 = -1
    producer_epoch: Int16 = 0
