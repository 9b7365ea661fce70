"""A disk in memory that loses power: what was flushed stays, the rest survives sector by sector or not.

Every file has a durable image and a current one; names live in directories and are durable only once their
directory is flushed. `lose_power` keeps of each sector that was written since the last flush the old bytes,
the new ones, zeroes or garbage, and of each new or removed name either state.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Sequence

from streamkit.runtime.contracts.disk import Buffer, DiskFile

SECTOR = 512


class Inode:
    def __init__(self) -> None:
        self.data = bytearray()
        self.durable = b""

    def flush(self) -> None:
        self.durable = bytes(self.data)

    def lose_power(self, rng: random.Random) -> None:
        size = rng.choice((len(self.durable), len(self.data)))
        data = bytearray(size)
        for start in range(0, size, SECTOR):
            old = self.durable[start : start + SECTOR].ljust(SECTOR, b"\0")
            new = bytes(self.data[start : start + SECTOR]).ljust(SECTOR, b"\0")
            kept = old if old == new else rng.choice((old, new, self._damaged(old, new, rng)))
            data[start : start + SECTOR] = kept[: size - start]
        self.data = data
        self.flush()

    def _damaged(self, old: bytes, new: bytes, rng: random.Random) -> bytes:
        """Bytes that were durable in this sector survive; the rest is zeroes or garbage."""
        common = next((i for i in range(SECTOR) if old[i] != new[i]), SECTOR)
        return old[:common] + rng.choice((bytes(SECTOR - common), rng.randbytes(SECTOR - common)))


class FakeFile:
    def __init__(self, path: str, inode: Inode) -> None:
        self.path = path
        self.inode = inode

    def size(self) -> int:
        return len(self.inode.data)

    def write(self, buffers: Sequence[Buffer], position: int) -> None:
        data = b"".join(buffers)
        missing = position - len(self.inode.data)
        if missing > 0:
            self.inode.data += bytes(missing)
        self.inode.data[position : position + len(data)] = data

    def read_nowait(self, position: int, size: int) -> Buffer | None:
        return bytes(self.inode.data[position : position + size])

    async def read(self, position: int, size: int) -> Buffer:
        return bytes(self.inode.data[position : position + size])

    def truncate(self, size: int) -> None:
        del self.inode.data[size:]
        self.inode.data += bytes(size - len(self.inode.data))


class FakeLock:
    def release(self) -> None:
        pass


class FakeDisk:
    """`failing` is raised by the next flush, which then loses what it was asked to keep."""

    def __init__(self) -> None:
        self.names: dict[str, Inode | None] = {}
        self.durable_names: dict[str, Inode | None] = {}
        self.flushes = 0
        self.failing: OSError | None = None

    def open(self, path: str, *, create: bool = False) -> FakeFile:
        inode = self.names.get(path)
        if inode is None:
            if not create:
                raise FileNotFoundError(path)
            inode = self.names[path] = Inode()
        return FakeFile(path, inode)

    def entries(self, path: str) -> dict[str, int | None]:
        found = {os.path.basename(name): inode for name, inode in self.names.items() if _parent(name) == path}
        return {name: None if inode is None else len(inode.data) for name, inode in found.items()}

    def make_directory(self, path: str) -> None:
        self.names.setdefault(path, None)

    def read_file(self, path: str) -> bytes:
        return bytes(self.open(path).inode.data)

    def remove(self, path: str) -> None:
        self.names.pop(path, None)

    def move(self, source: str, target: str) -> None:
        if source in self.names:
            self.names[target] = self.names.pop(source)

    def lock(self, path: str) -> FakeLock:
        return FakeLock()

    async def replace(self, path: str, data: bytes) -> None:
        await asyncio.sleep(0)
        inode = Inode()
        inode.data += data
        inode.flush()
        self.names[path] = self.durable_names[path] = inode

    async def replace_all(self, files: Sequence[tuple[str, bytes]]) -> None:
        for path, data in files:
            await self.replace(path, data)

    async def rename(self, source: str, target: str) -> None:
        moved = [n for n in self.names if n == source or n.startswith(source + "/")]
        for name in moved:
            self.names[target + name.removeprefix(source)] = self.names.pop(name)
        self._flush_names(_parent(target))

    async def rename_all(self, moves: Sequence[tuple[str, str]]) -> None:
        for source, target in moves:
            await self.rename(source, target)

    async def remove_all(self, paths: Sequence[str]) -> None:
        for path in paths:
            self.remove(path)

    async def remove_tree(self, path: str) -> None:
        for name in [n for n in self.names if n == path or n.startswith(path + "/")]:
            del self.names[name]

    async def flush(self, files: Sequence[DiskFile], directories: Sequence[str]) -> None:
        await self._begin_flush()
        for file in files:
            assert isinstance(file, FakeFile)
            file.inode.flush()
        for directory in directories:
            self._flush_names(directory)

    async def flush_file_system(self, path: str) -> None:
        await self._begin_flush()
        for inode in self.names.values():
            if inode is not None:
                inode.flush()
        self.durable_names = dict(self.names)

    async def _begin_flush(self) -> None:
        self.flushes += 1
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if self.failing is not None:
            error, self.failing = self.failing, None
            raise error

    def _flush_names(self, directory: str) -> None:
        for name in [n for n in self.durable_names if _parent(n) == directory and n not in self.names]:
            del self.durable_names[name]
        for name, inode in self.names.items():
            if _parent(name) == directory:
                self.durable_names[name] = inode

    def close(self) -> None:
        pass

    def lose_power(self, rng: random.Random) -> None:
        unsure = sorted(n for n in {*self.names, *self.durable_names} if self._is_unsure(n))
        for name in unsure:
            source = rng.choice((self.names, self.durable_names))
            if name in source:
                self.durable_names[name] = source[name]
            else:
                self.durable_names.pop(name, None)
        kept = self.durable_names
        self.durable_names = {n: i for n, i in kept.items() if _parent(n) in kept or _parent(n) == ""}
        self.names = dict(self.durable_names)
        for inode in {id(i): i for i in self.names.values() if i is not None}.values():
            inode.lose_power(rng)

    def _is_unsure(self, name: str) -> bool:
        absent = object()
        return self.names.get(name, absent) is not self.durable_names.get(name, absent)


def _parent(path: str) -> str:
    return os.path.dirname(path)
