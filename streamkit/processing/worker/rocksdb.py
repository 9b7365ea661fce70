"""A store on disk: what a restart finds again, and what may be larger than memory.

    {state directory}/{app}/slot-{n}/lock                       held by the process of that slot
                                    /{store}/{partition}/       one RocksDB

One batch for each commit carries the changes and the changelog position that they reach, so the database is
always at a commit: after a crash it lacks what the changelog has beyond that position, and nothing else.
Batches are not synced. A lost tail of RocksDB's own log leaves it at an earlier commit, which is as good.

A store that nobody wrote for long is rebuilt, too: what was deleted meanwhile may have left no trace in a
changelog that is compacted, so reading on from the position would bring it back.

Everything here can be had from the changelog. So a database that cannot be read is thrown away and rebuilt;
one that turns out damaged while it is read is marked, and its worker ends before it commits anything.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, cast

import structlog
from rocksdict import (
    BlockBasedOptions,
    Cache,
    MemtableFactory,
    Options,
    Rdict,
    WriteBatch,
    WriteBufferManager,
)

from streamkit.errors import RefusedError
from streamkit.processing.state.store import Change, DamagedStoreError
from streamkit.runtime.contracts.clock import Clock
from streamkit.runtime.os.clock import SystemClock

MEMORY_BYTES = 256 << 20  # for all stores of a process: blocks, and changes that are not yet in files
BUFFERS_SHARE = 2  # of it at most one part in so many is for changes
BUFFER_BYTES = 8 << 20  # of changes, for each store
BUFFERS = 4  # full ones wait for the disk before a write does
SLOW_FILES, MOST_FILES = 40, 60  # unsorted ones: writes are slowed down, and stopped, late
SYNC_BYTES = 1 << 20  # handed to the disk as it comes, so that no write pays for a backlog
READ_BYTES = 256 << 10  # ahead, of each of the many files that are sorted into one another
LOADING_BUFFER_BYTES = 32 << 20  # the same while a store is loaded
BLOCK_BYTES = 4096
BLOOM_BITS = 10
LOG_FILES = 2
POSITION = b"\x00position"
WRITTEN = b"\x00written"  # when, in ms
STALE_MS = (
    12 * 3_600_000
)  # half of Kafka's delete.retention.ms: a tombstone may be gone a day after its write
ENTRY = b"\x01"  # before each key
NOT_DAMAGE = ("lock", "No space", "Permission denied", "Too many open files")
SLOT = "slot-"
DAMAGED = "damaged"  # a file beside the database

log = structlog.get_logger("worker.state")


class RocksStore:
    """`Store` over one RocksDB."""

    spills = True

    def __init__(self, path: Path, options: Options, loading_options: Options, clock: Clock) -> None:
        self.damaged = False
        self._clock = clock
        self._path = path
        self._options = options
        self._loading_options = loading_options
        self._db = _opened(path, options)
        self.position = int(self._db.get(POSITION) or 0)
        if self.position and clock.now_ms() - int(self._db.get(WRITTEN) or 0) > STALE_MS:
            log.warning("store is old, rebuilding", path=str(path), position=self.position)
            self.clear()

    def get(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._db.get(ENTRY + key)
        except Exception as error:
            raise self._damaged(error) from error
        return value

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        try:
            values: Any = self._db.get([ENTRY + key for key in keys])
        except Exception as error:
            raise self._damaged(error) from error
        return cast(Sequence[bytes | None], values)

    def range(self, start: bytes, end: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        try:
            found: list[tuple[Any, Any]] = list(islice(self._db.items(from_key=ENTRY + start), limit))
        except Exception as error:
            raise self._damaged(error) from error
        entries = [(key[1:], value) for key, value in found]
        if end is None:
            return entries
        return entries[: bisect_left(entries, end, key=itemgetter(0))]

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        try:
            entries: Iterator[tuple[Any, Any]] = iter(self._db.items(from_key=ENTRY))
            for key, value in entries:
                yield key[1:], value
        except Exception as error:
            raise self._damaged(error) from error

    def scan(self, cursor: object, limit: int) -> tuple[list[tuple[bytes, bytes]], object]:
        start = cursor if isinstance(cursor, bytes) else ENTRY
        try:
            found: list[tuple[Any, Any]] = list(islice(self._db.items(from_key=start), limit + 1))
        except Exception as error:
            raise self._damaged(error) from error
        rest = found[limit][0] if len(found) > limit else None
        return [(key[1:], value) for key, value in found[:limit]], rest

    def write(self, changes: Iterable[Change], position: int) -> None:
        batch = WriteBatch(raw_mode=True)
        for key, value in changes:
            if value is None:
                batch.delete(ENTRY + key)
            else:
                batch.put(ENTRY + key, value)
        batch.put(POSITION, b"%d" % position)
        batch.put(WRITTEN, b"%d" % self._clock.now_ms())
        self._db.write(batch)
        self.position = position

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Entries are appended as they come, and sorted in the background when they go to a file: a third of
        the processor time. The database is opened anew for that, and once more to be read.
        """
        self._reopen(self._loading_options)
        try:
            yield
        finally:
            self._reopen(self._options)

    def clear(self) -> None:
        self._db.close()
        shutil.rmtree(self._path)
        self._db = Rdict(str(self._path), options=self._options)
        self.position = 0

    def close(self) -> None:
        self._db.close()

    def __len__(self) -> int:
        """About: RocksDB counts overwritten entries until it compacts them."""
        return int(self._db.property_int_value("rocksdb.estimate-num-keys") or 0)

    def _reopen(self, options: Options) -> None:
        self._db.close()
        self._db = Rdict(str(self._path), options=options)

    def _damaged(self, error: Exception) -> DamagedStoreError:
        self.damaged = True
        (self._path.parent / f"{self._path.name}.{DAMAGED}").touch()
        return DamagedStoreError(f"{self._path} cannot be read: {error}")


