"""ListTransactions: the transactions that a broker coordinates (KIP-664, 994, 1152)."""

from __future__ import annotations

from typing import Annotated

from streamkit.protocol.schema import Int16, Int32, Int64, Message, schema, versions


@schema("0-2", flexible="0+", key=66)
class ListTransactionsRequest(Message):
    state_filters: list[str] = []
    producer_id_filters: list[Int64] = []
    duration_filter: Annotated[Int64, versions("1+")] = -1
    transactional_id_pattern: Annotated[str | None, versions("2+")] = None


class TransactionState(Message):
    transactional_id: str = ""
    producer_id: Int64 = 0
    transaction_state: str = ""


@schema("0-2", flexible="0+", key=66)
class ListTransactionsResponse(Message):
    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    unknown_state_filters: list[str] = []
    transaction_states: list[TransactionState] = []
