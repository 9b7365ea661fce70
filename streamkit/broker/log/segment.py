"""One segment of a log: a file of batches, named after its first offset, with two sparse indexes.

Kept here is what a segment knows of itself; files are opened elsewhere. The last segment of a log is the
active one: it alone grows, and it is rolled (sealed, and a new one begun) before a batch that would
overfill it.
"""

from __future__ import annotations

from streamkit.broker.log.append import AcceptedBatch
from streamkit.broker.log.index import OFFSET_ENTRY_SIZE, TIME_ENTRY_SIZE, OffsetIndex, TimeIndex
from streamkit.broker.log.transactions import AbortedTransaction
from streamkit.broker.topic_config import TopicConfig
from streamkit.protocol.records.batch import NO_TIMESTAMP
from streamkit.runtime.contracts.disk import DiskFile

LOG_SUFFIX = ".log"
INDEX_SUFFIX = ".index"
TIME_INDEX_SUFFIX = ".timeindex"
SNAPSHOT_SUFFIX = ".snapshot"
TRANSACTION_INDEX_SUFFIX = ".txnindex"
SEGMENT_SUFFIXES = (
    LOG_SUFFIX,
    INDEX_SUFFIX,
    TIME_INDEX_SUFFIX,
    TRANSACTION_INDEX_SUFFIX,
    SNAPSHOT_SUFFIX,
)
"""Of all files that go with a segment."""
CLEANED_SUFFIX = ".cleaned"
"""Behind the suffix of a file that compaction is writing: dropped at the next start."""
SWAP_SUFFIX = ".swap"
"""… that is whole and about to take the place of others: the next start finishes that."""
DELETED_SUFFIX = ".deleted"
"""… that is not part of the log any more and about to be removed."""
MAX_RELATIVE_OFFSET = 0x7FFFFFFF


def file_name(offset: int, suffix: str) -> str:
    return f"{offset:020d}{suffix}"