class StateDirectory:
    """The stores of one worker. Refuses a directory that another process is using.

    `memory_bytes`: what RocksDB may hold in memory for all of them together, about.
    """

    def __init__(
        self,
        root: Path,
        app: str,
        slot: int,
        clock: Clock | None = None,
        *,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self._clock = clock or SystemClock()
        self._path = root / app / f"{SLOT}{slot}"
        self._lock = locked(self._path, "give each worker its own: another --slot, or another --state-dir")
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()
        cache = Cache(memory_bytes)
        buffers = WriteBufferManager.new_write_buffer_manager_with_cache(
            memory_bytes // BUFFERS_SHARE, False, cache
        )
        self._options, self._loading_options = _options(cache, buffers), _loading_options(cache, buffers)

    def stores(self, names: Sequence[str], partition: int) -> Mapping[str, RocksStore]:
        """The stores of one task, opened."""
        return {
            name: RocksStore(
                self._path / name / str(partition), self._options, self._loading_options, self._clock
            )
            for name in names
        }

    def close(self) -> None:
        self._lock.close()


def slots(root: Path, app: str) -> list[Path]:
    """The directories that workers of the app have here."""
    return sorted((root / app).glob(f"{SLOT}*"))


def locked(slot: Path, hint: str = "stop it first") -> IO[str]:
    """The lock of a slot's directory, made if need be; close it to let go. Refuses if another holds it."""
    try:
        slot.mkdir(parents=True, exist_ok=True)
        lock = (slot / "lock").open("a+")
    except OSError as error:
        raise RefusedError(
            f"the state directory {slot} cannot be used: {error.strerror}",
            hint="choose another --state-dir",
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        owner = lock.read().strip() or "unknown"
        lock.close()
        raise RefusedError(
            f"the state directory {slot} is in use by another worker (pid {owner})", hint=hint
        ) from None
    return lock


def _opened(path: Path, options: Options) -> Rdict:
    """The database; a new one where it is missing, or damaged."""
    mark = path.parent / f"{path.name}.{DAMAGED}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if mark.exists():
        log.warning("store was damaged, rebuilding", path=str(path))
        shutil.rmtree(path, ignore_errors=True)
        mark.unlink()
    try:
        return Rdict(str(path), options=options)
    except Exception as error:  # rocksdict raises nothing more specific
        if any(words in str(error) for words in NOT_DAMAGE):
            raise RefusedError(
                f"the store {path} cannot be opened: {error}", hint="choose another --state-dir"
            ) from None
        log.warning("store cannot be opened, rebuilding", path=str(path), error=str(error))
        shutil.rmtree(path, ignore_errors=True)
        return Rdict(str(path), options=options)


def _options(cache: Cache, buffers: WriteBufferManager) -> Options:
    options, table = Options(raw_mode=True), BlockBasedOptions()
    table.set_block_cache(cache)
    table.set_block_size(BLOCK_BYTES)
    table.set_bloom_filter(BLOOM_BITS, block_based=False)
    table.set_cache_index_and_filter_blocks(True)  # else they grow beside the cache, with the table
    options.set_block_based_table_factory(table)
    options.set_write_buffer_size(BUFFER_BYTES)
    options.set_write_buffer_manager(buffers)
    options.set_compaction_readahead_size(READ_BYTES)
    options.set_max_write_buffer_number(BUFFERS)
    options.set_level_zero_slowdown_writes_trigger(SLOW_FILES)
    options.set_level_zero_stop_writes_trigger(MOST_FILES)
    options.set_bytes_per_sync(SYNC_BYTES)
    options.set_wal_bytes_per_sync(SYNC_BYTES)
    options.set_keep_log_file_num(LOG_FILES)
    options.create_if_missing(True)
    return options


def _loading_options(cache: Cache, buffers: WriteBufferManager) -> Options:
    """For `RocksStore.loading`."""
    options = _options(cache, buffers)
    options.set_memtable_factory(MemtableFactory.vector())
    options.set_allow_concurrent_memtable_write(False)  # which that one cannot
    options.set_write_buffer_size(LOADING_BUFFER_BYTES)
    return options
