"""What to trust of a log after a crash.

Every batch from the recovery point on is checked: length, checksum, offsets that continue, epochs that
never decrease. The first one that fails ends what is known to be good, and where it lies says what it is:

    at or above the durable point   a torn tail: bytes nobody was promised; truncate there
    below the durable point         corruption: promised bytes are gone; truncate nothing, go offline

The durable point is the higher of the checkpointed recovery point and high watermark: both are written only
after an fsync, at most a second old. The same walk rebuilds what is derived: indexes, epochs, producers.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from streamkit.broker.log.epochs import LeaderEpochs
from streamkit.broker.log.producers import ProducerEntry, follow
from streamkit.broker.log.search import Steps, header_at
from streamkit.broker.log.segment import Segment
from streamkit.broker.log.transactions import LogTransactions
from streamkit.protocol.records.batch import (
    ATTRIBUTES_AT,
    CONTROL_BIT,
    HEADER,
    HEADER_SIZE,
    LENGTH_END,
    MAGIC,
    NO_PRODUCER_ID,
    NO_TIMESTAMP,
    BatchHeader,
    Buffer,
    CorruptBatchError,
    batch_size,
    check_batch,
    parse_header,
)
from streamkit.protocol.records.crc import crc32c

SCAN_BYTES = 1 << 20
NO_GAPS = 0
GAPS_ANYWHERE = 1 << 63


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """The first bytes that are no valid continuation: where, which offset was due there, and why."""

    segment_base: int
    position: int
    offset: int
    reason: str


class Verdict(Enum):
    TORN_TAIL = "torn tail"
    CORRUPTION = "corruption"


def classify(damage: Damage, durable_offset: int) -> Verdict:
    return Verdict.TORN_TAIL if damage.offset >= durable_offset else Verdict.CORRUPTION


class Replay:
    """What the walk over a log's batches gathers, segment after segment."""

    def __init__(
        self, *, next_offset: int, epochs: LeaderEpochs, producers: dict[int, ProducerEntry],
        producers_from: int, gaps_below: int, index_interval_bytes: int,
    ) -> None:  # fmt: skip
        self.next_offset = next_offset
        self.epochs = epochs
        self.producers = producers
        self.transactions = LogTransactions(producers)
        self.producers_from = producers_from
        """Offset of the snapshot that `producers` came from: what lies below is in it."""
        self._gaps_below = gaps_below
        """Compaction leaves holes, and only in what is durable; any other hole is bytes that went missing."""
        self._index_interval_bytes = index_interval_bytes

    def segment(self, segment: Segment, file_size: int) -> Steps[Damage | None]:
        """Walk one segment's file; afterwards `segment` describes the valid part of it."""
        position, problem = 0, self._gap(segment.base_offset)
        while position < file_size and not problem:
            left = file_size - position
            chunk = yield position, min(SCAN_BYTES, left)
            if len(chunk) >= HEADER_SIZE and len(chunk) < batch_size(chunk) <= left:
                chunk = yield position, batch_size(chunk)
            walked, problem = self._chunk(segment, bytes(chunk))
            position += walked
            if not walked and not problem:
                problem = f"{left} bytes are too few for a record batch"
            yield position, 0
        if not problem:
            return None
        return Damage(
            segment_base=segment.base_offset, position=position, offset=self.next_offset, reason=problem
        )

    def _chunk(self, segment: Segment, chunk: bytes) -> tuple[int, str]:
        """(bytes of valid batches, problem) of a chunk that begins at a batch; its last may be cut off."""
        view, at = memoryview(chunk), 0
        while len(chunk) - (at := self._plain(segment, chunk, at)) >= HEADER_SIZE:
            size = batch_size(chunk, at)
            if at and size > len(chunk) - at:
                break
            problem = self._batch(segment, view[at:])
            if problem:
                return at, problem
            at += size
        return at, ""

    def _plain(self, segment: Segment, chunk: bytes, at: int) -> int:
        """Walk on over whole valid batches of records that continue offset and epoch exactly.

        Where the first other one begins, whatever it is. A log has one batch like that after the other:
        nothing is made of them that need not be, and nothing called.
        """
        next_offset, epoch, size = self.next_offset, self.epochs.latest, len(chunk)
        note, interval = segment.note, self._index_interval_bytes
        while at + HEADER_SIZE <= size:
            (
                base_offset, length, leader_epoch, magic, crc, attributes, last_offset_delta, _,
                max_timestamp, producer_id, _, _, count,
            ) = HEADER.unpack_from(chunk, at)  # fmt: skip
            end = at + LENGTH_END + length
            if (
                base_offset != next_offset
                or not at + HEADER_SIZE <= end <= size
                or leader_epoch != epoch
                or magic != MAGIC
                or last_offset_delta < 0
                or attributes & CONTROL_BIT
                or crc32c(chunk[at + ATTRIBUTES_AT : end]) != crc
            ):
                break
            last_offset = base_offset + last_offset_delta
            note(end - at, last_offset, max_timestamp if count else NO_TIMESTAMP, interval)
            if producer_id != NO_PRODUCER_ID and last_offset >= self.producers_from:
                self._note_producer(segment, parse_header(chunk, at), chunk)
            next_offset = last_offset + 1
            at = end
        self.next_offset = next_offset
        return at

    def _batch(self, segment: Segment, view: memoryview) -> str:
        try:
            header = check_batch(view)
        except CorruptBatchError as error:
            return error.message
        if header.last_offset_delta < 0:
            return f"the batch at offset {header.base_offset} ends before it begins"
        if (problem := self._gap(header.base_offset)) or (problem := self._epoch(header)):
            return problem
        try:
            self._note(segment, header, view)
        except CorruptBatchError as error:
            return error.message
        return ""

    def _gap(self, offset: int) -> str:
        if offset == self.next_offset or self.next_offset < offset <= self._gaps_below:
            return ""
        return f"offset {offset} follows where {self.next_offset} was expected"

    def _epoch(self, header: BatchHeader) -> str:
        if header.leader_epoch >= self.epochs.latest or header.leader_epoch < 0:
            return ""
        return f"leader epoch {header.leader_epoch} follows epoch {self.epochs.latest}"

    def _note(self, segment: Segment, header: BatchHeader, view: memoryview) -> None:
        last_offset = header.last_offset
        if header.producer_id != NO_PRODUCER_ID and last_offset >= self.producers_from:
            self._note_producer(segment, header, view)
        segment.note(header.size, last_offset, header.newest_timestamp, self._index_interval_bytes)
        self.epochs.assign(header.leader_epoch, header.base_offset)
        self.next_offset = last_offset + 1

    def _note_producer(self, segment: Segment, header: BatchHeader, batch: Buffer) -> None:
        producer_id, last_offset = header.producer_id, header.last_offset
        known = self.producers.get(producer_id)
        entry, marker = follow(known, header, batch, last_offset, header.max_timestamp)
        if entry is None:
            return
        self.producers[producer_id] = entry
        if marker is not None:
            aborted = self.transactions.ended(producer_id, last_offset, aborted=not marker.committed)
            segment.note_aborted(aborted)
        elif header.is_transactional:
            self.transactions.opened(producer_id, entry)


