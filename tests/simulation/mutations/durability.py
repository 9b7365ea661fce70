"""Defects of one node's log: what it says is on disk is not, or what it knew is forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from streamkit.broker.controller.topic_names import CLUSTER_METADATA
from streamkit.broker.log.producers import NO_TRANSACTION, ProducerEntry
from streamkit.broker.storage import rebuilding
from streamkit.broker.storage.flusher import Flusher
from streamkit.broker.storage.partition_log import PartitionLog
from tests.simulation.mutations import mutation, wrapped


@mutation(6, nodes=1)
def acknowledge_before_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """An append to a partition counts as flushed at once."""

    def make(original: Any) -> Any:
        def flush(log: PartitionLog, now_ms: int) -> None:
            original(log, now_ms)
            if log.topic != CLUSTER_METADATA:
                log.flushed_offset = log.log_end_offset

        return flush

    wrapped(PartitionLog, "_flush_or_count_as_flushed", make, monkeypatch)


@mutation(10, nodes=1)
def retry_after_a_failed_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush that failed is tried again, and the second one "succeeds"."""

    def make(original: Any) -> Any:
        async def make_durable(flusher: Flusher, work: Any) -> None:
            try:
                await original(flusher, work)
            except OSError:
                await original(flusher, work)

        return make_durable

    wrapped(Flusher, "_make_durable", make, monkeypatch)


@mutation(13, nodes=1)
def sequences_lost_at_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot is read without the producers that have no transaction open: what they sent is forgotten."""

    def make(original: Any) -> Any:
        def decode_snapshot(data: bytes) -> dict[int, ProducerEntry]:
            table: dict[int, ProducerEntry] = original(data)
            return {one: entry for one, entry in table.items() if entry.transaction_start != NO_TRANSACTION}

        return decode_snapshot

    wrapped(rebuilding, "decode_snapshot", make, monkeypatch)
