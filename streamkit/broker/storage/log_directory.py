"""The data directory of one broker: whose it is, its logs, its checkpoints.

    .lock                              held (flock) as long as the broker runs
    meta.properties                    node and directory id, and that of the cluster once it is known
    .kafka_cleanshutdown               there while the last stop was clean, with a manifest of all logs
    recovery-point-offset-checkpoint   up to where each log is on the device
    log-start-offset-checkpoint
    replication-offset-checkpoint      high watermarks
    cleaner-offset-checkpoint          up to where compacted logs are compacted
    {topic}-{partition}/               one log: segments, indexes, snapshots, epochs, partition.metadata
    *-delete                           a deleted log that is being removed
    *-stray                            a log of a replaced topic id, kept until removed by hand
    *-damaged                          a damaged log that was fetched anew, kept until removed by hand

A failed write or sync fails the whole directory: its logs go offline and `on_failure` hears why.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence

import msgspec
import structlog

from streamkit.broker.log.checkpoint import (
    DamagedCheckpointError,
    Partition,
    decode_offsets,
    encode_offsets,
)
from streamkit.broker.log.manifest import CleanLog, decode_manifest, encode_manifest
from streamkit.broker.storage.caches import FileCache, IndexCache
from streamkit.broker.storage.errors import (
    DirectoryLockedError,
    ForeignDirectoryError,
    LogOfflineError,
    UnreadableDirectoryError,
)
from streamkit.broker.storage.flusher import Flusher
from streamkit.broker.storage.identity import (
    META_FILE,
    Identity,
    check_identity,
    decode_identity,
    decode_uuid,
    encode_identity,
    encode_uuid,
    random_uuid,
)
from streamkit.broker.storage.opening import LogFacts, new_log, open_clean, recover
from streamkit.broker.storage.partition_log import METADATA_FILE, PartitionLog
from streamkit.broker.storage.readable_log import LogShelf
from streamkit.broker.topic_config import TopicConfig
from streamkit.runtime.contracts.clock import Clock
from streamkit.runtime.contracts.disk import Disk, DiskLock, Volume
from streamkit.runtime.contracts.rng import Rng
from streamkit.runtime.contracts.spawn import Spawn

log_line = structlog.get_logger(__name__)

LOCK_FILE = ".lock"
CLEAN_SHUTDOWN_FILE = ".kafka_cleanshutdown"
RECOVERY_POINTS_FILE = "recovery-point-offset-checkpoint"
LOG_STARTS_FILE = "log-start-offset-checkpoint"
HIGH_WATERMARKS_FILE = "replication-offset-checkpoint"
CLEANER_OFFSETS_FILE = "cleaner-offset-checkpoint"
CHECKPOINT_FILES = (RECOVERY_POINTS_FILE, LOG_STARTS_FILE, HIGH_WATERMARKS_FILE, CLEANER_OFFSETS_FILE)
DELETE_SUFFIX = "-delete"
STRAY_SUFFIX = "-stray"
DAMAGED_SUFFIX = "-damaged"
NAME_BYTES = 255
OPEN_FILES = 512
LOADED_INDEXES = 64


class LogDirectory:
    def __init__(
        self, disk: Disk, path: str, lock: DiskLock, identity: Identity, *, clock: Clock, rng: Rng,
        spawn: Spawn, relaxed: bool, on_failure: Callable[[str], None], open_files: int,
        producer_id_expiration_ms: int,
    ) -> None:  # fmt: skip
        self.path = path
        self.identity = identity
        self.logs: dict[Partition, PartitionLog] = {}
        self.failure = ""
        self.was_clean = False
        """Whether the last stop was clean, so that nothing acknowledged can be missing."""
        self._disk = disk
        self._lock = lock
        self._rng = rng
        self._spawn = spawn
        self._on_failure = on_failure
        self._found: set[str] = set()
        self._clean: dict[Partition, CleanLog] = {}
        self._checkpoints: dict[str, dict[Partition, int]] = {}
        self._written_moves = -1
        self._written: dict[str, bytes] = {}
        """What the checkpoint files hold, as far as this process wrote them."""
        self._writing_checkpoints = asyncio.Lock()
        self.flusher = Flusher(
            disk, path, spawn, relaxed=relaxed, on_failure=self._fail, checkpoint=self.checkpoint
        )
        self._shelf = LogShelf(
            disk=disk, clock=clock, flusher=self.flusher, files=FileCache(disk, open_files),
            indexes=IndexCache(LOADED_INDEXES), producer_id_expiration_ms=producer_id_expiration_ms,
            remove_later=self._remove_later, checkpoint=self.checkpoint,
        )  # fmt: skip

    @property
    def volume(self) -> Volume:
        """What the directory stands on; -1 where the system does not say."""
        try:
            return self._disk.volume(self.path)
        except OSError:
            return Volume(-1, -1)

    @classmethod
    async def open(
        cls, disk: Disk, path: str, *, node_id: int, clock: Clock, rng: Rng, spawn: Spawn,
        cluster_id: str | None = None, founds: bool = True, flush_mode: str = "durable",
        on_failure: Callable[[str], None] = lambda reason: None, open_files: int = OPEN_FILES,
        producer_id_expiration_ms: int = 86_400_000,
    ) -> LogDirectory:  # fmt: skip
        """Lock the directory, format it if it is empty, and read what it says of its logs.

        `cluster_id` names the cluster that a directory must belong to, or that an empty one joins. Without
        it a directory that belongs to none founds one, or, if it `founds` none, remains without until
        `join`. Raises `DirectoryLockedError`, `ForeignDirectoryError`, `UnreadableDirectoryError`.
        """
        try:
            disk.make_directory(path)
            lock = disk.lock(f"{path}/{LOCK_FILE}")
        except BlockingIOError:
            raise DirectoryLockedError(
                f"another process uses {path}", hint="stop that broker, or start with another --data-dir"
            ) from None
        except OSError as error:
            raise _unreadable(path, error) from None
        try:
            identity = await _identify(
                disk, path, node_id=node_id, cluster_id=cluster_id, founds=founds, rng=rng
            )
            directory = cls(
                disk, path, lock, identity, clock=clock, rng=rng, spawn=spawn,
                relaxed=flush_mode == "relaxed", on_failure=on_failure, open_files=open_files,
                producer_id_expiration_ms=producer_id_expiration_ms,
            )  # fmt: skip
            await directory._read_state()
        except OSError as error:
            lock.release()
            raise _unreadable(path, error) from None
        except BaseException:
            lock.release()
            raise
        return directory

    def remember_producers_for(self, expiration_ms: int) -> None:
        """From the next look at who is silent on."""
        self._shelf.producer_id_expiration_ms = expiration_ms

    @property
    def cluster_id(self) -> str:
        """Empty until it is known."""
        return self.identity.cluster_id

    @property
    def directory_id(self) -> bytes:
        return self.identity.directory_id

    async def join(self, cluster_id: str) -> None:
        """Belong to this cluster from now on; raises `ForeignDirectoryError`, `UnreadableDirectoryError`."""
        check_identity(
            self.identity, node_id=self.identity.node_id, cluster_id=cluster_id, directory=self.path
        )
        if not self.cluster_id:
            identity = msgspec.structs.replace(self.identity, cluster_id=cluster_id)
            try:
                await _write_identity(self._disk, self.path, identity)
            except OSError as error:
                raise _unreadable(self.path, error) from None
            self.identity = identity

    @property
    def kept_everything(self) -> bool:
        """Whether all that the process before this one has acknowledged is here: after a clean stop, and
        after any stop where nothing is acknowledged before it is on disk."""
        return self.was_clean or not self.flusher.relaxed

    def partitions_on_disk(self) -> list[Partition]:
        """(topic, partition) of every log directory found at the start or made since."""
        return [(topic, int(partition)) for topic, _, partition in (n.rpartition("-") for n in self._found)]

    async def open_partition(
        self, topic: str, topic_id: bytes, partition: int, config: TopicConfig
    ) -> PartitionLog:
        """The log, made if it is not there; offline if recovery found a reason, or if it cannot be opened.

        Such a log (no space, too many files, no permission) is opened again at the next start.
        """
        key = topic, partition
        name = f"{topic}-{partition}"
        path = f"{self.path}/{name}"
        clean = self._clean.pop(key, None)
        try:
            if name in self._found and not self._is_of(path, topic_id, clean):
                await self._set_aside(name)
                clean = None
            log = await self._open_log(self._facts(path, key, topic_id, config), name, clean)
        except OSError as error:
            log = new_log(self._shelf, self._facts(path, key, topic_id, config))
            log.offline_reason = f"{name} cannot be opened: {error}"
        if log.offline_reason:
            log_line.error("log_offline", log=log.name, reason=log.offline_reason)
        if self.failure:
            log.offline_reason = log.offline_reason or self.failure
        self.logs[key] = log
        return log

    def _facts(self, path: str, key: Partition, topic_id: bytes, config: TopicConfig) -> LogFacts:
        return LogFacts(
            path=path, topic=key[0], topic_id=topic_id, partition=key[1], config=config,
            recovery_point=self._checkpointed(RECOVERY_POINTS_FILE, key),
            log_start_offset=self._checkpointed(LOG_STARTS_FILE, key),
            high_watermark=self._checkpointed(HIGH_WATERMARKS_FILE, key),
            cleaned_offset=self._checkpointed(CLEANER_OFFSETS_FILE, key),
        )  # fmt: skip

    async def _open_log(self, facts: LogFacts, name: str, clean: CleanLog | None) -> PartitionLog:
        if name not in self._found:
            self._disk.make_directory(facts.path)
            self._found.add(name)
            return new_log(self._shelf, facts)
        entries = self._disk.entries(facts.path)
        log = open_clean(self._shelf, facts, entries, clean) if clean is not None else None
        return log if log is not None else await recover(self._shelf, facts, entries)

    async def delete_partitions(self, logs: Iterable[PartitionLog]) -> None:
        """Delete logs: durably gone on return, their files in the background.

        Readers that hold a file finish undisturbed.
        """
        names = []
        for log in logs:
            del self.logs[log.topic, log.partition]
            log.let_go()
            names.append(log.name)
        await self._delete(names)

    async def quarantine(self, log: PartitionLog) -> str:
        """Set a damaged log aside, for whoever wants to look at it: where it is from now on.

        One of the same name begins empty.
        """
        del self.logs[log.topic, log.partition]
        log.let_go()
        try:
            (path,) = await self._take_away([log.name], DAMAGED_SUFFIX)
        except OSError as error:
            self.flusher.fail(f"setting {log.name} aside failed: {error}")
            raise LogOfflineError(f"{log.name} cannot be set aside: {error}") from error
        return path

    async def delete_strays(self, strays: Sequence[Partition]) -> None:
        """Delete log directories that were found here and that nobody opened."""
        for key in strays:
            assert key not in self.logs, "an open log is deleted by delete_partitions"
            self._clean.pop(key, None)
        await self._delete([f"{topic}-{partition}" for topic, partition in strays])

    async def checkpoint(self) -> None:
        """Write down recovery points, log starts and high watermarks, if any moved; about once a second."""
        now_ms = self._shelf.clock.now_ms()
        if self.flusher.relaxed:
            for log in self.logs.values():
                log.flush_if_due(now_ms)
        async with self._writing_checkpoints:
            if self.failure or self.flusher.moves == self._written_moves:
                return
            self._written_moves = self.flusher.moves
            self._note_offsets()
            contents = {name: encode_offsets(at) for name, at in self._checkpoints.items()}
            changed = {name: data for name, data in contents.items() if self._written.get(name) != data}
            try:
                await self._disk.replace_all(
                    [(f"{self.path}/{name}", data) for name, data in changed.items()]
                )
                self._written |= changed
            except OSError as error:
                self.flusher.fail(f"writing a checkpoint in {self.path} failed: {error}")

    def _note_offsets(self) -> None:
        points, starts, marks, cleaned = (self._checkpoints[name] for name in CHECKPOINT_FILES)
        for key, log in self.logs.items():
            if log.offline_reason:
                continue  # what was written down of it is what its recovery will be judged by
            points[key] = log.recovery_point
            starts[key] = log.log_start_offset
            # a mark above what is durable would make a torn tail look like corruption
            marks[key] = min(log.high_watermark, log.recovery_point)
            if log.cleaned_offset:
                cleaned[key] = log.cleaned_offset

    async def close(self) -> None:
        """Make everything durable, leave the clean-shutdown marker, let go of the lock."""
        try:
            await self.flusher.settle()
            if not self.failure:
                await self._close_cleanly()
        except OSError as error:
            self._fail(f"closing {self.path} failed: {error}")
        finally:
            self._shelf.files.clear()
            self._lock.release()

    async def _close_cleanly(self) -> None:
        healthy = [log for log in self.logs.values() if not log.offline_reason]
        for log in healthy:
            for path, data in log.save_for_restart():
                file = self._disk.open(path, create=True)
                file.write([data], 0)
                file.truncate(len(data))
        await self._disk.flush_file_system(self.path)
        for log in healthy:
            log.finish_flush(log.log_end_offset)
        self.flusher.moves += 1
        await self.checkpoint()
        manifest = encode_manifest(log.describe() for log in healthy)
        await self._disk.replace(f"{self.path}/{CLEAN_SHUTDOWN_FILE}", manifest)

    async def _read_state(self) -> None:
        entries = self._disk.entries(self.path)
        for name in entries:
            if name.endswith(DELETE_SUFFIX):
                await self._disk.remove_tree(f"{self.path}/{name}")
        self._found = {name for name, size in entries.items() if size is None and _names_a_log(name)}
        self._checkpoints = {name: self._read_checkpoint(name, entries) for name in CHECKPOINT_FILES}
        if CLEAN_SHUTDOWN_FILE in entries:
            await self._read_manifest()
        elif self._found:
            # what the page cache kept over a crash of the process counts as durable from here on
            await self._disk.flush_file_system(self.path)

    async def _read_manifest(self) -> None:
        path = f"{self.path}/{CLEAN_SHUTDOWN_FILE}"
        try:
            self._clean = decode_manifest(self._disk.read_file(path))
            self.was_clean = True
        except DamagedCheckpointError as error:
            log_line.warning("clean_shutdown_marker_damaged", path=path, reason=error.message)
        self._disk.remove(path)
        await self._disk.flush([], [self.path])

    def _read_checkpoint(self, name: str, entries: dict[str, int | None]) -> dict[Partition, int]:
        if name not in entries:
            return {}
        try:
            offsets = decode_offsets(self._disk.read_file(f"{self.path}/{name}"))
        except DamagedCheckpointError as error:
            # all logs are then checked from their start; nothing is lost but time
            log_line.warning("checkpoint_damaged", file=name, reason=error.message)
            return {}
        # a log whose directory is gone was deleted; one of the same name begins anew
        return {key: offset for key, offset in offsets.items() if f"{key[0]}-{key[1]}" in self._found}

    def _checkpointed(self, name: str, key: Partition) -> int:
        return self._checkpoints[name].get(key, 0)

    def _is_of(self, path: str, topic_id: bytes, clean: CleanLog | None) -> bool:
        """Whether the log on disk is this topic's; one that never got so far as to say it is anybody's."""
        if clean is not None:
            return clean.topic_id == topic_id
        try:
            text = self._disk.read_file(f"{path}/{METADATA_FILE}").decode()
            return decode_uuid(text.rpartition("topic_id: ")[2].strip()) == topic_id
        except (FileNotFoundError, ValueError):
            return True

    async def _set_aside(self, name: str) -> None:
        log_line.warning("log_of_another_topic_id_set_aside", log=name)
        await self._take_away([name], STRAY_SUFFIX)

    async def _delete(self, names: Sequence[str]) -> None:
        """Take away what is there (a log that could not be opened may have nothing) and remove it later."""
        try:
            dead = await self._take_away([name for name in names if name in self._found], DELETE_SUFFIX)
        except OSError as error:
            self.flusher.fail(f"deleting in {self.path} failed: {error}")
            return
        if dead:
            self._spawn.start(self._remove(dead), name=f"remove deleted logs in {self.path}")

    async def _take_away(self, names: Sequence[str], suffix: str) -> list[str]:
        """Rename logs' directories, and forget their offsets before logs of the same names can begin."""
        moves = [(f"{self.path}/{name}", f"{self.path}/{self._dead_name(name, suffix)}") for name in names]
        async with self.flusher.between_rounds:
            await self._disk.rename_all(moves)
        self._found.difference_update(names)
        for offsets in self._checkpoints.values():
            for name in names:
                topic, _, partition = name.rpartition("-")
                offsets.pop((topic, int(partition)), None)
        self.flusher.moves += 1
        await self.checkpoint()
        return [dead for _, dead in moves]

    def _remove_later(self, files: Sequence[str]) -> None:
        self._spawn.start(self._remove_files(files), name=f"remove old segments in {self.path}")

    async def _remove_files(self, files: Sequence[str]) -> None:
        try:
            await self._disk.remove_all(files)
        except OSError as error:
            log_line.warning("old_segments_not_removed", path=files[0], reason=str(error))

    async def _remove(self, paths: Sequence[str]) -> None:
        """Remove what was taken away; what is left of it, for whatever reason, goes at the next start."""
        for path in paths:
            try:
                await self._disk.remove_tree(path)
            except OSError as error:
                log_line.warning("deleted_log_not_removed", path=path, reason=str(error))

    def _dead_name(self, name: str, suffix: str) -> str:
        unique = f".{self._rng.bytes('directory-names', 16).hex()}{suffix}"
        return name[: NAME_BYTES - len(unique)] + unique

    def _fail(self, reason: str) -> None:
        if not self.failure:
            self.failure = reason
            for log in self.logs.values():
                log.offline_reason = log.offline_reason or reason
            log_line.error("log_directory_failed", directory=self.path, reason=reason)
            self._on_failure(reason)


