"""A disk in memory: what programs see, what would survive a loss of power, and everything between the two.

A file has a *cache* (what reads see) and a *durable* content. A write goes to the cache and is remembered
as pending; a flush carries out on the durable content what was pending when it began. Names are the same: a
directory's names are durable once it is flushed. A crash of the machine keeps a random part of what is
pending: of each write a subset of its 512-byte sectors, some of them torn (what was there before follows, or
zeros where nothing was), and of a directory's changes a prefix. A crash of the process alone keeps the cache.

A flush that failed is as in Linux: what it was to write counts as clean afterwards, so a second flush
succeeds over what is lost.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Coroutine, Sequence
from random import Random
from typing import Any

from streamkit.runtime.contracts.disk import Buffer, DiskFile, Volume
from streamkit.simulation.loop import VirtualLoop
from streamkit.simulation.owner import Owner
from streamkit.simulation.trace import Trace

SECTOR_BYTES = 512
VOLUME_BYTES = 1 << 40
TEMPORARY_SUFFIX = ".tmp"


class Inode:
    """A file's content, whatever names it has."""

    __slots__ = ("cache", "durable", "pending", "settled")

    def __init__(self) -> None:
        self.settled = 0
        """How many operations are not pending any more: the number of the first that is."""
        self.cache = bytearray()
        self.durable = bytearray()
        self.pending: list[tuple[int, bytes | None]] = []
        """Since the last flush, in order: (position, data), or (size, None) for a truncation."""

    def write(self, position: int, data: bytes) -> None:
        put(self.cache, position, data)
        self.pending.append((position, data))

    def truncate(self, size: int) -> None:
        resize(self.cache, size)
        self.pending.append((size, None))

    @property
    def latest(self) -> int:
        return self.settled + len(self.pending)

    def settle(self, latest: int, *, durably: bool = True) -> None:
        """What was pending when `latest` was read is durable now, or wrongly counts as if it were."""
        count = max(0, latest - self.settled)
        for position, data in self.pending[:count] if durably else ():
            if data is None:
                resize(self.durable, position)
            else:
                put(self.durable, position, data)
        del self.pending[:count]
        self.settled += count

    def lose_power(self, random: Random, torn: float) -> int:
        """Keep what is durable and a random part of what is pending; how many sectors were lost or
        damaged."""
        lost = 0
        for position, data in self.pending:
            if data is None:
                if random.random() < 0.5:
                    resize(self.durable, position)
            else:
                lost += self._keep_some_sectors(position, data, random, torn)
        self.settle(self.latest, durably=False)
        self.cache = bytearray(self.durable)
        return lost

    def _keep_some_sectors(self, position: int, data: bytes, random: Random, torn: float) -> int:
        kept_share = random.choice((0.0, 0.5, 0.9, 1.0))
        lost, at, end = 0, position, position + len(data)
        while at < end:
            until = min(end, (at // SECTOR_BYTES + 1) * SECTOR_BYTES)
            part = data[at - position : until - position]
            if random.random() < kept_share:
                if random.random() < torn:
                    lost += 1
                    kept = random.randrange(len(part))
                    size = len(part) if random.random() < 0.5 else kept
                    part = part[:kept] + self._under(at + kept, size - kept)
                put(self.durable, at, part)
            else:
                lost += 1
            at = until
        return lost

    def _under(self, position: int, size: int) -> bytes:
        """What the medium has where a write did not get to: what was there, or zeros of a new block.

        So what is written over with the same bytes is never lost.
        """
        return bytes(self.durable[position : position + size]).ljust(size, b"\0")


class Directory:
    def __init__(self) -> None:
        self.settled = 0
        self.entries: dict[str, Inode | Directory] = {}
        self.durable: dict[str, Inode | Directory] = {}
        self.pending: list[dict[str, Inode | Directory | None]] = []
        """Changes since the last flush, each atomic: name → what it stands for now (None: nothing)."""

    def change(self, names: dict[str, Inode | Directory | None]) -> None:
        apply(self.entries, names)
        self.pending.append(names)

    @property
    def latest(self) -> int:
        return self.settled + len(self.pending)

    def settle(self, latest: int, *, durably: bool = True) -> None:
        """As for a file's content."""
        count = max(0, latest - self.settled)
        for names in self.pending[:count] if durably else ():
            apply(self.durable, names)
        del self.pending[:count]
        self.settled += count

    def lose_power(self, random: Random) -> None:
        self.settle(random.randint(self.settled, self.latest))
        self.settle(self.latest, durably=False)
        self.entries = dict(self.durable)


def put(content: bytearray, position: int, data: bytes) -> None:
    if position > len(content):
        content.extend(bytes(position - len(content)))
    content[position : position + len(data)] = data


def resize(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


def apply(entries: dict[str, Inode | Directory], names: dict[str, Inode | Directory | None]) -> None:
    for name, node in names.items():
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node


class DiskConditions:
    """How a machine's disk behaves now."""

    def __init__(self) -> None:
        self.flush_s = (0.0002, 0.002)
        self.read_s = (0.0001, 0.001)
        self.cold = 0.02
        """How likely a read has to wait for the device."""
        self.torn = 0.3
        """How likely a sector that was being written when the power went is torn."""
        self.stalls_s = [0.0]
        """What every wait for the device takes in addition; the worst counts."""
        self.failing_flushes = 0
        """So many of the next flushes fail."""
        self.failing_writes = 0
        self.full = 0
        """How many reasons there are for a lack of space."""


class Image:
    """One machine's disk: it outlives the machine's incarnations."""

    def __init__(self, loop: VirtualLoop, random: Random, trace: Trace) -> None:
        self.loop = loop
        self.random = random
        self.trace = trace
        self.conditions = DiskConditions()
        self.locks: dict[str, Owner] = {}
        """Path → who holds it."""
        self.root = Directory()
        self.wipes = 0
        """How often everything on it was lost."""

    def lose_power(self) -> int:
        """What is left after the power went; how many pending sectors were lost or damaged."""
        lost = 0
        nodes = self.nodes()
        for node in nodes:
            if isinstance(node, Inode):
                lost += node.lose_power(self.random, self.conditions.torn)
            else:
                node.lose_power(self.random)
        return lost

    def release_locks(self) -> None:
        """The process is gone, in whatever way."""
        self.locks.clear()

    def wipe(self) -> None:
        self.root = Directory()
        self.wipes += 1

    def durable_file(self, path: str) -> bytes | None:
        """What would be found there after a loss of power that keeps nothing of what is pending."""
        node: Inode | Directory | None = self.root
        for name in parts(path):
            node = node.durable.get(name) if isinstance(node, Directory) else None
        return bytes(node.durable) if isinstance(node, Inode) else None

    def walk(self) -> list[tuple[str, Inode]]:
        """Every file, by its path."""
        found: list[tuple[str, Inode]] = []
        waiting: list[tuple[str, Directory]] = [("", self.root)]
        while waiting:
            path, directory = waiting.pop()
            for name, node in directory.entries.items():
                if isinstance(node, Directory):
                    waiting.append((f"{path}/{name}", node))
                else:
                    found.append((f"{path}/{name}", node))
        return found

    def flip_bit(self, inode: Inode, position: int, bit: int) -> None:
        """Bit-rot: the medium and what reads see now differ from what was written."""
        for content in (inode.cache, inode.durable):
            if position < len(content):
                content[position] ^= 1 << bit

    def nodes(self) -> list[Inode | Directory]:
        """Everything that has a name now, or would have one after a loss of power."""
        found: dict[Inode | Directory, None] = {self.root: None}
        waiting = [self.root]
        while waiting:
            directory = waiting.pop()
            for node in (*directory.entries.values(), *directory.durable.values()):
                if node not in found:
                    found[node] = None
                    if isinstance(node, Directory):
                        waiting.append(node)
        return list(found)


class SimulatedFile:
    __slots__ = ("_disk", "_image", "inode", "path")

    def __init__(self, disk: SimulatedDisk, image: Image, path: str, inode: Inode) -> None:
        self.path = path
        self.inode = inode
        self._disk = disk
        self._image = image

    def size(self) -> int:
        self._disk.owner.check()
        return len(self.inode.cache)

    def write(self, buffers: Sequence[Buffer], position: int) -> None:
        self._disk.owner.check()
        conditions = self._image.conditions
        data = b"".join(buffers)
        if conditions.full or conditions.failing_writes:
            part = data[: self._image.random.randrange(len(data) + 1)]
            self.inode.write(position, part)
            if conditions.full:
                raise OSError(errno.ENOSPC, "no space left on device", self.path)
            conditions.failing_writes -= 1
            raise OSError(errno.EIO, "input/output error", self.path)
        self.inode.write(position, data)

    def read_nowait(self, position: int, size: int) -> Buffer | None:
        self._disk.owner.check()
        if self._image.random.random() < self._image.conditions.cold:
            return None
        return memoryview(bytes(self.inode.cache[position : position + size]))

    async def read(self, position: int, size: int) -> Buffer:
        await self._disk.wait(self._image.conditions.read_s)
        return bytes(self.inode.cache[position : position + size])

    def truncate(self, size: int) -> None:
        self._disk.owner.check()
        self.inode.truncate(size)


class SimulatedLock:
    def __init__(self, image: Image, path: str) -> None:
        self._image = image
        self._path = path

    def release(self) -> None:
        self._image.locks.pop(self._path, None)


class SimulatedDisk:
    """The disk port of one incarnation."""

    def __init__(self, image: Image, owner: Owner) -> None:
        self.owner = owner
        self._image = image

    # -- at once

    def open(self, path: str, *, create: bool = False) -> SimulatedFile:
        directory, name = self._parent(path)
        node = directory.entries.get(name)
        if isinstance(node, Directory):
            raise IsADirectoryError(errno.EISDIR, "is a directory", path)
        if node is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, "no such file", path)
            node = Inode()
            directory.change({name: node})
        return SimulatedFile(self, self._image, path, node)

    def entries(self, path: str) -> dict[str, int | None]:
        return {
            name: None if isinstance(node, Directory) else len(node.cache)
            for name, node in self._directory(path).entries.items()
        }

    def make_directory(self, path: str) -> None:
        self.owner.check()
        directory = self._image.root
        for name in parts(path):
            node = directory.entries.get(name)
            if node is None:
                node = Directory()
                directory.change({name: node})
            if isinstance(node, Inode):
                raise NotADirectoryError(errno.ENOTDIR, "not a directory", path)
            directory = node

    def read_file(self, path: str) -> bytes:
        return bytes(self.open(path).inode.cache)

    def remove(self, path: str) -> None:
        directory, name = self._parent(path)
        if name in directory.entries:
            directory.change({name: None})

    def move(self, source: str, target: str) -> None:
        directory, name = self._parent(source)
        node = directory.entries.get(name)
        if node is not None:
            directory.change({name: None, os.path.basename(target): node})

    def lock(self, path: str) -> SimulatedLock:
        self.open(path, create=True)
        if path in self._image.locks:
            raise BlockingIOError(errno.EWOULDBLOCK, "locked", path)
        self._image.locks[path] = self.owner
        return SimulatedLock(self._image, path)

    # -- with the device

    async def replace(self, path: str, data: bytes) -> None:
        await self._to_the_end(self._replace([(path, data)]))

    async def replace_all(self, files: Sequence[tuple[str, bytes]]) -> None:
        await self._to_the_end(self._replace(files))

    async def rename(self, source: str, target: str) -> None:
        await self._to_the_end(self._rename([(source, target)], must_exist=True))

    async def rename_all(self, moves: Sequence[tuple[str, str]]) -> None:
        await self._to_the_end(self._rename(moves, must_exist=False))

    async def remove_all(self, paths: Sequence[str]) -> None:
        await self.wait(self._image.conditions.flush_s)
        for path in paths:
            self.remove(path)

    async def remove_tree(self, path: str) -> None:
        await self.wait(self._image.conditions.flush_s)
        directory, name = self._parent(path)
        if name in directory.entries:
            directory.change({name: None})

    async def flush(self, files: Sequence[DiskFile], directories: Sequence[str]) -> None:
        await self._to_the_end(self._flush(files, directories))

    def volume(self, path: str) -> Volume:
        """Nothing ever fills it."""
        return Volume(VOLUME_BYTES, VOLUME_BYTES)

    async def flush_file_system(self, path: str) -> None:
        await self._to_the_end(self._settle(self._image.nodes()))

    def close(self) -> None:
        """There are no threads to let go of."""

    # -- how that happens

    async def _replace(self, files: Sequence[tuple[str, bytes]]) -> None:
        asides = []
        for path, data in files:
            aside = self.open(path + TEMPORARY_SUFFIX, create=True)
            aside.truncate(0)
            aside.write([data], 0)
            asides.append(aside)
        await self._flush(asides, ())
        await self._rename([(path + TEMPORARY_SUFFIX, path) for path, _ in files], must_exist=True)

    async def _rename(self, moves: Sequence[tuple[str, str]], *, must_exist: bool) -> None:
        self.owner.check()
        for source, target in moves:
            directory, name = self._parent(source)
            node = directory.entries.get(name)
            if node is not None:
                directory.change({name: None, os.path.basename(target): node})
            elif must_exist:
                raise FileNotFoundError(errno.ENOENT, "no such file", source)
        await self._flush((), list(dict.fromkeys(os.path.dirname(target) for _, target in moves)))

    async def _flush(self, files: Sequence[DiskFile], directories: Sequence[str]) -> None:
        self.owner.check()
        nodes: list[Inode | Directory] = []
        for file in files:
            assert isinstance(file, SimulatedFile), "a disk flushes the files that it opened"
            nodes.append(file.inode)
        nodes += map(self._directory, directories)
        await self._settle(nodes)

    async def _settle(self, nodes: Sequence[Inode | Directory]) -> None:
        """What is pending now becomes durable; what is written meanwhile does not."""
        self.owner.check()
        marks = [(node, node.latest) for node in nodes if node.pending]
        image = self._image
        await self.wait(image.conditions.flush_s)
        failed = image.conditions.failing_flushes > 0
        for node, latest in marks:
            if isinstance(node, Inode) or not failed:  # names are in a journal, which does not forget them
                node.settle(latest, durably=not failed)
        image.trace.mark(b"flush")
        if failed:
            image.conditions.failing_flushes -= 1
            raise OSError(errno.EIO, "input/output error")

    async def _to_the_end(self, work: Coroutine[Any, Any, None]) -> None:
        """The device finishes what it began, even if the one who asked for it is cancelled."""
        running = asyncio.get_running_loop().create_task(work)
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise

    def _directory(self, path: str) -> Directory:
        self.owner.check()
        node: Inode | Directory = self._image.root
        for name in parts(path):
            if isinstance(node, Inode):
                raise NotADirectoryError(errno.ENOTDIR, "not a directory", path)
            if name not in node.entries:
                raise FileNotFoundError(errno.ENOENT, "no such directory", path)
            node = node.entries[name]
        if isinstance(node, Inode):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", path)
        return node

    def _parent(self, path: str) -> tuple[Directory, str]:
        return self._directory(os.path.dirname(path)), os.path.basename(path)

    async def wait(self, span_s: tuple[float, float]) -> None:
        """As long as the device takes."""
        self.owner.check()
        low, high = span_s
        await asyncio.sleep(self._image.random.uniform(low, high) + max(self._image.conditions.stalls_s))
        self.owner.check()


def parts(path: str) -> list[str]:
    return [name for name in path.split("/") if name]
