"""AddOffsetsToTxn: the group whose offsets a transaction is about to commit (KIP-98)."""

from __future__ import annotations

from streamkit.protocol.schema import Int16, Int32, Int64, Message, schema


@schema("0-4", flexible="3+", key=25)
class AddOffsetsToTxnRequest(Message):
    transactional_id: str = ""
    producer_id: Int64 = 0
    producer_epoch: Int16 = 0
    group_id: str = ""


@schema("0-4", flexible="3+", key=25)
class AddOffsetsToTxnResponse(Message):
    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
