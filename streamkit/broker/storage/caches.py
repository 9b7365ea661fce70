"""What is kept open and loaded: at most so many files and indexes, the least recently used go first.

Letting go is all it takes: a file closes when its last holder (a read, a flush) is done with it, and an
index is loaded again from its file.
"""

from __future__ import annotations

from collections import OrderedDict

from streamkit.broker.log.segment import Segment
from streamkit.runtime.contracts.disk import Disk, DiskFile


class FileCache:
    def __init__(self, disk: Disk, capacity: int) -> None:
        self._disk = disk
        self._capacity = capacity
        self._files: OrderedDict[str, DiskFile] = OrderedDict()

    def __len__(self) -> int:
        return len(self._files)

    def get(self, path: str, *, create: bool = False) -> DiskFile:
        file = self._files.get(path)
        if file is None:
            file = self._files[path] = self._disk.open(path, create=create)
            if len(self._files) > self._capacity:
                self._files.popitem(last=False)
        else:
            self._files.move_to_end(path)
        return file

    def forget(self, path: str) -> None:
        self._files.pop(path, None)

    def clear(self) -> None:
        self._files.clear()


class IndexCache:
    """Indexes of sealed segments; those of active segments grow and are never dropped."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._segments: OrderedDict[Segment, None] = OrderedDict()

    def touch(self, segment: Segment) -> None:
        self._segments[segment] = None
        self._segments.move_to_end(segment)
        if len(self._segments) > self._capacity:
            self._segments.popitem(last=False)[0].indexes = None

    def forget(self, segment: Segment) -> None:
        self._segments.pop(segment, None)