def check_chunk(position: int, size: int, next_offset: int) -> Steps[tuple[int, int]]:
    """Check the batches in about SCAN_BYTES from `position` on, of a segment of this size.

    (position, offset) from where to go on; raises `CorruptBatchError`.
    """
    chunk = yield position, min(SCAN_BYTES, size - position)
    if len(chunk) >= HEADER_SIZE and len(chunk) < batch_size(chunk) <= size - position:
        chunk = yield position, batch_size(chunk)
    view, at = memoryview(chunk), 0
    while at == 0 or (len(view) - at >= HEADER_SIZE and batch_size(view, at) <= len(view) - at):
        header = check_batch(view[at:])
        if header.base_offset < next_offset:
            raise CorruptBatchError(f"offset {header.base_offset} follows where {next_offset} was expected")
        at += header.size
        next_offset = header.next_offset
    return position + at, next_offset


def check_batches(data: Buffer) -> None:
    """Raises `CorruptBatchError` unless these whole batches have the right checksums."""
    view, at = memoryview(data), 0
    while at < len(view):
        at += check_batch(view[at:]).size


def rebuild_indexes(segment: Segment, index_interval_bytes: int) -> Steps[Segment]:
    """A segment like this one, up to its present size, with indexes made anew from its batches' headers."""
    fresh = Segment(segment.base_offset, segment.created_ms)
    position = 0
    while position < segment.size:
        header = yield from header_at(position, segment.size)
        fresh.note(header.size, header.last_offset, header.newest_timestamp, index_interval_bytes)
        position += header.size
    return fresh
