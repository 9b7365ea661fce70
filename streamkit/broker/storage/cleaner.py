"""The log cleaner of one data directory: compacts the log with the largest dirty part, again and again.

Where the next cleaning of each log begins is written down with the directory's checkpoints. A log whose
files cannot be cleaned (a damaged batch, most likely) is left alone until the next start, and said so.

A broker cleans its own logs, whether it leads them or follows: what they keep of each key is the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from streamkit.broker.log.cleanable import CleanableLog, cleanable
from streamkit.broker.storage.cleaning import Cleaning, CleaningAbortedError
from streamkit.broker.storage.errors import LogOfflineError
from streamkit.broker.storage.log_directory import LogDirectory
from streamkit.broker.storage.partition_log import PartitionLog
from streamkit.protocol.records.batch import CorruptBatchError
from streamkit.runtime.contracts.clock import Clock
from streamkit.runtime.contracts.disk import Disk

log_line = structlog.get_logger(__name__)


class CleanerLimits(msgspec.Struct, frozen=True, kw_only=True):
    backoff_ms: int
    buffer_bytes: int
    bytes_per_second: float


class Throttle:
    """A `Pace` that yields to the event loop, and sleeps when the average gets over the limit."""

    def __init__(self, clock: Clock, bytes_per_second: float) -> None:
        self._clock = clock
        self._bytes_per_ms = bytes_per_second / 1000
        self._moved = 0
        self._since_ms = clock.monotonic_ms()

    async def spent(self, bytes_moved: int) -> None:
        self._moved += bytes_moved
        due_ms = self._moved / self._bytes_per_ms - (self._clock.monotonic_ms() - self._since_ms)
        await asyncio.sleep(max(due_ms, 0) / 1000)


class Cleaner:
    def __init__(
        self, disk: Disk, directory: LogDirectory, clock: Clock, limits: Callable[[], CleanerLimits]
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._clock = clock
        self._limits = limits
        self._uncleanable: dict[PartitionLog, None] = {}

    async def run(self) -> None:
        """Clean as long as the process lives."""
        while True:
            if not await self.clean_dirtiest():
                await asyncio.sleep(self._limits().backoff_ms / 1000)

    async def clean_dirtiest(self) -> bool:
        """Clean the log that needs it most; whether there was one."""
        found = await self._dirtiest()
        if found is None:
            return False
        log, part = found
        limits = self._limits()
        try:
            # recovery takes a gap above the recovery point that is written down for lost bytes
            await self._write_checkpoints()
            cleaning = Cleaning(
                self._disk, log, part, pace=Throttle(self._clock, limits.bytes_per_second),
                buffer_bytes=limits.buffer_bytes, now_ms=self._clock.now_ms(),
            )  # fmt: skip
            log.cleaned_offset = await cleaning.run()
        except CleaningAbortedError as error:
            log_line.info("cleaning_aborted", log=log.name, reason=error.message)
            await asyncio.sleep(0)
        except (CorruptBatchError, OSError) as error:
            self._uncleanable[log] = None
            log_line.warning("log_not_cleaned", log=log.name, reason=str(error))
        else:
            await self._write_checkpoints()
        return True

    async def _write_checkpoints(self) -> None:
        self._directory.flusher.moves += 1
        await self._directory.checkpoint()

    async def _dirtiest(self) -> tuple[PartitionLog, CleanableLog] | None:
        dirtiest: tuple[PartitionLog, CleanableLog] | None = None
        for log in list(self._directory.logs.values()):
            if not log.config.is_compacted or log.offline_reason or log in self._uncleanable:
                continue
            if len(log.segments) == 1:
                continue
            try:
                part = await self._cleanable(log)
            except (LogOfflineError, CorruptBatchError, OSError) as error:
                self._uncleanable[log] = None
                log_line.warning("log_not_cleaned", log=log.name, reason=str(error))
                continue
            if not part.is_worth_it(log.config.min_cleanable_dirty_ratio):
                continue
            if dirtiest is None or part.dirty_ratio > dirtiest[1].dirty_ratio:
                dirtiest = log, part
        return dirtiest

    async def _cleanable(self, log: PartitionLog) -> CleanableLog:
        views = await log.sealed_segments()
        return cleanable(
            views, dirty_start=max(log.cleaned_offset, log.log_start_offset), stable_offset=log.stable_offset,
            now_ms=self._clock.now_ms(), config=log.config,
        )  # fmt: skip
