"""Files as a port: what is instantaneous, what may wait, and what is durable when.

`write`, `read_nowait` and the small metadata calls return at once and touch the page cache at most. What is
awaitable may wait for the device, and only there does a simulated disk stall. Nothing written is durable
before a flush that began after it has returned; a name is durable only once its directory is flushed. Errors
are `OSError`, as the system gives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

Buffer = bytes | bytearray | memoryview


class Volume(NamedTuple):
    """What holds a directory: its size, and what is free for us, in bytes."""

    total: int
    usable: int


class DiskFile(Protocol):
    """One open file, read and written at absolute positions; it closes when the last holder lets go of it.

    A holder keeps reading a file that was unlinked meanwhile; past a truncation reads come back short.
    """

    @property
    def path(self) -> str: ...

    def size(self) -> int: ...

    def write(self, buffers: Sequence[Buffer], position: int) -> None:
        """Write all buffers from `position` on, in order, as one run; on an error part of it may be there."""
        ...

    def read_nowait(self, position: int, size: int) -> Buffer | None:
        """Up to `size` bytes, fewer only at the end of the file; None rather than wait for the device."""
        ...

    async def read(self, position: int, size: int) -> Buffer:
        """Up to `size` bytes; fewer only at the end of the file."""
        ...

    def truncate(self, size: int) -> None: ...


class DiskLock(Protocol):
    """A held lock; the system releases it when the process ends in whatever way."""

    def release(self) -> None: ...


class Disk(Protocol):
    def open(self, path: str, *, create: bool = False) -> DiskFile:
        """The file for reading and writing; `FileNotFoundError` unless `create`."""
        ...

    def entries(self, path: str) -> dict[str, int | None]:
        """Names in a directory: bytes of a file, None for a directory."""
        ...

    def make_directory(self, path: str) -> None:
        """Make it and its parents; one that exists is fine."""
        ...

    def read_file(self, path: str) -> bytes:
        """A whole small file at once: a checkpoint, an index."""
        ...

    def remove(self, path: str) -> None:
        """Unlink a file; one that is gone already is fine. Holders keep reading it."""
        ...

    def move(self, source: str, target: str) -> None:
        """Rename a file inside one directory, at once and not durably; one that is gone already is fine."""
        ...

    def volume(self, path: str) -> Volume:
        """Of the file system that holds `path`."""
        ...

    def lock(self, path: str) -> DiskLock:
        """Lock the file at `path`, made if missing, for this process; `BlockingIOError` if it is held."""
        ...

    async def replace(self, path: str, data: bytes) -> None:
        """Make `data` the durable content of `path`, wholly or not at all, whenever power goes."""
        ...

    async def replace_all(self, files: Sequence[tuple[str, bytes]]) -> None:
        """`replace` each of these; together they cost little more than one."""
        ...

    async def rename(self, source: str, target: str) -> None:
        """Rename inside one directory, durably."""
        ...

    async def rename_all(self, moves: Sequence[tuple[str, str]]) -> None:
        """Rename (source, target) inside one directory, all durably; a source that is gone is fine."""
        ...

    async def remove_all(self, paths: Sequence[str]) -> None:
        """`remove` each of these where it may take its time: a large file's blocks are freed one by one."""
        ...

    async def remove_tree(self, path: str) -> None: ...

    async def flush(self, files: Sequence[DiskFile], directories: Sequence[str]) -> None:
        """Make the content of these files and the names in these directories durable."""
        ...

    async def flush_file_system(self, path: str) -> None:
        """Make everything on the file system that holds `path` durable."""
        ...

    def close(self) -> None:
        """Let go of threads; nothing is flushed."""
        ...
