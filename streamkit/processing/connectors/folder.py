"""A directory as sinks see it: whole files under their names, seen by nobody before they are whole.

LocalFolder   written beside under a hidden name, made durable, renamed BucketFolder  a prefix in an object
store or any other file system of pyarrow; an object appears when it is whole
"""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from typing import Any, Protocol

import aiofiles
import aiofiles.os

from streamkit.errors import UsageError
from streamkit.processing.connectors.blocking import blocking
from streamkit.processing.connectors.sinks import Unavailable

STALE_S = 3600.0  # what is unfinished for so long was left by a crash
_numbers = itertools.count()


class Folder(Protocol):
    """Every call raises Unavailable where the place does not answer."""

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

    async def open(self) -> list[str]:
        try:
            await aiofiles.os.makedirs(self._path, exist_ok=True)
            return await blocking(self._swept)
        except OSError as error:
            raise _unavailable(self._path, error) from error

    async def put(self, name: str, data: bytes) -> None:
        hidden = self._path / f".{name}.{os.getpid()}-{next(_numbers)}.tmp"
        try:
            async with aiofiles.open(hidden, "wb") as file:
                await file.write(data)
                await file.flush()
                await blocking(os.fsync, file.fileno())
            await blocking(self._publish, hidden, name)
        except OSError as error:
            raise _unavailable(self._path, error) from error
        finally:
            hidden.unlink(missing_ok=True)

    async def remove(self, name: str) -> None:
        try:
            await blocking((self._path / name).unlink, True)
        except OSError as error:
            raise _unavailable(self._path, error) from error

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
            raise _unavailable(self._uri, error) from error

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


def _unavailable(where: object, error: OSError) -> Unavailable:
    return Unavailable(f"{where}: {error}")
