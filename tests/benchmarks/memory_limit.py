"""A bound on the memory of a process, kept by the kernel where this user may have it: cgroup 1 or 2."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PLACES = (
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
    (Path("/sys/fs/cgroup"), "memory.max"),
)


class Bound:
    """`group=None`: nobody keeps it, so it can only be looked at."""

    def __init__(self, group: Path | None) -> None:
        self._group = group

    @property
    def kept(self) -> bool:
        return self._group is not None

    def hold(self, pid: int) -> None:
        """From here on the process gets no more: it is killed if it needs more. Page cache counts too."""
        if self._group is not None:
            (self._group / "cgroup.procs").write_text(str(pid))


@contextmanager
def bound(limit_bytes: int) -> Iterator[Bound]:
    group = _group(limit_bytes)
    try:
        yield Bound(group)
    finally:
        if group is not None:
            with suppress(OSError):
                group.rmdir()


def _group(limit_bytes: int) -> Path | None:
    for root, limit in PLACES:
        group = root / f"streamkit-benchmark-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text(str(limit_bytes))
        except OSError:
            group.rmdir()
            continue
        return group
    return None
