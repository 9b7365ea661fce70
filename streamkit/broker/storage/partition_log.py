"""One partition's log: segments on disk, written by one owner, read by many.

An append is decided by `log.append` and written with one call for everything that waits (a drain); whether
it is durable is told later, by `flushed_offset` and `on_flushed`. Reading is in `readable_log`.

Offsets, each exclusive, in this order at all times:

    log_start_offset ≤ recovery_point ≤ flushed_offset ≤ log_end_offset

`recovery_point` is what is really on the device; `flushed_offset` is what may be acknowledged (the same,
unless the flush mode is relaxed). `high_watermark` is the owner's to set.

A log goes offline when its directory fails or when bytes that were promised are damaged (`is_damaged`); from
then on appends are refused and reads raise `LogOfflineError`. Nothing is truncated.
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from streamkit.broker.config_key import LONG_MAX
from streamkit.broker.log.append import (
    AcceptedBatch,
    AppendResult,
    Origin,
    plan_append,
    refuse_all,
)
from streamkit.broker.log.checkpoint import encode_epochs
from streamkit.broker.log.cleanable import SegmentView
from streamkit.broker.log.epochs import LeaderEpochs
from streamkit.broker.log.index import OffsetIndex, TimeIndex
from streamkit.broker.log.manifest import CleanLog
from streamkit.broker.log.producers import ProducerEntry, encode_snapshot, expired
from streamkit.broker.log.recovery import (
    GAPS_ANYWHERE,
    NO_GAPS,
    Replay,
)
from streamkit.broker.log.replicated import plan_replicated
from streamkit.broker.log.retention import SegmentAge, expired_segments
from streamkit.broker.log.search import (
    Steps,
    check_entry,
    find_cut,
    header_at,
)
from streamkit.broker.log.segment import (
    CLEANED_SUFFIX,
    DELETED_SUFFIX,
    INDEX_SUFFIX,
    LOG_SUFFIX,
    SEGMENT_SUFFIXES,
    SNAPSHOT_SUFFIX,
    SWAP_SUFFIX,
    TIME_INDEX_SUFFIX,
    TRANSACTION_INDEX_SUFFIX,
    Segment,
    file_name,
)
from streamkit.broker.log.transactions import LogTransactions
from streamkit.broker.storage.errors import LogOfflineError, OffsetOutOfRangeError
from streamkit.broker.storage.flusher import FlushWork
from streamkit.broker.storage.identity import encode_uuid
from streamkit.broker.storage.readable_log import OUT_OF_FILES, LogShelf, ReadableLog, base_offset
from streamkit.broker.storage.rebuilding import (
    latest_snapshot,
    offsets_of,
    replay_segments,
    run_steps,
    segment_number,
)
from streamkit.broker.topic_config import TopicConfig
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.records.batch import NO_TIMESTAMP, Buffer
from streamkit.runtime.contracts.disk import DiskFile

T = TypeVar("T")

log_line = structlog.get_logger(__name__)

EPOCHS_FILE = "leader-epoch-checkpoint"
METADATA_FILE = "partition.metadata"


class PartitionLog(ReadableLog):
    __slots__ = (
        "_has_new_gap", "_new_names", "_replacements", "_truncating", "_unflushed_since_ms",
        "cleaned_offset", "epochs", "flushed_offset", "high_watermark", "on_flushed", "producers",
        "recovery_point", "transactions",
    )  # fmt: skip

    def __init__(
        self, shelf: LogShelf, path: str, *, topic: str, topic_id: bytes, partition: int, config: TopicConfig,
        segments: list[Segment], log_start_offset: int, log_end_offset: int, recovery_point: int,
        epochs: LeaderEpochs, producers: dict[int, ProducerEntry], high_watermark: int = 0,
        cleaned_offset: int = 0, offline_reason: str = "",
    ) -> None:  # fmt: skip
        super().__init__(
            shelf, path, topic=topic, topic_id=topic_id, partition=partition, config=config,
            segments=segments, log_start_offset=log_start_offset, log_end_offset=log_end_offset,
            offline_reason=offline_reason,
        )  # fmt: skip
        self.recovery_point = recovery_point
        self.flushed_offset = recovery_point if offline_reason else log_end_offset
        self.high_watermark = high_watermark
        self.cleaned_offset = min(cleaned_offset, log_end_offset)
        """Below it the log is compacted."""
        self.epochs = epochs
        self.producers = producers
        self.transactions = LogTransactions(producers)
        self.on_flushed: Callable[[], None] | None = None
        """Called on the loop after `flushed_offset` moved."""
        self._new_names: set[str] | None = None
        self._replacements: dict[str, bytes] | None = None
        self._unflushed_since_ms = -1
        self._has_new_gap = False
        self._truncating = False

    def __repr__(self) -> str:
        return f"PartitionLog({self.name}, [{self.log_start_offset}, {self.log_end_offset}))"

    @property
    def size_bytes(self) -> int:
        return sum(segment.size for segment in self.segments)

    # -- append

    def append(
        self, batches: Sequence[Buffer], *, leader_epoch: int, origin: Origin = Origin.CLIENT
    ) -> list[AppendResult]:
        """Write what is valid of a drain; one result for each batch, in order.

        Every appended batch (and every duplicate) is durable once `flushed_offset` > its `last_offset`.
        """
        if self.offline_reason:
            return refuse_all(len(batches), ErrorCode.KAFKA_STORAGE_ERROR, self.offline_reason)
        now_ms = self._shelf.clock.now_ms()
        plan = plan_append(
            batches, next_offset=self.log_end_offset, leader_epoch=leader_epoch, now_ms=now_ms,
            config=self.config, producers=self.producers, origin=origin,
            verifications=self.transactions.verifications,
        )  # fmt: skip
        if not plan.accepted:
            return plan.results
        try:
            self._write(plan.accepted, plan.size, leader_epoch, now_ms)
        except OSError as error:
            return self._without_unwritten(plan.results, error)
        finally:
            if self._dirty_files:
                self._flush_or_count_as_flushed(now_ms)
        return plan.results

    def begin_epoch(self, leader_epoch: int) -> None:
        """Whoever owns this log leads from here on, in this epoch; written down with the epoch's first batch.

        Until then a crash loses only what a leader that wrote nothing knew.
        """
        if leader_epoch > self.epochs.latest and self.epochs.assign(leader_epoch, self.log_end_offset):
            self._replace_later(EPOCHS_FILE, encode_epochs(self.epochs.entries))

    def append_replicated(self, batches: Sequence[Buffer]) -> None:
        """Write batches as the leader wrote them, offsets and epochs kept; each buffer is one batch.

        They are durable once `flushed_offset` has reached the log's end. All of them are checked before any
        is written: raises `CorruptBatchError`, or `LogOfflineError` if they cannot be written.
        """
        if self.offline_reason:
            raise LogOfflineError(self.offline_reason)
        is_empty = self.log_end_offset == self.log_start_offset
        runs = plan_replicated(
            batches, next_offset=self.log_end_offset, latest_epoch=self.epochs.latest,
            producers=self.producers, gaps_allowed=self._may_have_gaps, may_span_start=is_empty,
        )  # fmt: skip
        now_ms = self._shelf.clock.now_ms()
        try:
            if runs and runs[0].batches[0].base_offset < self.log_end_offset:
                self._begin_segments_at(runs[0].batches[0].base_offset, now_ms)
            for run in runs:
                self._has_new_gap |= run.has_gap
                self._write(run.batches, run.size, run.leader_epoch, now_ms)
        except OSError as error:
            raise LogOfflineError(self._write_failed(error)) from error
        finally:
            if self._dirty_files:
                self._flush_or_count_as_flushed(now_ms)

    @property
    def _may_have_gaps(self) -> bool:
        return self.config.is_compacted

    def _write(self, batches: list[AcceptedBatch], size: int, leader_epoch: int, now_ms: int) -> None:
        active = self._active_for_append()
        if leader_epoch != self.epochs.latest and self.epochs.assign(leader_epoch, batches[0].base_offset):
            self._replace_later(EPOCHS_FILE, encode_epochs(self.epochs.entries))
        if active.takes(batches, size, self.config, now_ms):
            self._write_run(active, batches)
            return
        for batch in batches:
            if active.must_roll(batch, self.config, now_ms):
                active = self._roll(now_ms)
            self._write_run(active, [batch])

    def _write_run(self, active: Segment, batches: list[AcceptedBatch]) -> None:
        path = self._file(active, LOG_SUFFIX)
        file = self._dirty_files.get(path)
        if file is None:
            file = self._shelf.files.get(path, create=not active.size)
            self._dirty_files[path] = file
        if not active.size:
            self._name_later(self.path)
        try:
            file.write([batch.data for batch in batches], active.size)
        except OSError:
            self._undo_write(file, active.size)
            raise
        interval = self.config.index_interval_bytes
        for batch in batches:
            active.note(batch.size, batch.last_offset, batch.max_timestamp, interval)
            if batch.producer is not None:
                self.producers[batch.producer_id] = batch.producer
                if batch.is_transactional:
                    self._note_transaction(active, batch)
        self.log_end_offset = batches[-1].last_offset + 1

    def _note_transaction(self, active: Segment, batch: AcceptedBatch) -> None:
        assert batch.producer is not None, "a transaction has a producer"
        if batch.marker is None:
            self.transactions.opened(batch.producer_id, batch.producer)
            return
        self._aborted_in(active)
        aborted = not batch.marker.committed
        active.note_aborted(self.transactions.ended(batch.producer_id, batch.last_offset, aborted=aborted))

    def _undo_write(self, file: DiskFile, size: int) -> None:
        """Cut off what a failed write left."""
        try:
            file.truncate(size)
        except OSError as error:
            self._shelf.flusher.fail(f"undoing a failed write to {file.path} failed: {error}")

    def _without_unwritten(self, results: list[AppendResult], error: OSError) -> list[AppendResult]:
        """The results after a write stopped short."""
        refused = AppendResult(ErrorCode.KAFKA_STORAGE_ERROR, message=self._write_failed(error))
        end = self.log_end_offset
        return [result if result.error or result.last_offset < end else refused for result in results]

    def _write_failed(self, error: OSError) -> str:
        """What to say of it; only a lack of space or files is not the disk's fault."""
        reason = f"writing to {self.name} failed: {error}"
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, *OUT_OF_FILES):
            self._shelf.flusher.fail(reason)
        return reason

    def _active_for_append(self) -> Segment:
        active = self.segments[-1]
        if active.indexes is None and not self._load_indexes(active):
            active.indexes = OffsetIndex(), TimeIndex()
        return active

    def _roll(self, now_ms: int) -> Segment:
        """Seal the active segment and begin the next one at the log's end."""
        sealed = self._active_for_append()
        self._save_indexes(sealed)
        self._shelf.indexes.touch(sealed)
        self._replace_later(file_name(self.log_end_offset, SNAPSHOT_SUFFIX), encode_snapshot(self.producers))
        active = Segment(self.log_end_offset, now_ms)
        path = self._file(active, LOG_SUFFIX)
        self._dirty_files[path] = self._shelf.files.get(path, create=True)
        self._name_later(self.path)
        self.segments.append(active)
        return active

    # -- flush

    def _flush_or_count_as_flushed(self, now_ms: int) -> None:
        flusher = self._shelf.flusher
        if not flusher.relaxed:
            flusher.dirty(self)
            return
        if self._unflushed_since_ms < 0:
            self._unflushed_since_ms = now_ms
        due = self.log_end_offset - self.recovery_point >= self.config.flush_messages
        if due or self._replacements:
            flusher.dirty(self)
        if not due:
            self.flushed_offset = self.log_end_offset

    def flush_if_due(self, now_ms: int) -> None:
        """Honour `flush.ms` in relaxed mode."""
        since = self._unflushed_since_ms
        if since >= 0 and now_ms - since >= self.config.flush_ms:
            self._shelf.flusher.dirty(self)

    def begin_flush(self) -> FlushWork:
        """What to make durable now; appends from here on belong to the next round."""
        if not self.recovery_point:
            self._replace_later(METADATA_FILE, partition_metadata(self.topic_id))
            self._name_later(os.path.dirname(self.path))
        end, active = self.log_end_offset, self.segments[-1]
        if self._new_names or self._replacements or self._has_new_gap:
            work = FlushWork(
                end_offset=end,
                files=tuple(self._dirty_files.values()),
                directories=tuple(self._new_names or ()),
                replacements=tuple((self._replacements or {}).items()),
                has_gap=self._has_new_gap,
            )
            self._has_new_gap = False
            self._new_names = self._replacements = None
        else:
            work = FlushWork(end_offset=end, files=tuple(self._dirty_files.values()))
        self._dirty_files = {}
        self._unflushed_since_ms = -1
        self._remember_position(end, active, active.size)
        return work

    def put_back(self, work: FlushWork) -> None:
        """The round was called off: what it was about to make durable is still to be."""
        for file in work.files:
            self._dirty_files.setdefault(file.path, file)
        for directory in work.directories:
            self._name_later(directory)
        self._replacements = {**dict(work.replacements), **(self._replacements or {})} or None

    def finish_flush(self, end_offset: int) -> None:
        self.recovery_point = max(self.recovery_point, end_offset)
        if end_offset > self.flushed_offset:
            self.flushed_offset = end_offset
            if self.on_flushed is not None:
                self.on_flushed()

    def _replace_later(self, name: str, data: bytes) -> None:
        if self._replacements is None:
            self._replacements = {}
        self._replacements[f"{self.path}/{name}"] = data

    def _name_later(self, directory: str) -> None:
        if self._new_names is None:
            self._new_names = set()
        self._new_names.add(directory)

    # -- deletion

    def delete_records(self, offset: int) -> int:
        """Begin the log at `offset`, at most the high watermark; the new log start offset."""
        if not 0 <= offset <= self.high_watermark:
            raise OffsetOutOfRangeError(
                f"records of {self.name} can be deleted up to {self.high_watermark}, not {offset}"
            )
        self._start_at(offset)
        if not self._truncating:  # else retention does that, at its next look
            self._delete_oldest(self._count_before(self.log_start_offset))
        return self.log_start_offset

    def follow_log_start(self, leaders_start: int) -> None:
        """What the leader's log no longer has is not kept here either, as far as it is committed."""
        offset = min(leaders_start, self.high_watermark)
        if offset > self.log_start_offset:
            self.delete_records(offset)

    async def apply_retention(self) -> int:
        """Delete what retention no longer keeps; how many segments that were."""
        if self.offline_reason or self._truncating:
            return 0
        now_ms = self._shelf.clock.now_ms()
        segments = self.segments
        ages = []
        for segment in list(segments):
            newest = await self._newest_timestamp(segment) if self.config.retention_ms >= 0 else -1
            ages.append(
                SegmentAge(segment.size, newest if newest >= 0 else segment.created_ms, self._end_of(segment))
            )
        count = expired_segments(
            ages, now_ms=now_ms, log_start_offset=self.log_start_offset, high_watermark=self.high_watermark,
            config=self.config,
        )  # fmt: skip
        if segments is not self.segments or self._truncating:
            return 0  # others deleted meanwhile; the next look sees what is left
        if count == len(segments):
            # the new active segment must be durable before its past goes: that goes at the next look
            self._roll(now_ms)
            self._shelf.flusher.dirty(self)
            return 0
        if count:
            self._start_at(segments[count].base_offset)
            self._delete_oldest(count)
        return count

    def expire_producers(self) -> None:
        """Forget producers that have been silent for `producer.id.expiration.ms`."""
        now_ms = self._shelf.clock.now_ms()
        for producer_id in expired(self.producers, now_ms, self._shelf.producer_id_expiration_ms):
            del self.producers[producer_id]

    def _start_at(self, offset: int) -> None:
        if offset > self.log_start_offset:
            self.log_start_offset = offset
            self._shelf.flusher.moves += 1
            if self.epochs.truncate_start(offset):
                self._replace_later(EPOCHS_FILE, encode_epochs(self.epochs.entries))
                self._shelf.flusher.dirty(self)

    def _count_before(self, offset: int) -> int:
        """How many segments lie wholly before `offset`; the active one stays."""
        return sum(1 for segment in self.segments[:-1] if self._end_of(segment) <= offset)

    def _delete_oldest(self, count: int) -> None:
        removed = []
        for segment in self.segments[:count]:
            for suffix in SEGMENT_SUFFIXES:
                path = self._file(segment, suffix)
                self._forget_file(path)
                self._shelf.disk.move(path, path + DELETED_SUFFIX)
                removed.append(path + DELETED_SUFFIX)
            self._shelf.indexes.forget(segment)
        if count:
            self._shelf.remove_later(removed)
            self.segments = self.segments[count:]
            self._cursors = None

    def _remove_files(self, segment: Segment) -> None:
        for suffix in SEGMENT_SUFFIXES:
            self._remove_file(segment, suffix)
        self._shelf.indexes.forget(segment)

    def _remove_file(self, segment: Segment, suffix: str) -> None:
        path = self._file(segment, suffix)
        self._forget_file(path)
        self._shelf.disk.remove(path)

    def _forget_file(self, path: str) -> None:
        """What has this name from here on is another file, or none."""
        self._shelf.files.forget(path)
        self._dirty_files.pop(path, None)
        if self._replacements:
            self._replacements.pop(path, None)

    # -- compaction

    @property
    def stable_offset(self) -> int:
        """Everything below it is durable, committed and decided: only that is compacted."""
        return min(self.transactions.last_stable_offset(self.high_watermark), self.recovery_point)

    @property
    def truncations(self) -> int:
        """How often the log was cut; what was read of it before may be gone."""
        return self._truncations

    def open_segment(self, segment: Segment) -> DiskFile:
        return self._open(segment)

    async def sealed_segments(self) -> list[SegmentView]:
        """All but the active one, as the choice of what to compact sees them."""
        views = []
        wants_newest = self.config.min_compaction_lag_ms > 0
        wants_first = self.config.max_compaction_lag_ms < LONG_MAX
        for segment in self.segments[:-1]:
            newest = await self._newest_timestamp(segment) if wants_newest else NO_TIMESTAMP
            if wants_first and segment.first_timestamp == NO_TIMESTAMP and segment.size:
                header = await run_steps(self._open(segment), header_at(0, segment.size))
                segment.first_timestamp = header.max_timestamp
            views.append(
                SegmentView(
                    base_offset=segment.base_offset, end_offset=self._end_of(segment), size=segment.size,
                    first_timestamp=segment.first_timestamp, newest_timestamp=newest,
                )
            )  # fmt: skip
        return views

    async def replace_segments(self, old: Sequence[Segment], cleaned: Segment) -> bool:
        """Put a segment, whose files with the suffix `.cleaned` are durable, in the place of neighbours.

        False if these are not the log's any more; `OSError` if they cannot be opened. Readers that are in
        one of them finish undisturbed. A crash leaves the old or the new: first the new names are durable as
        `.swap`, which the next start finishes, then the old ones are out of the way, then the new take
        their place.
        """
        async with self._shelf.flusher.between_rounds:
            if self.offline_reason or not self._has(old):
                return False
            self._keep_readable(old)
            self._truncating = True
            try:
                await self._swap(old, cleaned)
            except OSError as error:
                self._shelf.flusher.fail(f"replacing segments of {self.name} failed: {error}")
                return False
            finally:
                self._truncating = False
            return True

    def _has(self, segments: Sequence[Segment]) -> bool:
        """Whether these are sealed segments of this log, side by side."""
        first = bisect_right(self.segments, segments[0].base_offset, key=base_offset) - 1
        found = self.segments[max(first, 0) :][: len(segments)]
        return self.segments[-1] not in found and found == list(segments)

    def _keep_readable(self, segments: Sequence[Segment]) -> None:
        """Hold all that readers of these segments need once their files have other names."""
        files = [self._open(segment) for segment in segments]
        for segment, file in zip(segments, files, strict=True):
            self._aborted_in(segment)
            self._indexed(segment)
            self._shelf.indexes.forget(segment)
            segment.replaced_file = file

    async def _swap(self, old: Sequence[Segment], cleaned: Segment) -> None:
        disk = self._shelf.disk
        names = [self._file(cleaned, suffix) for suffix in SEGMENT_SUFFIXES if suffix != SNAPSHOT_SUFFIX]
        replaced = [
            self._file(segment, suffix)
            for segment in old
            for suffix in SEGMENT_SUFFIXES
            if segment is not old[0] or suffix not in (LOG_SUFFIX, SNAPSHOT_SUFFIX)
        ]
        deleted = [name + DELETED_SUFFIX for name in replaced]
        await disk.rename_all([(name + CLEANED_SUFFIX, name + SWAP_SUFFIX) for name in names])
        for name in (*replaced, *names):
            self._forget_file(name)
        await disk.rename_all(list(zip(replaced, deleted, strict=True)))
        await disk.rename_all([(name + SWAP_SUFFIX, name) for name in names])
        for name in (*replaced, *names):
            self._forget_file(name)
        first = self.segments.index(old[0])
        self.segments = [*self.segments[:first], cleaned, *self.segments[first + len(old) :]]
        self._cursors = None
        self._shelf.indexes.touch(cleaned)
        self._shelf.remove_later(deleted)

    # -- truncation: for a follower or an observer, whose owner appends nothing meanwhile

    async def truncate_to(self, offset: int) -> None:
        """Remove the batch that holds `offset` and all that follow, durably; a batch is never cut in two.

        Nobody is promised what goes: the recovery point is lowered, durably, before any of it does. What
        the log knows of epochs and producers is then what the remaining batches say. An `offset` at or
        behind the end removes nothing; one before the log's start leaves an empty log that starts there.
        Raises `LogOfflineError`.
        """
        if offset < self.log_start_offset:
            await self.restart_at(offset)
            return
        await self._alone(lambda: self._truncate(offset))

    async def restart_at(self, offset: int) -> None:
        """Remove everything, durably, and begin again as an empty log that starts at `offset`."""
        await self._alone(lambda: self._restart(offset))

    async def _alone(self, change: Callable[[], Awaitable[None]]) -> None:
        """Change the log while no flush round and no retention looks at it.

        A change that is cancelled half-way leaves a log that only the next start's recovery understands.
        """
        async with self._shelf.flusher.between_rounds:
            if self.offline_reason:
                raise LogOfflineError(self.offline_reason)
            self._truncating = True
            try:
                await change()
            except OSError as error:
                reason = f"truncating {self.name} failed: {error}"
                self._shelf.flusher.fail(reason)
                raise LogOfflineError(reason) from error
            except BaseException:
                self.offline_reason = self.offline_reason or f"truncating {self.name} was interrupted"
                raise
            finally:
                self._truncating = False

    async def _truncate(self, offset: int) -> None:
        if offset >= self.log_end_offset:
            self._forget_epochs_from(self.log_end_offset)
            return
        number = bisect_right(self.segments, offset, key=base_offset) - 1
        shortened = self.segments[number]
        position, end_offset = await self._search(shortened, lambda s: self._cut_steps(s, offset))
        removed = self.segments[number + 1 :]
        self._shelf.indexes.forget(shortened)
        cut = Segment(shortened.base_offset, shortened.created_ms, size=position)
        await self._lower_end(end_offset, [*self.segments[:number], cut])
        await self._remove_newest_first(removed)
        file = self._shelf.files.get(self._file(cut, LOG_SUFFIX), create=True)
        file.truncate(position)
        self._remove_file(cut, INDEX_SUFFIX)
        self._remove_file(cut, TIME_INDEX_SUFFIX)
        snapshots = offsets_of(self._shelf.disk.entries(self.path), SNAPSHOT_SUFFIX)
        for later in snapshots[bisect_right(snapshots, end_offset) :]:
            self._shelf.disk.remove(f"{self.path}/{file_name(later, SNAPSHOT_SUFFIX)}")
        await self._shelf.disk.flush([file], [self.path])
        await self._rebuild(snapshots)

    def _cut_steps(self, segment: Segment, offset: int) -> Steps[tuple[int, int]]:
        assert segment.indexes is not None, "indexes are loaded before a search"
        entry = segment.indexes[0].entry_before(offset - 1 - segment.base_offset)
        start = yield from check_entry(entry, segment.base_offset)
        return (yield from find_cut(start, segment.size, offset, segment.base_offset))

    async def _lower_end(self, end_offset: int, segments: list[Segment]) -> None:
        """The log ends at `end_offset` for everybody from here on, and durably promises no more."""
        self._truncations += 1
        self._cursors = None
        self.segments = segments
        self.log_end_offset = end_offset
        self.flushed_offset = min(self.flushed_offset, end_offset)
        self.recovery_point = min(self.recovery_point, end_offset)
        self.high_watermark = min(self.high_watermark, end_offset)
        self.cleaned_offset = min(self.cleaned_offset, end_offset)
        self._forget_epochs_from(end_offset)
        self._shelf.flusher.moves += 1
        await self._shelf.checkpoint()
        if self.offline_reason:
            raise LogOfflineError(self.offline_reason)

    def _forget_epochs_from(self, end_offset: int) -> None:
        """Also an epoch that began at the log's end and in which nothing was written."""
        if self.epochs.truncate_end(end_offset):
            self._replace_later(EPOCHS_FILE, encode_epochs(self.epochs.entries))
            self._shelf.flusher.dirty(self)

    async def _remove_newest_first(self, segments: list[Segment]) -> None:
        """One by one, each durably gone before the next: a crash between two leaves no hole."""
        for segment in reversed(segments):
            self._remove_files(segment)
            await self._shelf.disk.flush([], [self.path])

    async def _rebuild(self, snapshots: list[int]) -> None:
        """Producers, and the last segment's indexes, from the newest snapshot and what follows it."""
        segments = list(self.segments)
        bases = [segment.base_offset for segment in segments]
        snapshot, producers = latest_snapshot(
            self._shelf.disk, self.path, snapshots, lowest=bases[0], highest=self.log_end_offset
        )
        first = segment_number(bases, snapshot)
        epochs = LeaderEpochs(self.epochs.entries)
        epochs.truncate_end(bases[first])
        replay = Replay(
            next_offset=bases[first], epochs=epochs, producers=producers, producers_from=snapshot,
            gaps_below=GAPS_ANYWHERE if self._may_have_gaps else NO_GAPS,
            index_interval_bytes=self.config.index_interval_bytes,
        )  # fmt: skip
        damage = await replay_segments(self._shelf.disk, self.path, segments, first, replay)
        if damage is not None:
            self.found_damaged(f"{self.name} is damaged at offset {damage.offset}: {damage.reason}")
            raise LogOfflineError(self.offline_reason)
        assert replay.next_offset == self.log_end_offset, "the cut was made between two batches"
        self.producers = producers
        self.transactions = LogTransactions(producers)
        self.segments = segments
        if not segments[-1].aborted:
            self._remove_file(segments[-1], TRANSACTION_INDEX_SUFFIX)

    async def _restart(self, offset: int) -> None:
        now_ms = self._shelf.clock.now_ms()
        removed, start = self.segments, self.log_start_offset
        await self._lower_end(start, [Segment(start, now_ms)])
        await self._remove_newest_first(removed)
        self.segments = [Segment(offset, now_ms)]
        self.log_start_offset = self.log_end_offset = offset
        self.flushed_offset = self.recovery_point = self.high_watermark = offset
        self.epochs = LeaderEpochs()
        self.producers = {}
        self.transactions = LogTransactions({})
        self._replace_later(EPOCHS_FILE, encode_epochs(()))
        self._replace_later(METADATA_FILE, partition_metadata(self.topic_id))
        self._name_later(os.path.dirname(self.path))
        self._shelf.flusher.dirty(self)
        self._shelf.flusher.moves += 1
        await self._shelf.checkpoint()

    def _begin_segments_at(self, base_offset: int, now_ms: int) -> None:
        """An empty log's only segment begins with the batch that holds the log's start."""
        for segment in self.segments:
            self._remove_files(segment)
        self.segments = [Segment(base_offset, now_ms)]

    # -- closing

    def save_for_restart(self) -> list[tuple[str, bytes]]:
        """Write the indexes; the files that a clean restart reads, to be made durable by the caller."""
        if self.segments[-1].indexes is not None and self.segments[-1].size:
            self._save_indexes(self.segments[-1])
        replacements = list((self._replacements or {}).items()) if self.log_end_offset else []
        if self.producers:
            name = file_name(self.log_end_offset, SNAPSHOT_SUFFIX)
            replacements.append((f"{self.path}/{name}", encode_snapshot(self.producers)))
        return replacements

    def describe(self) -> CleanLog:
        """The log's line in the manifest of a clean stop."""
        active = self.segments[-1]
        return CleanLog(
            topic=self.topic, partition=self.partition, topic_id=self.topic_id,
            log_start_offset=self.log_start_offset, log_end_offset=self.log_end_offset,
            active_base=active.base_offset, active_size=active.size, first_timestamp=active.first_timestamp,
            max_timestamp=-1 if active.max_timestamp is None else active.max_timestamp,
            max_timestamp_offset=active.max_timestamp_offset, producers=len(self.producers),
            epochs=self.epochs.entries,
        )  # fmt: skip

    def adopt_recovery(self) -> None:
        """Bring the files of what recovery made anew up to date with the next flush."""
        self._replace_later(EPOCHS_FILE, encode_epochs(self.epochs.entries))
        for segment in self.segments[:-1]:
            if segment.indexes is not None:
                self._save_indexes(segment)
                self._shelf.indexes.touch(segment)

    def let_go(self) -> None:
        """Stop for good: the log's files are being deleted."""
        self.offline_reason = f"{self.name} is deleted"
        self._dirty_files = {}
        self._shelf.flusher.forget(self)
        for segment in self.segments:
            self._shelf.files.forget(self._file(segment, LOG_SUFFIX))
            self._shelf.indexes.forget(segment)


def partition_metadata(topic_id: bytes) -> bytes:
    """Kafka's `partition.metadata`: which topic this directory belongs to."""
    return f"version: 0\ntopic_id: {encode_uuid(topic_id)}\n".encode()