class Segment:
    """Invariants: indexes, if loaded, describe batches below `size`; `max_timestamp` is None until it is
    known (a segment found on disk), -1 if no record has a timestamp."""

    __slots__ = (
        "aborted", "base_offset", "bytes_since_index", "created_ms", "first_timestamp", "indexes",
        "is_checked", "max_timestamp", "max_timestamp_offset", "replaced_file", "size", "unindexed",
    )  # fmt: skip

    def __init__(self, base_offset: int, created_ms: int, *, size: int = 0) -> None:
        self.base_offset = base_offset
        self.created_ms = created_ms
        self.size = size
        self.first_timestamp = NO_TIMESTAMP
        """Newest timestamp of the first batch: the age of a segment counts from there."""
        self.max_timestamp: int | None = None if size else NO_TIMESTAMP
        self.max_timestamp_offset = base_offset
        self.indexes: tuple[OffsetIndex, TimeIndex] | None = None if size else (OffsetIndex(), TimeIndex())
        self.unindexed = False
        """Its index files were missing or damaged: rebuild them before searching."""
        self.bytes_since_index = 0
        self.is_checked = True
        """False for one that was found on disk, until its checksums are known to be right."""
        self.aborted: list[AbortedTransaction] | None = None if size else []
        """The transactions that a marker in this segment aborted; None until they are read from disk."""
        self.replaced_file: DiskFile | None = None
        """Once compaction put another segment in its place: where those who still hold this one read on."""

    def note(self, size: int, last_offset: int, max_timestamp: int, index_interval_bytes: int) -> None:
        """Account for a batch that was written at the end."""
        assert self.indexes is not None, "indexes are loaded before a segment grows"
        if not self.size:
            self.first_timestamp = max_timestamp
        if self.max_timestamp is None or max_timestamp > self.max_timestamp:
            self.max_timestamp = max_timestamp
            self.max_timestamp_offset = last_offset
        if self.bytes_since_index > index_interval_bytes:
            offsets, times = self.indexes
            offsets.append(last_offset - self.base_offset, self.size)
            times.append(self.max_timestamp, self.max_timestamp_offset - self.base_offset)
            self.bytes_since_index = 0
        self.size += size
        self.bytes_since_index += size

    def note_aborted(self, aborted: AbortedTransaction | None) -> None:
        """Account for a marker that was written at the end."""
        assert self.aborted is not None, "the index of aborted transactions is loaded before it grows"
        if aborted is not None:
            self.aborted.append(aborted)

    def seal(self) -> None:
        """Close the time index with the newest timestamp, so that it can be read back from there."""
        if self.indexes is not None and self.max_timestamp is not None:
            self.indexes[1].append(self.max_timestamp, self.max_timestamp_offset - self.base_offset)

    def take_indexes(self, fresh: Segment) -> None:
        """Adopt indexes made anew for the first `fresh.size` bytes; what was noted since is kept."""
        assert fresh.indexes is not None and fresh.max_timestamp is not None
        offsets, times = fresh.indexes
        if self.indexes is not None:
            later_offsets, later_times = self.indexes
            for relative_offset, position in zip(later_offsets.offsets, later_offsets.positions, strict=True):
                if position >= fresh.size:
                    offsets.append(relative_offset, position)
            for timestamp, relative_offset in zip(later_times.timestamps, later_times.offsets, strict=True):
                times.append(timestamp, relative_offset)
        self.indexes = offsets, times
        self.unindexed = False
        if self.max_timestamp is None or fresh.max_timestamp >= self.max_timestamp:
            self.max_timestamp, self.max_timestamp_offset = fresh.max_timestamp, fresh.max_timestamp_offset

    def max_timestamp_from_index(self) -> None:
        """A sealed segment's time index ends with its newest timestamp; an empty one tells nothing."""
        if self.indexes is not None and len(self.indexes[1]):
            times = self.indexes[1]
            self.max_timestamp = times.timestamps[-1]
            self.max_timestamp_offset = self.base_offset + times.offsets[-1]

    def must_roll(self, batch: AcceptedBatch, config: TopicConfig, now_ms: int) -> bool:
        """Whether `batch` belongs into a new segment: size, offset range, full index, or age."""
        if not self.size:
            return False
        if self.size + batch.size > config.segment_bytes:
            return True
        if batch.last_offset - self.base_offset > MAX_RELATIVE_OFFSET:
            return True
        return self._index_is_full(config.segment_index_bytes) or self._is_old(batch, config, now_ms)

    def takes(self, batches: list[AcceptedBatch], size: int, config: TopicConfig, now_ms: int) -> bool:
        """Whether all of `batches`, `size` bytes, surely fit: one look for a whole drain, the common case."""
        last = batches[-1]
        return (
            self.size + size <= config.segment_bytes
            and last.last_offset - self.base_offset <= MAX_RELATIVE_OFFSET
            and not self._index_is_full(config.segment_index_bytes, room=len(batches))
            and not (self.size and self._is_old(last, config, now_ms))
        )

    def _index_is_full(self, segment_index_bytes: int, room: int = 0) -> bool:
        if self.indexes is None:
            return False
        offsets, times = self.indexes
        return (
            len(offsets) + room >= segment_index_bytes // OFFSET_ENTRY_SIZE
            or len(times) + room >= segment_index_bytes // TIME_ENTRY_SIZE - 1
        )

    def _is_old(self, batch: AcceptedBatch, config: TopicConfig, now_ms: int) -> bool:
        if self.first_timestamp >= 0 and batch.max_timestamp >= 0:
            return batch.max_timestamp - self.first_timestamp > _longest_ms(config)
        return now_ms - self.created_ms > _longest_ms(config)


def _longest_ms(config: TopicConfig) -> int:
    """Age at which a segment is closed: while it is active it is not compacted."""
    if config.is_compacted:
        return min(config.segment_ms, config.max_compaction_lag_ms)
    return config.segment_ms
