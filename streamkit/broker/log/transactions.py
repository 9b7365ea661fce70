"""What a log knows of its transactions: which are open, which ended a moment ago, which were aborted.

A reader under read_committed ends at the last stable offset: the first offset of the oldest transaction that
is still open, or whose marker is not committed yet, and at most the high watermark. Below it every
transaction is decided; the aborted ones stand in an index beside each segment, by the segment that holds the
marker, and are told with the records so that the reader leaves them out.

The index file is Kafka's `.txnindex`, one row of 34 bytes for each abort:

    version i16 (0) | producer id i64 | first offset i64 | offset of the marker i64 | last stable offset i64

The last stable offset in a row says where a search may end: behind that row no transaction reaches back
below it.

A transactional batch that would open a transaction must have been **verified**: the coordinator said, after
the last marker of that producer, that the partition belongs to its transaction (KIP-890). Else a batch that
was delayed for longer than its transaction lived would open one that nobody ever ends. A `Verification` is
made before the coordinator is asked and forgotten with each marker; one that is not current any more when
the answer comes proves nothing. It also remembers the lowest sequence that asked, so that of several first
batches a later one is not taken for the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from struct import Struct

import msgspec

from streamkit.broker.log.producers import NO_TRANSACTION, ProducerEntry, Table

INDEX_VERSION = 0
_ROW = Struct(">hqqqq")


class AbortedTransaction(msgspec.Struct, frozen=True, gc=False):
    """One that was aborted by the marker at `last_offset`."""

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int


class Verification(msgspec.Struct, gc=False):
    """That the coordinator is asked about one producer's transaction, and whether it agreed."""

    epoch: int
    lowest_sequence: int
    is_granted: bool = False


class LogTransactions:
    """Invariant: `ongoing` is what the entries of the producers say, oldest transaction first."""

    __slots__ = ("_ended", "ongoing", "verifications")

    def __init__(self, producers: Table) -> None:
        starts = [
            (entry.transaction_start, producer_id)
            for producer_id, entry in producers.items()
            if entry.transaction_start != NO_TRANSACTION
        ]
        self.ongoing: dict[int, int] = {producer_id: start for start, producer_id in sorted(starts)}
        """Producer → the first offset of its open transaction."""
        self.verifications: dict[int, Verification] = {}
        self._ended: list[tuple[int, int]] = []
        """(offset of the marker, first offset) of transactions whose marker may not be committed yet."""

    # -- what is appended

    def opened(self, producer_id: int, entry: ProducerEntry) -> None:
        """A transactional batch was appended."""
        self.ongoing.setdefault(producer_id, entry.transaction_start)
        self.verifications.pop(producer_id, None)

    def ended(self, producer_id: int, marker_offset: int, *, aborted: bool) -> AbortedTransaction | None:
        """A marker was appended; what the index has to remember of it."""
        self.verifications.pop(producer_id, None)
        first_offset = self.ongoing.pop(producer_id, None)
        if first_offset is None:
            return None
        self._ended.append((marker_offset, first_offset))
        if not aborted:
            return None
        stable = min(next(iter(self.ongoing.values()), marker_offset + 1), marker_offset + 1)
        return AbortedTransaction(producer_id, first_offset, marker_offset, stable)

    # -- what readers see

    def last_stable_offset(self, high_watermark: int) -> int:
        stable = min(next(iter(self.ongoing.values()), high_watermark), high_watermark)
        for marker_offset, first_offset in self._ended:
            if marker_offset >= high_watermark:
                stable = min(stable, first_offset)
        return stable

    def committed(self, high_watermark: int) -> bool:
        """The high watermark moved; whether the end of a transaction came below it."""
        if not self._ended:
            return False
        before = len(self._ended)
        self._ended = [one for one in self._ended if one[0] >= high_watermark]
        return len(self._ended) < before

    # -- verification

    def verify(self, producer_id: int, epoch: int, sequence: int) -> Verification:
        """Before the coordinator is asked whether this producer may open a transaction here."""
        known = self.verifications.get(producer_id)
        if known is None or known.epoch < epoch:
            known = self.verifications[producer_id] = Verification(epoch, sequence)
        elif known.epoch == epoch:
            known.lowest_sequence = min(known.lowest_sequence, sequence)
        return known

    def grant(self, producer_id: int, epoch: int, verification: Verification) -> bool:
        """The coordinator agreed; False if that came too late."""
        if self.verifications.get(producer_id) is not verification or verification.epoch != epoch:
            return False
        verification.is_granted = True
        return True

    def refuse(self, producer_id: int, verification: Verification) -> None:
        """The coordinator knows of no such transaction: nothing is remembered of whoever asked."""
        if self.verifications.get(producer_id) is verification:
            del self.verifications[producer_id]

    def needs_verification(self, entry: ProducerEntry | None, epoch: int) -> bool:
        return entry is None or not entry.has_open_transaction(epoch)


Verifications = Mapping[int, Verification]


def overlapping(
    segments: Iterable[Iterable[AbortedTransaction]], offset: int, end_offset: int
) -> Iterator[AbortedTransaction]:
    """The aborted transactions with records in [offset, end_offset), from the rows of the segments from the
    one with `offset` on.
    """
    for rows in segments:
        for row in rows:
            if row.last_offset >= offset and row.first_offset < end_offset:
                yield row
            if row.last_stable_offset >= end_offset:
                return


def encode_index(rows: Iterable[AbortedTransaction]) -> bytes:
    return b"".join(
        _ROW.pack(INDEX_VERSION, row.producer_id, row.first_offset, row.last_offset, row.last_stable_offset)
        for row in rows
    )


def decode_index(data: bytes) -> list[AbortedTransaction]:
    """The whole rows of an index file; what follows a row of a version that we do not know is left out."""
    rows: list[AbortedTransaction] = []
    for position in range(0, len(data) - _ROW.size + 1, _ROW.size):
        version, *fields = _ROW.unpack_from(data, position)
        if version != INDEX_VERSION:
            break
        rows.append(AbortedTransaction(*fields))
    return rows
