"""Flush rounds: everything appended in a directory since the last round becomes durable together.

A round starts as soon as there is something to flush and none is running, so concurrent writers share one
fsync and a lonely one never lingers. One or two files are synced one by one, more by one `syncfs`. A failed
sync is never tried again: the system may have dropped the pages it could not write and would call the next
one a success. The directory fails instead, and a restart reads back what is really there.

In relaxed mode an append counts as flushed at once and a round runs only for a roll, `flush.messages` or
`flush.ms`: Kafka's page-cache behaviour.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from streamkit.runtime.contracts.disk import Disk, DiskFile
from streamkit.runtime.contracts.spawn import Spawn, TaskHandle

if TYPE_CHECKING:
    from streamkit.broker.storage.partition_log import PartitionLog

FILES_SYNCED_ONE_BY_ONE = 2


class FlushWork(msgspec.Struct, frozen=True, kw_only=True):
    """What one log wants made durable: small files replaced first, then its content up to `end_offset`."""

    end_offset: int
    files: Sequence[DiskFile]
    directories: Sequence[str] = ()
    replacements: Sequence[tuple[str, bytes]] = ()
    has_gap: bool = False
    """Offsets that compaction took out: recovery takes them for lost bytes above the checkpointed recovery
    point, so that has to be written down before anybody is promised what follows."""


class Flusher:
    def __init__(
        self, disk: Disk, path: str, spawn: Spawn, *, relaxed: bool, on_failure: Callable[[str], None],
        checkpoint: Callable[[], Awaitable[None]],
    ) -> None:  # fmt: skip
        self.relaxed = relaxed
        self.moves = 0
        """How often anything moved that the directory's checkpoints record."""
        self._disk = disk
        self._path = path
        self._spawn = spawn
        self._on_failure = on_failure
        self._checkpoint = checkpoint
        self._dirty: dict[PartitionLog, None] = {}
        self.between_rounds = asyncio.Lock()
        """Held during a round; hold it to move what a round may be working on."""
        self._running = False
        self._task: TaskHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._failed = False
        self._waiting: list[asyncio.Future[None]] = []
        """Who waits for the end of the next round."""

    def dirty(self, log: PartitionLog) -> None:
        """Have `log` flushed in the next round."""
        if self._failed:
            return
        self._dirty[log] = None
        if not self._running:
            self._running = True
            self._idle.clear()
            self._task = self._spawn.start(self._run(), name=f"flush {self._path}")

    def forget(self, log: PartitionLog) -> None:
        self._dirty.pop(log, None)

    def fail(self, reason: str) -> None:
        """Flush nothing any more; the directory hears why."""
        if not self._failed:
            self._failed = True
            self._on_failure(reason)

    async def settle(self) -> None:
        """Wait until nothing is left to flush, or the directory failed."""
        if self._running and self._task is not None and self._task.done():
            await self._run()  # its task was cancelled before its first step
        await self._idle.wait()

    async def flushed(self) -> None:
        """Wait until everything appended before this call counts as flushed, or the directory failed.

        Unlike `settle` it waits for one round, whatever others append meanwhile.
        """
        if self._running and not self.relaxed:
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting

    async def _run(self) -> None:
        waiting: list[asyncio.Future[None]] = []
        try:
            while self._dirty and not self._failed:
                async with self.between_rounds:
                    logs = list(self._dirty)
                    self._dirty.clear()
                    waiting, self._waiting = self._waiting, []
                    await self._round(logs)
                _wake(waiting)
        except OSError as error:
            self.fail(f"flushing {self._path} failed: {error}")
        finally:
            self._running = False
            self._idle.set()
            _wake(waiting)
            _wake(self._waiting)
            self._waiting = []

    async def _round(self, logs: list[PartitionLog]) -> None:
        work = [(log, log.begin_flush()) for log in logs]
        try:
            await self._make_durable([part for _, part in work])
        except asyncio.CancelledError:
            for log, part in work:
                log.put_back(part)
            raise
        self.moves += 1
        gaps = [(log, part.end_offset) for log, part in work if part.has_gap]
        if gaps:
            for log, end_offset in gaps:
                log.recovery_point = max(log.recovery_point, end_offset)
            await self._checkpoint()
        for log, part in work:
            log.finish_flush(part.end_offset)

    async def _make_durable(self, work: list[FlushWork]) -> None:
        replacements = [file for part in work for file in part.replacements]
        if replacements:
            await self._disk.replace_all(replacements)
        files = [file for part in work for file in part.files]
        directories = list(dict.fromkeys(name for part in work for name in part.directories))
        if len(files) > FILES_SYNCED_ONE_BY_ONE:
            await self._disk.flush_file_system(self._path)
        elif files or directories:
            await self._disk.flush(files, directories)


def _wake(waiting: Sequence[asyncio.Future[None]]) -> None:
    for one in waiting:
        if not one.done():
            one.set_result(None)
