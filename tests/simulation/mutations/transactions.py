"""Defects of transactions: who may still write, and what is remembered of what is open."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from streamkit.broker.coordination.transaction import coordinator
from streamkit.broker.log.producers import NO_TRANSACTION, ProducerEntry
from streamkit.broker.server.handlers import transactions
from streamkit.broker.storage import rebuilding
from streamkit.protocol.error_codes import ErrorCode
from tests.simulation.mutations import mutation, wrapped
from tests.simulation.mutations.scenarios import transactional

NEVER = 99
"""A transaction.version that no client has."""


@mutation(8, nodes=1, scenario=transactional)
def no_epoch_bump_on_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a transaction leaves its producer's epoch as it is (pre KIP-890)."""
    monkeypatch.setattr(coordinator, "EPOCH_BUMP_VERSION", NEVER)


@mutation(9, nodes=1, scenario=transactional)
def unfenced_offset_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offsets are taken from a producer that its coordinator has fenced."""

    def make(original: Any) -> Any:
        async def admitted(*args: Any) -> ErrorCode:
            code: ErrorCode = await original(*args)
            return ErrorCode.NONE if code is ErrorCode.INVALID_PRODUCER_EPOCH else code

        return admitted

    wrapped(transactions, "_admitted", make, monkeypatch)


@mutation(13, nodes=1, scenario=transactional)
def open_transactions_lost_at_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot is read without what it says of open transactions."""

    def make(original: Any) -> Any:
        def decode_snapshot(data: bytes) -> dict[int, ProducerEntry]:
            table: dict[int, ProducerEntry] = original(data)
            return {one: replace(entry, transaction_start=NO_TRANSACTION) for one, entry in table.items()}

        return decode_snapshot

    wrapped(rebuilding, "decode_snapshot", make, monkeypatch)
