"""A partition's log as those see it who read: whole batches, timestamps, aborted transactions.

A read takes whole batches out of one segment, at once if the page cache has them, else through `read_cold`.
Indexes are loaded when they are first needed, and made anew when they mislead.

What a segment holds is believed once its checksums have been looked at: when it was written here, by
recovery, by `check_segments`, and until then by every read that gives some of it out.
"""

from __future__ import annotations

import errno
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

import msgspec
import structlog

from streamkit.broker.log.index import OffsetIndex, TimeIndex
from streamkit.broker.log.recovery import (
    check_batches,
    check_chunk,
    rebuild_indexes,
)
from streamkit.broker.log.search import (
    Found,
    Steps,
    TimestampedOffset,
    check_entry,
    find_batch,
    find_timestamp,
    read_batches,
)
from streamkit.broker.log.segment import (
    INDEX_SUFFIX,
    LOG_SUFFIX,
    TIME_INDEX_SUFFIX,
    TRANSACTION_INDEX_SUFFIX,
    Segment,
)
from streamkit.broker.log.transactions import AbortedTransaction, encode_index, overlapping
from streamkit.broker.storage.caches import FileCache, IndexCache
from streamkit.broker.storage.errors import LogOfflineError, OffsetOutOfRangeError
from streamkit.broker.storage.flusher import Flusher
from streamkit.broker.storage.rebuilding import (
    read_aborted,
    run_steps,
)
from streamkit.broker.topic_config import TopicConfig
from streamkit.protocol.records.batch import CorruptBatchError
from streamkit.runtime.contracts.clock import Clock
from streamkit.runtime.contracts.disk import Disk, DiskFile

T = TypeVar("T")

log_line = structlog.get_logger(__name__)

NO_INDEX_BELOW_BYTES = 64 << 10
"""A segment this small is searched from its start; it needs no index file."""
CURSORS = 8
OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)
_EMPTY = memoryview(b"")


class LogShelf(msgspec.Struct, kw_only=True):
    """What all logs of one directory share."""

    disk: Disk
    clock: Clock
    flusher: Flusher
    files: FileCache
    indexes: IndexCache
    producer_id_expiration_ms: int
    remove_later: Callable[[Sequence[str]], None]
    """Remove files in the background; a start removes what was left."""
    checkpoint: Callable[[], Awaitable[None]]
    """Write down recovery points, log starts and high watermarks as they are now, durably."""


