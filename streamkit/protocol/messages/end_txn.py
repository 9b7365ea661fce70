"""EndTxn: commit or abort a transaction (KIP-98); version 5 answers with the next epoch (KIP-890)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import Int16, Int32, Int64, Message, schema, versions


@schema("0-5", flexible="3+", key=26)
class EndTxnRequest(Message):
    transactional_id: str = ""
    producer_id: Int64 = 0
    producer_epoch: Int16 = 0
    committed: bool = False


@schema("0-5", flexible="3+", key=26)
class EndTxnResponse(Message):
    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    producer_id: Annotated[Int64, versions("5+")] = -1
    producer_epoch: Annotated[Int16, versions("5+")] = -1
