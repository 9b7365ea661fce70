"""Disk on the operating system.

What stays in the page cache runs on the event loop: one `pwritev` is 2 µs, a hop to a thread is 70. What may
wait for the device runs on a few threads of our own: reads that `RWF_NOWAIT` declined, flushes, durable
replacements. A read never maps memory: truncation under a live map is SIGBUS.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from streamkit.runtime.contracts.disk import Buffer, DiskFile, Volume

T = TypeVar("T")

BUFFERS_PER_WRITE = 1000
"""Below IOV_MAX (1024) everywhere."""
THREADS = 4
TEMPORARY_SUFFIX = ".tmp"
REPLACED_ONE_BY_ONE = 3

_NOWAIT = getattr(os, "RWF_NOWAIT", 0)
_FULL_SYNC = getattr(fcntl, "F_FULLFSYNC", None)
"""macOS: fsync reaches the drive's cache only; this reaches the platter."""


class OsFile:
    __slots__ = ("_descriptor", "_nowait", "_run", "path")

    def __init__(self, path: str, descriptor: int, run: ThreadPoolExecutor) -> None:
        self.path = path
        self._descriptor = descriptor
        self._nowait = _NOWAIT
        self._run = run

    def __del__(self) -> None:
        os.close(self._descriptor)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def write(self, buffers: Sequence[Buffer], position: int) -> None:
        if len(buffers) <= BUFFERS_PER_WRITE:
            self._write_some(buffers, position)
        else:
            for start in range(0, len(buffers), BUFFERS_PER_WRITE):
                position += self._write_some(buffers[start : start + BUFFERS_PER_WRITE], position)

    def _write_some(self, buffers: Sequence[Buffer], position: int) -> int:
        total = sum(map(len, buffers))
        written = os.pwritev(self._descriptor, buffers, position)
        if written < total:
            rest = memoryview(b"".join(buffers))
            while written < total:
                written += os.pwrite(self._descriptor, rest[written:], position + written)
        return total

    def read_nowait(self, position: int, size: int) -> Buffer | None:
        if not self._nowait:
            return os.pread(self._descriptor, size, position)
        data = bytearray(size)
        try:
            count = os.preadv(self._descriptor, [data], position, self._nowait)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            self._nowait = 0  # this file system cannot tell; a plain read it is
            return os.pread(self._descriptor, size, position)
        if count == size:
            return data
        if position + count < self.size():
            return None
        return memoryview(data)[:count]

    async def read(self, position: int, size: int) -> Buffer:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._run, self._read_fully, position, size)

    def _read_fully(self, position: int, size: int) -> bytes:
        parts = []
        while size > 0:
            part = os.pread(self._descriptor, size, position)
            if not part:
                break
            parts.append(part)
            position += len(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def flush(self) -> None:
        """Wait until the content is durable; for the disk's threads."""
        _sync_content(self._descriptor)


class OsLock:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        os.close(self._descriptor)


class OsDisk:
    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="disk")

    def open(self, path: str, *, create: bool = False) -> OsFile:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        return OsFile(path, os.open(path, flags, 0o644), self._threads)

    def entries(self, path: str) -> dict[str, int | None]:
        with os.scandir(path) as found:
            return {entry.name: None if entry.is_dir() else entry.stat().st_size for entry in found}

    def make_directory(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)

    def read_file(self, path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    def remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    def move(self, source: str, target: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.rename(source, target)

    def lock(self, path: str) -> OsLock:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return OsLock(descriptor)

    async def replace(self, path: str, data: bytes) -> None:
        await self._in_thread(_replace, [(path, data)])

    async def replace_all(self, files: Sequence[tuple[str, bytes]]) -> None:
        await self._in_thread(_replace, files)

    async def rename(self, source: str, target: str) -> None:
        await self._in_thread(_rename, source, target)

    async def rename_all(self, moves: Sequence[tuple[str, str]]) -> None:
        await self._in_thread(_rename_all, moves)

    async def remove_all(self, paths: Sequence[str]) -> None:
        await self._in_thread(_remove_all, paths)

    async def remove_tree(self, path: str) -> None:
        await self._in_thread(_remove_tree, path)

    async def flush(self, files: Sequence[DiskFile], directories: Sequence[str]) -> None:
        await self._in_thread(_flush, files, directories)

    def volume(self, path: str) -> Volume:
        found = os.statvfs(path)
        return Volume(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)

    async def flush_file_system(self, path: str) -> None:
        await self._in_thread(_flush_file_system, path)

    def close(self) -> None:
        self._threads.shutdown(wait=True)

    async def _in_thread(self, work: Callable[..., T], *args: object) -> T:
        """Run it to its end even if the caller is cancelled: nobody may meet it half done."""
        running = asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise


def _sync_content(descriptor: int) -> None:
    if _FULL_SYNC is not None:
        fcntl.fcntl(descriptor, _FULL_SYNC)
    else:
        os.fdatasync(descriptor)


def _sync_directory(path: str) -> None:
    descriptor = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(files: Sequence[tuple[str, bytes]]) -> None:
    """Write aside, sync, rename, sync the names; with many files one sync stands for all."""
    one_by_one = len(files) <= REPLACED_ONE_BY_ONE
    for path, data in files:
        with open(path + TEMPORARY_SUFFIX, "wb") as file:
            file.write(data)
            file.flush()
            if one_by_one:
                _sync_content(file.fileno())
    if not one_by_one:
        _flush_file_system(files[0][0] + TEMPORARY_SUFFIX)
    for path, _ in files:
        os.replace(path + TEMPORARY_SUFFIX, path)
    if not one_by_one:
        _flush_file_system(files[0][0])
        return
    for directory in dict.fromkeys(os.path.dirname(path) for path, _ in files):
        _sync_directory(directory)


def _rename(source: str, target: str) -> None:
    os.rename(source, target)
    _sync_directory(os.path.dirname(target))


def _rename_all(moves: Sequence[tuple[str, str]]) -> None:
    for source, target in moves:
        with contextlib.suppress(FileNotFoundError):
            os.rename(source, target)
    for directory in dict.fromkeys(os.path.dirname(target) for _, target in moves):
        _sync_directory(directory)


def _remove_all(paths: Sequence[str]) -> None:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _remove_tree(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)


def _flush(files: Sequence[DiskFile], directories: Sequence[str]) -> None:
    for file in files:
        assert isinstance(file, OsFile), "a disk flushes the files that it opened"
        file.flush()
    for directory in directories:
        _sync_directory(directory)


def _flush_file_system(path: str) -> None:
    """One `syncfs` (it reports write errors since Linux 5.8); where there is none, `sync` for everything."""
    if not sys.platform.startswith("linux"):
        os.sync()
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _LIBC.syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(descriptor)


_LIBC = ctypes.CDLL(None, use_errno=True)
