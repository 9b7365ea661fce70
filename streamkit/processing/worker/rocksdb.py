"""A store on disk: what a restart finds again, and what may be larger than memory.

    {state directory}/{app}/slot-{n}/lock                       held by the process of that slot
                                    /{store}/{partition}/       one RocksDB

One batch for each commit carries the changes and the changelog position that they reach, so the database is
always at a commit: after a crash it lacks what the changelog has beyond that position, and nothing else.
Batches are not synced. A lost tail of RocksDB's own log leaves it at an earlier commit, which is as good.

An index (`state.store.Index`) is a column family of its own in the same database. A store that was written
without it, by a version that knew none, is rebuilt.

A store that nobody wrote for long is rebuilt, too: what was deleted meanwhile may have left no trace in a
changelog that is compacted, so reading on from the position would bring it back.

Everything here can be had from the changelog. So a database that cannot be read is thrown away and rebuilt;
one that turns out damaged while it is read is marked, and its worker ends before it commits anything.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import structlog
from rocksdict import (
    BlockBasedOptions,
    Cache,
    DbClosedError,
    MemtableFactory,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)

from streamkit.errors import RefusedError
from streamkit.processing.state.store import Change, DamagedStoreError, Index
from streamkit.runtime.contracts.clock import Clock
from streamkit.runtime.os.clock import SystemClock

MEMORY_BYTES = 256 << 20  # for all stores of a process: blocks, and changes that are not yet in files
BUFFERS_SHARE = 2  # of it at most one part in so many is for changes
BUFFER_BYTES = 8 << 20  # of changes, for each store
BUFFERS = 4  # full ones wait for the disk before a write does
SLOW_FILES, MOST_FILES = 40, 60  # unsorted ones: writes are slowed down, and stopped, late
SYNC_BYTES = 1 << 20  # handed to the disk as it comes, so that no write pays for a backlog
READ_BYTES = 256 << 10  # ahead, of each of the many files that are sorted into one another
LOADING_BUFFER_BYTES = 32 << 20  # the same as BUFFER_BYTES while a store is loaded
LOADING_FILES = 20  # unsorted ones, before they are sorted into one another while a store is loaded
BLOCK_BYTES = 4096
BLOOM_BITS = 10
LOG_FILES = 2
POSITION = b"\x00position"
WRITTEN = b"\x00written"  # when, in ms
INDEXED = b"\x00indexed"  # the index's version, and the position at which it was written
STALE_MS = (
    12 * 3_600_000
)  # half of Kafka's delete.retention.ms: a tombstone may be gone a day after its write
ENTRY = b"\x01"  # before each key
INDEX = "index"
NOT_DAMAGE = ("lock", "No space", "Permission denied", "Too many open files")
SLOT = "slot-"
DAMAGED = "damaged"  # a file beside the database
DISK_HINT = "look whether its disk is full, or choose another --state-dir"

LOADING_WRITE = WriteOptions()
LOADING_WRITE.disable_wal = True  # type: ignore[method-assign,assignment] # its stub takes it for a method

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
        self._is_loading = False
        self._index: Index | None = None
        self._names: Rdict | None = None  # the index's, once there is one
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
        found = self._range(self._db, ENTRY + start, None if end is None else ENTRY + end, limit)
        return [(key[1:], value) for key, value in found]

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

    def keep_index(self, index: Index) -> None:
        self._index = index
        if self.position and self._db.get(INDEXED) != _mark(index, self.position):
            log.warning("store lacks its index, rebuilding", path=str(self._path), position=self.position)
            self.clear()
        else:
            self._open_names()
            index.load(self)

    def find(self, start: bytes, end: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        assert self._names is not None
        return self._range(self._names, start, end, limit)

    def write(self, changes: Iterable[Change], position: int) -> None:
        batch = WriteBatch(raw_mode=True)
        if self._index is not None:
            changes = self._indexed(batch, self._index, dict(changes), position)
        put = batch.put
        for key, value in changes:
            if value is None:
                batch.delete(ENTRY + key)
            else:
                put(ENTRY + key, value)
        put(POSITION, b"%d" % position)
        put(WRITTEN, b"%d" % self._clock.now_ms())
        self._db.write(batch, LOADING_WRITE if self._is_loading else None)
        self.position = position

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Entries are appended as they come, without a log of RocksDB's own, and sorted in the background
        when they go to a file. A crash leaves what the files have, which is at a position. The database is
        opened anew for that, and once more to be read.
        """
        self.close()
        self._is_loading = True
        try:
            self._open_again()
            yield
        finally:
            self.close()
            self._is_loading = False
            self._open_again()

    def clear(self) -> None:
        self.close()
        mark = self._mark_damaged()  # a crash in the midst of this leaves half a database
        shutil.rmtree(self._path)
        mark.unlink()
        self._db = _database(self._path, self._options_of_now())
        self.position = 0
        if self._index is not None:
            self._open_names()
            self._index.load(self)

    def close(self) -> None:
        if self._is_loading:
            with suppress(DbClosedError):
                # What no log has goes to files, of all families at once: closing them would do one by one.
                self._db.cancel_all_background(True)
        names, self._names = self._names, None
        try:
            if names is not None:
                self._shut(names)
        finally:
            self._shut(self._db)

    def __len__(self) -> int:
        """About: RocksDB counts overwritten entries until it compacts them."""
        return int(self._db.property_int_value("rocksdb.estimate-num-keys") or 0)

    def _shut(self, db: Rdict) -> None:
        try:
            db.close()
        except DbClosedError:
            pass
        except Exception:  # that it can flush no more, or what `_open_again` will find
            if not self._is_loading:
                raise

    def _open_again(self) -> None:
        """The database, as it was closed just now. RocksDB does not say what it could not write then."""
        try:
            self._db = _database(self._path, self._options_of_now())
            held = int(self._db.get(POSITION) or 0)
            if held == self.position and self._index is not None:
                self._open_names()
        except Exception as error:  # rocksdict raises nothing more specific
            raise RefusedError(f"the store {self._path} cannot be opened: {error}", hint=DISK_HINT) from None
        if held != self.position:
            self.close()
            raise RefusedError(
                f"the store {self._path} could not be written: its files end at {held}, not {self.position}",
                hint=DISK_HINT,
            )

    def _options_of_now(self) -> Options:
        return self._loading_options if self._is_loading else self._options

    def _open_names(self) -> None:
        if self._names is not None:
            return
        if INDEX in Rdict.list_cf(str(self._path)):
            self._names = self._db.get_column_family(INDEX)
        else:
            self._names = self._db.create_column_family(INDEX, self._options_of_now())

    def _indexed(
        self, batch: WriteBatch, index: Index, entries: dict[bytes, bytes | None], position: int
    ) -> Iterable[Change]:
        """The entries, with what follows from them for the index in the batch already."""
        names = self._db.get_column_family_handle(INDEX)
        for name, value in index.changes(entries, None if self._is_loading else self.get_many):
            if value is None:
                batch.delete(name, names)
            else:
                batch.put(name, value, names)
        batch.put(INDEXED, _mark(index, position))
        return entries.items()

    def _range(self, db: Rdict, start: bytes, end: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        bounds = ReadOptions()
        if end is not None:
            bounds.set_iterate_upper_bound(end)
        try:
            found: list[tuple[Any, Any]] = list(islice(db.items(from_key=start, read_opt=bounds), limit))
        except Exception as error:
            raise self._damaged(error) from error
        return found

    def _damaged(self, error: Exception) -> DamagedStoreError:
        self.damaged = True
        self._mark_damaged()
        return DamagedStoreError(f"{self._path} cannot be read: {error}")

    def _mark_damaged(self) -> Path:
        mark = self._path.parent / f"{self._path.name}.{DAMAGED}"
        mark.touch()
        return mark


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
        return _database(path, options)
    except Exception as error:  # rocksdict raises nothing more specific
        if any(words in str(error) for words in NOT_DAMAGE):
            raise RefusedError(
                f"the store {path} cannot be opened: {error}", hint="choose another --state-dir"
            ) from None
        log.warning("store cannot be opened, rebuilding", path=str(path), error=str(error))
        shutil.rmtree(path, ignore_errors=True)
        return _database(path, options)


def _database(path: Path, options: Options) -> Rdict:
    """Each family is given its options: one that is not named would be opened with those of its last time."""
    known = Rdict.list_cf(str(path)) if (path / "CURRENT").exists() else []
    return Rdict(str(path), options=options, column_families=dict.fromkeys(known, options) or None)


def _mark(index: Index, position: int) -> bytes:
    return f"{index.version} {position}".encode()


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
    options.set_level_zero_file_num_compaction_trigger(LOADING_FILES)
    options.set_atomic_flush(True)  # the families together: no log says what one lacks
    return options
