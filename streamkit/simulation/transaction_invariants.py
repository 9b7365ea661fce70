"""What must be true of transactions at any moment: the logs are read as they are committed, by a model that
knows nothing of how the node keeps its books, and the node's books are compared with it.

    G4  readers of committed transactions end at the first record of the oldest one that is open, and the
        index of aborted ones has each whose marker says so
    G5  behind a batch of a producer epoch stands none of an earlier one; each transaction of a producer in a
        partition has an epoch of its own, below that of its marker (KIP-890)
    G6  a transaction that nobody ends is ended within its timeout and ten seconds, counted while all nodes
        are up, all replicas in sync and nothing is wrong
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from streamkit.broker.controller.topic_names import CONSUMER_OFFSETS
from streamkit.broker.log.producers import marker_in
from streamkit.broker.server.replicas.partition_actor import PartitionActor
from streamkit.broker.storage.errors import OffsetOutOfRangeError
from streamkit.protocol.records.batch import BatchHeader, Buffer, batches
from streamkit.simulation.cluster import LEDGER
from streamkit.simulation.workload.transactor import TRANSACTION_TIMEOUT_MS

Hold = Callable[[str, bool, Callable[[], str]], None]
Partition = tuple[str, int]
AUDITED = (LEDGER, CONSUMER_OFFSETS)
AUDITED_BYTES = 64 * 1024
ALLOWED_S = 10.0
SLOWEST_CLOCK = 0.94


class OpenTransaction(msgspec.Struct):
    first_offset: int
    epoch: int
    seen_s: float
    is_late: bool = False


class Audit:
    """One partition's transactions, as its committed records tell them."""

    def __init__(self, partition: Partition, hold: Hold) -> None:
        self.open: dict[int, OpenTransaction] = {}
        """By producer id."""
        self.next_offset = 0
        self._name = f"{partition[0]}-{partition[1]}"
        self._hold = hold
        self._epochs: dict[int, int] = {}
        """Producer id → the epoch of its last batch or marker."""
        self._used: dict[int, int] = {}
        """Producer id → the epoch of its last transaction."""

    def follow(self, actor: PartitionActor, now_s: float) -> bool:
        """Read what is committed since; whether that was everything."""
        log, end = actor.log, actor.high_watermark
        self.next_offset = max(self.next_offset, log.log_start_offset)
        while self.next_offset < end:
            try:
                data = log.read(self.next_offset, max_bytes=AUDITED_BYTES, end_offset=end)
            except OffsetOutOfRangeError:
                return False
            if not data:
                return False  # not in the page cache now
            for header, batch in batches(data):
                if header.base_offset >= self.next_offset and header.is_transactional:
                    self._take(actor, header, batch, now_s)
                self.next_offset = header.next_offset
        return True

    def stable_offset(self, high_watermark: int) -> int:
        """Where readers of committed transactions must end."""
        return min((one.first_offset for one in self.open.values()), default=high_watermark)

    def _take(self, actor: PartitionActor, header: BatchHeader, batch: Buffer, now_s: float) -> None:
        producer_id, epoch = header.producer_id, header.producer_epoch
        where = f"offset {header.base_offset} of {self._name} has producer {producer_id} in epoch {epoch}"
        before = self._epochs.get(producer_id, -1)
        self._hold("G5", epoch >= before, lambda: f"{where}, and {before} stands before it")
        self._epochs[producer_id] = max(before, epoch)
        known = self.open.get(producer_id)
        if not header.is_control:
            if known is None:
                used = self._used.get(producer_id, -1)
                self._hold("G5", epoch > used, lambda: f"{where}, as had its last transaction")
                self.open[producer_id] = OpenTransaction(header.base_offset, epoch, now_s)
                self._used[producer_id] = epoch
            else:
                self._hold("G5", epoch == known.epoch, lambda: f"{where}, and its transaction {known.epoch}")
            return
        self.open.pop(producer_id, None)
        marker = marker_in(batch)
        if known is None or marker is None:
            return
        self._hold("G5", epoch > known.epoch, lambda: f"{where}, and the transaction that it ends too")
        if not marker.committed:
            rows = actor.log.aborted_transactions(known.first_offset, header.next_offset)
            is_told = any(
                row.producer_id == producer_id and row.first_offset == known.first_offset for row in rows
            )
            self._hold("G4", is_told, lambda: (
                f"{where} ends what began at {known.first_offset}, and no reader is told that it was aborted"
            ))  # fmt: skip


class TransactionInvariants:
    """`is_calm` says whether nothing is wrong now."""

    def __init__(self, hold: Hold, is_calm: Callable[[], bool]) -> None:
        self._hold = hold
        self._is_calm = is_calm
        self._audits: dict[Partition, Audit] = {}
        self._calm_since_s: float | None = None

    def look(self, partition: Partition, actor: PartitionActor, now_s: float) -> None:
        """At a partition's present leader, who knows what is committed."""
        if partition[0] not in AUDITED:
            return
        audit = self._audits.get(partition)
        if audit is None:
            audit = self._audits[partition] = Audit(partition, self._hold)
        if audit.follow(actor, now_s) and audit.next_offset == actor.high_watermark:
            stable = max(audit.stable_offset(actor.high_watermark), actor.log.log_start_offset)
            self._hold("G4", actor.last_stable_offset == stable, lambda: (
                f"{partition[0]}-{partition[1]} is read up to {actor.last_stable_offset}, and the first open "
                f"transaction begins at {stable}; it is committed up to {actor.high_watermark}"
            ))  # fmt: skip

    def look_at_time(self, now_s: float) -> None:
        """How long transactions have been open."""
        if not self.is_any_open or not self._is_calm():
            self._calm_since_s = None
            return
        if self._calm_since_s is None:
            self._calm_since_s = now_s
        allowed_s = (TRANSACTION_TIMEOUT_MS / 1000 + ALLOWED_S) / SLOWEST_CLOCK
        for (topic, number), audit in self._audits.items():
            for producer_id, one in audit.open.items():
                since_s = max(one.seen_s, self._calm_since_s)
                is_late = now_s - since_s > allowed_s
                if not one.is_late:
                    self._hold("G6", not is_late, lambda: (
                        f"producer {producer_id} has had a transaction open in {topic}-{number} since "  # noqa: B023
                        f"{since_s:.3f} s, from offset {one.first_offset} on"  # noqa: B023
                    ))  # fmt: skip
                one.is_late |= is_late

    @property
    def is_any_open(self) -> bool:
        return any(audit.open for audit in self._audits.values())

    def who_is_open(self) -> Iterable[str]:
        return (f"{topic}-{number}" for (topic, number), audit in self._audits.items() if audit.open)