class ReadableLog:
    """What reading needs of a log, and nothing that writes records; `PartitionLog` is the rest."""

    __slots__ = (
        "_cursors", "_dirty_files", "_shelf", "_truncations", "config", "is_damaged", "log_end_offset",
        "log_start_offset", "offline_reason", "partition", "path", "segments", "topic", "topic_id",
    )  # fmt: skip

    def __init__(
        self, shelf: LogShelf, path: str, *, topic: str, topic_id: bytes, partition: int, config: TopicConfig,
        segments: list[Segment], log_start_offset: int, log_end_offset: int, offline_reason: str,
    ) -> None:  # fmt: skip
        self._shelf = shelf
        self.path = path
        self.topic = topic
        self.topic_id = topic_id
        self.partition = partition
        self.config = config
        self.segments = segments
        """Never empty; the last is the active one."""
        self.log_start_offset = log_start_offset
        self.log_end_offset = log_end_offset
        self.offline_reason = offline_reason
        self.is_damaged = False
        """Offline because of what its own files hold: nothing but a copy from elsewhere repairs it."""
        self._dirty_files: dict[str, DiskFile] = {}
        """Written, and to be made durable with the next flush."""
        self._cursors: dict[int, tuple[Segment, int]] | None = None
        """Where a few offsets are known to begin: the next reads of consumers that follow the log."""
        self._truncations = 0

    @property
    def name(self) -> str:
        return f"{self.topic}-{self.partition}"

    def found_damaged(self, reason: str) -> None:
        """Go offline for good, on account of what the log's files hold."""
        if not self.offline_reason:
            self.offline_reason = reason
            self.is_damaged = True

    # -- read

    def read(
        self, offset: int, *, max_bytes: int, end_offset: int, at_least_one: bool = True
    ) -> memoryview | None:
        """Whole batches from the one that contains `offset`, all below `end_offset`; None if it would wait.

        At most `max_bytes`, unless that is less than the first batch and `at_least_one` holds. Empty at the
        end, or if nothing fits. Batches come from one segment: a shorter answer does not mean the end.
        Raises `OffsetOutOfRangeError`, `LogOfflineError`.
        """
        for segment in self._segments_between(offset, end_offset):
            if segment.unindexed or not self._indexed(segment):
                return None
            steps = self._read_steps(segment, offset, max_bytes, end_offset, at_least_one)
            try:
                found = run_now(self._open(segment), steps)
            except (_WouldWaitError, CorruptBatchError, OSError):
                return None  # `read_cold` waits, or finds out what is wrong
            if found is not None:
                return self._found(segment, found, end_offset)
        return _EMPTY

    async def read_cold(
        self, offset: int, *, max_bytes: int, end_offset: int, at_least_one: bool = True
    ) -> memoryview:
        """As `read`, waiting for the device where it must."""
        try:
            for segment in self._segments_between(offset, end_offset):
                found = await self._search(
                    segment, lambda s: self._read_steps(s, offset, max_bytes, end_offset, at_least_one)
                )
                if found is not None:
                    return self._found(segment, found, end_offset)
        except TruncatedError:
            pass
        return _EMPTY

    def aborted_transactions(self, offset: int, end_offset: int) -> Iterator[AbortedTransaction]:
        """Those with records in [offset, end_offset)."""
        first = max(bisect_right(self.segments, offset, key=base_offset) - 1, 0)
        rows = (self._aborted_in(segment) for segment in self.segments[first:])
        return overlapping(rows, offset, end_offset)

    def _aborted_in(self, segment: Segment) -> list[AbortedTransaction]:
        if segment.aborted is None:
            segment.aborted = read_aborted(self._shelf.disk, self.path, segment.base_offset)
        return segment.aborted

    async def find_by_timestamp(self, timestamp: int) -> TimestampedOffset | None:
        """The first record not older than `timestamp`; None if there is none."""
        try:
            for segment in list(self.segments):
                if await self._newest_timestamp(segment) >= timestamp:
                    found = await self._search(segment, lambda s: self._timestamp_steps(s, timestamp))
                    if found is not None:
                        return found
        except TruncatedError:
            pass
        return None

    async def max_timestamp(self) -> TimestampedOffset | None:
        """The first record with the newest timestamp; None if no record has one."""
        newest = -1
        where = None
        for segment in list(self.segments):
            timestamp = await self._newest_timestamp(segment)
            if timestamp > newest:
                newest, where = timestamp, segment
        if where is None:
            return None
        try:
            return await self._search(where, lambda s: self._timestamp_steps(s, newest))
        except TruncatedError:
            return None

    def _segments_between(self, offset: int, end_offset: int) -> list[Segment]:
        """The segments that may hold [offset, end_offset), after both were judged."""
        if self.offline_reason:
            raise LogOfflineError(self.offline_reason)
        if not self.log_start_offset <= offset <= self.log_end_offset:
            raise OffsetOutOfRangeError(
                f"{self.name} holds {self.log_start_offset} to {self.log_end_offset}, not {offset}"
            )
        segments = self.segments
        if offset >= end_offset or offset == self.log_end_offset:
            return []
        if offset >= segments[-1].base_offset:
            return segments[-1:]
        first = bisect_right(segments, offset, key=base_offset) - 1
        return [segment for segment in segments[max(first, 0) :] if segment.base_offset < end_offset]

    def _read_steps(
        self, segment: Segment, offset: int, max_bytes: int, end_offset: int, at_least_one: bool
    ) -> Steps[Found | None]:
        end = yield from self._end_position(segment, end_offset)
        known = self._cursors.get(offset) if self._cursors else None
        if known is not None and known[0] is segment:
            start, slack = known[1], 0
        else:
            start = yield from self._start_position(segment, offset)
            slack = self.config.index_interval_bytes
        if start >= end:
            return None
        found = yield from read_batches(
            start,
            end,
            offset,
            max_bytes=max_bytes,
            at_least_one=at_least_one,
            slack=slack,
            segment=segment,
        )
        if found is not None and not segment.is_checked:
            check_batches(found.data)
        return found

    def _start_position(self, segment: Segment, offset: int) -> Steps[int]:
        """A batch boundary from which a search for `offset` may begin."""
        assert segment.indexes is not None, "indexes are loaded before a search"
        entry = segment.indexes[0].entry_before(offset - segment.base_offset)
        return (yield from check_entry(entry, segment.base_offset))

    def _end_position(self, segment: Segment, end_offset: int) -> Steps[int]:
        """Where the batches below `end_offset` end in this segment."""
        if end_offset >= self.log_end_offset or end_offset >= self._end_of(segment):
            return segment.size
        known = self._cursors.get(end_offset) if self._cursors else None
        if known is not None and known[0] is segment:
            return known[1]
        start = yield from self._start_position(segment, end_offset)
        return (yield from find_batch(start, segment.size, end_offset))

    def _timestamp_steps(self, segment: Segment, timestamp: int) -> Steps[TimestampedOffset | None]:
        assert segment.indexes is not None, "indexes are loaded before a search"
        offset = segment.base_offset + segment.indexes[1].offset_before(timestamp)
        start = yield from self._start_position(segment, offset)
        return (yield from find_timestamp(start, segment.size, timestamp, self.log_start_offset))

    def _found(self, segment: Segment, found: Found, end_offset: int) -> memoryview:
        next_offset = found.next_offset
        if next_offset < 0:
            next_offset = min(end_offset, self._end_of(segment))
        self._remember_position(next_offset, segment, found.end_position)
        return found.data

    def _remember_position(self, offset: int, segment: Segment, position: int) -> None:
        if self._cursors is None:
            self._cursors = {}
        self._cursors[offset] = segment, position
        if len(self._cursors) > CURSORS:
            del self._cursors[next(iter(self._cursors))]

    def _end_of(self, segment: Segment) -> int:
        """The offset behind the segment's last record, or where the next one begins."""
        following = bisect_right(self.segments, segment.base_offset, key=base_offset)
        return self.segments[following].base_offset if following < len(self.segments) else self.log_end_offset

    async def _search(self, segment: Segment, steps: Callable[[Segment], Steps[T]]) -> T:
        """Run steps on a segment with sound indexes; an index that misleads is rebuilt once.

        Raises `TruncatedError` if the segment changed under the search, `LogOfflineError` if it is damaged.
        """
        truncations = self._truncations
        try:
            file = self._open(segment)
            if not segment.unindexed and self._indexed(segment):
                try:
                    return await run_steps(file, steps(segment))
                except CorruptBatchError:
                    pass  # the index may have led to the wrong place
            await self._rebuild_indexes(segment, file)
            return await run_steps(file, steps(segment))
        except (CorruptBatchError, OSError) as error:
            if self._truncations != truncations:
                raise TruncatedError from error
            if isinstance(error, OSError) and error.errno in OUT_OF_FILES:
                raise LogOfflineError(f"{self.name} cannot be opened now: {error}") from error
            self.found_damaged(f"{self.name} cannot be read at {segment.base_offset}: {error}")
            raise LogOfflineError(self.offline_reason) from error

    async def check_segments(self, pause: Callable[[], Awaitable[None]]) -> None:
        """Look at the checksums of what was found on disk; damage takes the log offline.

        `pause` is awaited after each mebibyte or so.
        """
        for segment in list(self.segments):
            if not (segment.is_checked or self.offline_reason):
                await self._check_segment(segment, pause)

    async def _check_segment(self, segment: Segment, pause: Callable[[], Awaitable[None]]) -> None:
        truncations, size = self._truncations, segment.size
        position, offset = 0, segment.base_offset
        try:
            while position < size and segment in self.segments and self._truncations == truncations:
                steps = check_chunk(position, size, offset)
                position, offset = await run_steps(self._open(segment), steps)
                await pause()
        except (CorruptBatchError, OSError) as error:
            if segment not in self.segments or self._truncations != truncations or self.offline_reason:
                return  # it was cut or deleted meanwhile
            if not (isinstance(error, OSError) and error.errno in OUT_OF_FILES):
                where = f"damaged at offset {offset} (segment {segment.base_offset}, byte {position})"
                self.found_damaged(f"{self.name} is {where}: {error}")
                log_line.error("log_offline", log=self.name, reason=self.offline_reason)
        else:
            segment.is_checked = position >= size

    # -- indexes

    def _indexed(self, segment: Segment) -> bool:
        """Whether the segment's indexes are loaded now; if not, they are to be rebuilt."""
        return segment.indexes is not None or self._load_indexes(segment)

    def _load_indexes(self, segment: Segment) -> bool:
        disk = self._shelf.disk
        try:
            offsets = OffsetIndex.parse(disk.read_file(self._file(segment, INDEX_SUFFIX)), segment.size)
            times = TimeIndex.parse(disk.read_file(self._file(segment, TIME_INDEX_SUFFIX)))
        except FileNotFoundError:
            small = segment.size <= NO_INDEX_BELOW_BYTES
            offsets, times = (OffsetIndex(), TimeIndex()) if small else (None, None)
        except OSError:
            offsets = times = None
        if offsets is None or times is None:
            segment.unindexed = True
            return False
        segment.indexes = offsets, times
        if segment is not self.segments[-1]:
            self._shelf.indexes.touch(segment)
        return True

    async def _rebuild_indexes(self, segment: Segment, file: DiskFile) -> None:
        truncations = self._truncations
        fresh = await run_steps(file, rebuild_indexes(segment, self.config.index_interval_bytes))
        segment.take_indexes(fresh)
        if self._truncations != truncations or segment.replaced_file is not None:
            return  # the segment may be one that the log does not have any more
        if segment is not self.segments[-1]:
            self._save_indexes(segment)
            self._shelf.indexes.touch(segment)

    def _save_indexes(self, segment: Segment) -> None:
        """Write the entries that the index files lack; they are made durable with the next flush."""
        segment.seal()
        if segment.aborted:
            path = self._file(segment, TRANSACTION_INDEX_SUFFIX)
            self._save_index(path, 0, encode_index(segment.aborted))
        if segment.indexes is None:
            return
        offsets, times = segment.indexes
        self._save_index(self._file(segment, INDEX_SUFFIX), *offsets.unsaved())
        self._save_index(self._file(segment, TIME_INDEX_SUFFIX), *times.unsaved())

    def _save_index(self, path: str, position: int, entries: bytes) -> None:
        file = self._shelf.disk.open(path, create=True)
        file.write([entries], position)
        file.truncate(position + len(entries))
        self._dirty_files[path] = file

    async def _newest_timestamp(self, segment: Segment) -> int:
        if segment.max_timestamp is None and self._indexed(segment):
            segment.max_timestamp_from_index()
        if segment.max_timestamp is None:
            await self._rebuild_indexes(segment, self._open(segment))
        assert segment.max_timestamp is not None, "an index made anew knows the newest timestamp"
        return segment.max_timestamp

    # -- files

    def _file(self, segment: Segment, suffix: str) -> str:
        return f"{self.path}/{segment.base_offset:020d}{suffix}"

    def _open(self, segment: Segment) -> DiskFile:
        if segment.replaced_file is not None:
            return segment.replaced_file
        return self._shelf.files.get(self._file(segment, LOG_SUFFIX))


class TruncatedError(Exception):
    """What a search was looking at has been cut off meanwhile."""


class _WouldWaitError(Exception):
    """The page cache does not have what a search asks for."""


def run_now(file: DiskFile, steps: Steps[T]) -> T:
    try:
        position, size = next(steps)
        while True:
            data = file.read_nowait(position, size)
            if data is None:
                raise _WouldWaitError
            position, size = steps.send(data)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


def base_offset(segment: Segment) -> int:
    return segment.base_offset