async def format_directory(
    disk: Disk, path: str, *, node_id: int, cluster_id: str | None, rng: Rng
) -> Identity:
    """Make an empty directory a node's; it founds a cluster unless it is told of one.

    Raises `ForeignDirectoryError`, `UnreadableDirectoryError`.
    """
    try:
        disk.make_directory(path)
        if META_FILE in disk.entries(path):
            raise ForeignDirectoryError(
                f"{path} is formatted already", hint="start the broker, or name another --data-dir"
            )
        return await _identify(disk, path, node_id=node_id, cluster_id=cluster_id, founds=True, rng=rng)
    except OSError as error:
        raise _unreadable(path, error) from None


async def _identify(
    disk: Disk, path: str, *, node_id: int, cluster_id: str | None, founds: bool, rng: Rng
) -> Identity:
    """Whose directory it is, written down as far as this is known now."""
    entries = disk.entries(path)
    if META_FILE in entries:
        identity = decode_identity(disk.read_file(f"{path}/{META_FILE}"), f"{path}/{META_FILE}")
        check_identity(identity, node_id=node_id, cluster_id=cluster_id, directory=path)
        if identity.cluster_id or not (cluster_id or founds):
            return identity
    else:
        _check_empty(path, entries)
        identity = Identity(cluster_id="", node_id=node_id, directory_id=random_uuid(rng, "directory-id"))
    if founds:
        cluster_id = cluster_id or encode_uuid(random_uuid(rng, "cluster-id"))
    identity = msgspec.structs.replace(identity, cluster_id=cluster_id or "")
    await _write_identity(disk, path, identity)
    return identity


def _check_empty(path: str, entries: Iterable[str]) -> None:
    unknown = sorted(set(entries) - {LOCK_FILE, META_FILE + ".tmp"})
    if unknown:
        raise ForeignDirectoryError(
            f"{path} is no data directory of a broker: it holds {unknown[0]} and no {META_FILE}",
            hint="name an empty directory, or one that does not exist, with --data-dir",
        )


async def _write_identity(disk: Disk, path: str, identity: Identity) -> None:
    await disk.replace(f"{path}/{META_FILE}", encode_identity(identity))
    await disk.flush([], [os.path.dirname(path)])


def _unreadable(path: str, error: OSError) -> UnreadableDirectoryError:
    return UnreadableDirectoryError(
        f"the data directory {path} cannot be used: {error.strerror or error}",
        hint="check that it is a directory that this user may read and write",
    )


def _names_a_log(name: str) -> bool:
    topic, dash, partition = name.rpartition("-")
    return bool(topic and dash) and partition.isdecimal()
