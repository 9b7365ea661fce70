"""A directory as sinks see it: whole files under their names, seen by nobody before they are whole.

    LocalFolder     written beside under a hidden name, made durable, renamed
    BucketFolder    a prefix in an object store or any other file system of pyarrow; an object appears whole

What waiting does not mend (a directory that may not be written to, a name that is too long) is a mistake in
the declaration; for anything else the place is away, and asked again.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import aiofiles
import aiofiles.os

from streamkit.errors import StreamkitError, UsageError
from streamkit.processing.connectors.blocking import blocking
from streamkit.processing.connectors.sinks import Unavailable

STALE_S = 3600.0  # what is unfinished for so long was left by a crash
LONGEST_NAME = 255  # bytes, where a file system does not say
LONGEST_KEY = 1024  # of an object, its prefix included
LASTING = {  # nobody but the user can end these
    errno.EACCES,
    errno.EEXIST,  # a file stands where the directory should be
    errno.EINVAL,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}
_numbers = itertools.count()


class Folder(Protocol):
    """Every call raises Unavailable where the place does not answer, UsageError where it never will.

    `longest_name`: how many bytes a name may have; known once it is open.
    """

    longest_name: int

    async def open(self) -> list[str]:
        """Make it if need be; the names in it."""
        ...

    async def put(self, name: str, data: bytes) -> None:
        """The file is there as a whole, durable, in place of one of this name."""
        ...

    async def remove(self, name: str) -> None:
        """It is gone, if it was there."""
        ...


class LocalFolder:
    """A directory of this machine, or one that is mounted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.longest_name = LONGEST_NAME

    async def open(self) -> list[str]:
        try:
            await aiofiles.os.makedirs(self._path, exist_ok=True)
            self.longest_name = await blocking(_longest_name, self._path)
            return await blocking(self._swept)
        except OSError as error:
            raise _told(self._path, error) from error

    async def put(self, name: str, data: bytes) -> None:
        known = hashlib.sha256(name.encode()).hexdigest()[:16]  # others may write here, from other machines
        hidden = self._path / f".{known}.{os.getpid()}-{next(_numbers)}.tmp"
        try:
            async with aiofiles.open(hidden, "wb") as file:
                await file.write(data)
                await file.flush()
                await blocking(os.fsync, file.fileno())
            await blocking(self._publish, hidden, name)
        except OSError as error:
            raise _told(self._path, error) from error
        finally:
            with suppress(OSError):  # it was renamed, or could never be made
                hidden.unlink()

    async def remove(self, name: str) -> None:
        try:
            await blocking((self._path / name).unlink, True)
        except OSError as error:
            raise _told(self._path, error) from error

    def _publish(self, hidden: Path, name: str) -> None:
        hidden.replace(self._path / name)
        directory = os.open(self._path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _swept(self) -> list[str]:
        """The names, after removing what crashes left unfinished."""
        names = []
        for entry in os.scandir(self._path):
            if not (entry.name.startswith(".") and entry.name.endswith(".tmp")):
                names.append(entry.name)
            elif entry.stat().st_mtime < time.time() - STALE_S:
                os.unlink(entry.path)
        return names


class BucketFolder:
    """`uri`: as pyarrow reads it, such as `s3://bucket/prefix`. `filesystem`: a pyarrow one, which makes it a
    path."""

    def __init__(self, uri: str, filesystem: Any = None) -> None:
        self._uri = uri
        self._given = filesystem
        self._filesystem: Any = None
        self._prefix = uri
        self.longest_name = LONGEST_KEY - len(uri)

    async def open(self) -> list[str]:
        names: list[str] = await self._calling(self._open)
        return names

    async def put(self, name: str, data: bytes) -> None:
        await self._calling(self._put, name, data)

    async def remove(self, name: str) -> None:
        await self._calling(self._remove, name)

    async def _calling(self, call: Any, *args: Any) -> Any:
        try:
            return await blocking(call, *args)
        except OSError as error:
            raise _told(self._uri, error) from error

    def _open(self) -> list[str]:
        fs = _pyarrow_fs()
        if self._given is not None:
            self._filesystem = self._given
        else:
            self._filesystem, self._prefix = fs.FileSystem.from_uri(self._uri)
        self._filesystem.create_dir(self._prefix, recursive=True)
        found = self._filesystem.get_file_info(fs.FileSelector(self._prefix))
        return [info.base_name for info in found]

    def _put(self, name: str, data: bytes) -> None:
        with self._filesystem.open_output_stream(f"{self._prefix}/{name}") as out:
            out.write(data)

    def _remove(self, name: str) -> None:
        try:
            self._filesystem.delete_file(f"{self._prefix}/{name}")
        except FileNotFoundError:
            return


def folder_of(where: str | Path, filesystem: Any) -> Folder:
    """What a sink's path names."""
    if filesystem is not None or "://" in str(where):
        return BucketFolder(str(where).rstrip("/"), filesystem)
    return LocalFolder(Path(where))


def _pyarrow_fs() -> Any:
    try:
        import pyarrow.fs
    except ImportError:
        raise UsageError("object stores need pyarrow", hint='pip install "streamkit-log[parquet]"') from None
    return pyarrow.fs


def _longest_name(path: Path) -> int:
    """What the file system of this directory takes."""
    try:
        return os.pathconf(path, "PC_NAME_MAX")
    except (OSError, ValueError):
        return LONGEST_NAME


def _told(where: object, error: OSError) -> StreamkitError:
    if error.errno in LASTING:
        return UsageError(
            f"{where}: {error}", hint="sk.FileSink(path) needs a directory that it may write to"
        )
    return Unavailable(f"{where}: {error}")
