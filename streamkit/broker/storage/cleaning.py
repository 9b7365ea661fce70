"""One cleaning of one log: the rules of `log.compaction` over its files.

The new segments are written beside the old ones, made durable, and only then put in their place, the oldest
first. Whatever ends a cleaning early (a truncation, a deletion, a stop, a crash) leaves the log with some
new segments and some old, both of which say the same of every key; only a cleaning that went through moves
the offset from which the next one begins.

All of it runs on the event loop, a few milliseconds at a time.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Protocol, TypeVar

from streamkit.broker.log.cleanable import CleanableLog, merged
from streamkit.broker.log.compaction import (
    RECORDS_PER_SLICE,
    AbortedRanges,
    Compaction,
    CompactionRules,
    NewestRecords,
    Work,
)
from streamkit.broker.log.segment import (
    CLEANED_SUFFIX,
    INDEX_SUFFIX,
    LOG_SUFFIX,
    TIME_INDEX_SUFFIX,
    TRANSACTION_INDEX_SUFFIX,
    Segment,
    file_name,
)
from streamkit.broker.log.transactions import encode_index
from streamkit.broker.storage.partition_log import PartitionLog
from streamkit.errors import StreamkitError
from streamkit.protocol.records.batch import (
    HEADER_SIZE,
    BatchHeader,
    Buffer,
    CorruptBatchError,
    batch_size,
    check_batch,
    parse_header,
)
from streamkit.runtime.contracts.disk import Disk, DiskFile

T = TypeVar("T")

READ_BYTES = 256 << 10
BYTES_PER_SLICE = 512 << 10
BATCH_COST_RECORDS = 10
"""Looking at a batch takes as long as opening so many records."""


class CleaningAbortedError(StreamkitError):
    """The log changed under the cleaning, or is gone."""


class Pace(Protocol):
    """How fast a cleaning may go."""

    async def spent(self, bytes_moved: int) -> None:
        """Let others run; wait, if so many bytes since the last call were too many."""
        ...


class Cleaning:
    def __init__(
        self, disk: Disk, log: PartitionLog, part: CleanableLog, *, pace: Pace, buffer_bytes: int, now_ms: int
    ) -> None:
        self._disk = disk
        self._log = log
        self._pace = pace
        self._segments = log.segments[: part.segments]
        self._end_of_segments = part.end_offset
        self._truncations = log.truncations
        self._newest = NewestRecords(part.dirty_start, buffer_bytes)
        self._aborted = AbortedRanges(log.aborted_transactions(log.segments[0].base_offset, part.end_offset))
        self._rules = CompactionRules(now_ms=now_ms, delete_retention_ms=log.config.delete_retention_ms)
        self._bytes = 0
        self._records = 0

    async def run(self) -> int:
        """Clean as much as the buffer has room for; the offset where the next cleaning begins.

        Raises `CleaningAbortedError`, `CorruptBatchError`, `OSError`.
        """
        is_whole = await self._note_dirty()
        compaction = Compaction(self._newest, self._aborted, self._log.producers, self._rules)
        if is_whole:
            touched, end_offset = self._segments, self._end_of_segments
        else:
            touched = [s for s in self._segments if s.base_offset < self._newest.end_offset]
            end_offset = self._following(touched[-1])
        for group in merged(touched, end_offset, self._log.config):
            await self._replace(group, compaction)
        return end_offset if is_whole else self._newest.end_offset

    # -- the first pass

    async def _note_dirty(self) -> bool:
        """Whether the buffer had room for all of it."""
        for segment in self._segments:
            if self._following(segment) <= self._newest.start_offset:
                continue
            async with aclosing(self._batches(segment)) as batches:
                async for header, batch in batches:
                    if header.last_offset < self._newest.start_offset:
                        continue
                    if not self._newest.has_room(header):
                        return False
                    if header.is_control or self._aborted.holds(header):
                        self._newest.skip(header)
                    else:
                        await self._work(self._newest.note(header, batch))
        return True

    def _following(self, segment: Segment) -> int:
        number = self._segments.index(segment) + 1
        return self._segments[number].base_offset if number < len(self._segments) else self._end_of_segments

    # -- the second pass

    async def _replace(self, group: Sequence[Segment], compaction: Compaction) -> None:
        cleaned = Segment(group[0].base_offset, group[-1].created_ms)
        path = f"{self._log.path}/{file_name(cleaned.base_offset, LOG_SUFFIX)}{CLEANED_SUFFIX}"
        compaction.aborted_rows = []
        try:
            file = self._new_file(path)
            await self._copy(group, compaction, cleaned, file)
            files = [file, *self._write_indexes(cleaned, compaction)]
            await self._disk.flush(files, [self._log.path])
            self._require_unchanged()
            if not await self._log.replace_segments(group, cleaned):
                raise CleaningAbortedError(f"the segments of {self._log.name} changed under their cleaning")
        except OSError as error:
            self._require_unchanged()
            raise error
        finally:
            for suffix in (LOG_SUFFIX, INDEX_SUFFIX, TIME_INDEX_SUFFIX, TRANSACTION_INDEX_SUFFIX):
                self._drop(f"{self._log.path}/{file_name(cleaned.base_offset, suffix)}{CLEANED_SUFFIX}")

    async def _copy(
        self, group: Sequence[Segment], compaction: Compaction, cleaned: Segment, file: DiskFile
    ) -> None:
        interval = self._log.config.index_interval_bytes
        pending: list[Buffer] = []
        position = 0
        last = [segment for segment in group if segment.size][-1:]
        for segment in group:
            end = segment.size if segment in last else -1
            async with aclosing(self._batches(segment)) as batches:
                at = 0
                async for header, batch in batches:
                    at += header.size
                    kept = await self._work(compaction.keep(header, batch, is_last=at == end))
                    if kept is None:
                        continue
                    newest = parse_header(kept).newest_timestamp
                    cleaned.note(len(kept), header.last_offset, newest, interval)
                    pending.append(bytes(kept))  # a view would keep all that was read with it
                    self._bytes += len(kept)
                    if cleaned.size - position >= READ_BYTES:
                        file.write(pending, position)
                        pending, position = [], cleaned.size
        if pending:
            file.write(pending, position)

    def _write_indexes(self, cleaned: Segment, compaction: Compaction) -> list[DiskFile]:
        cleaned.seal()
        cleaned.aborted = compaction.aborted_rows
        assert cleaned.indexes is not None, "a segment that was just written has its indexes"
        offsets, times = cleaned.indexes
        contents = {INDEX_SUFFIX: offsets.unsaved()[1], TIME_INDEX_SUFFIX: times.unsaved()[1]}
        if cleaned.aborted:
            contents[TRANSACTION_INDEX_SUFFIX] = encode_index(cleaned.aborted)
        files = []
        for suffix, data in contents.items():
            name = file_name(cleaned.base_offset, suffix)
            file = self._new_file(f"{self._log.path}/{name}{CLEANED_SUFFIX}")
            file.write([data], 0)
            files.append(file)
        return files

    def _new_file(self, path: str) -> DiskFile:
        file = self._disk.open(path, create=True)
        file.truncate(0)
        return file

    def _drop(self, path: str) -> None:
        """Of a log that was deleted meanwhile there is nothing to drop."""
        try:
            self._disk.remove(path)
        except OSError:
            self._require_unchanged()

    # -- reading, in slices

    async def _batches(self, segment: Segment) -> AsyncGenerator[tuple[BatchHeader, memoryview], None]:
        """Every batch of a segment, checked; raises `CorruptBatchError`."""
        file = self._log.open_segment(segment)
        position = 0
        while position < segment.size:
            chunk = memoryview(await self._read(file, position, min(READ_BYTES, segment.size - position)))
            if len(chunk) >= HEADER_SIZE and len(chunk) < batch_size(chunk) <= segment.size - position:
                chunk = memoryview(await self._read(file, position, batch_size(chunk)))
            at = 0
            while len(chunk) - at >= HEADER_SIZE and (not at or batch_size(chunk, at) <= len(chunk) - at):
                header = check_batch(chunk, at)
                yield header, chunk[at : at + header.size]
                at += header.size
                self._records += BATCH_COST_RECORDS
                await self._pause_if_due()
            if not at:
                raise CorruptBatchError(
                    f"{self._log.name} has no whole batch at byte {position} of {file.path}"
                )
            position += at

    async def _read(self, file: DiskFile, position: int, size: int) -> Buffer:
        self._bytes += size
        data = file.read_nowait(position, size)
        return data if data is not None else await file.read(position, size)

    async def _work(self, work: Work[T]) -> T:
        try:
            while True:
                next(work)
                self._records += RECORDS_PER_SLICE
                await self._pause_if_due()
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    async def _pause_if_due(self) -> None:
        if self._records >= RECORDS_PER_SLICE or self._bytes >= BYTES_PER_SLICE:
            moved, self._bytes, self._records = self._bytes, 0, 0
            await self._pace.spent(moved)
            self._require_unchanged()

    def _require_unchanged(self) -> None:
        log = self._log
        if log.offline_reason or log.truncations != self._truncations or not log.config.is_compacted:
            raise CleaningAbortedError(f"{log.name} changed under its cleaning")
