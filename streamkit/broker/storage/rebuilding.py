"""Rebuilding what is derived from a log's batches: by a walk from the newest producer snapshot on.

Recovery after a crash and truncation end here alike: what the log knows of its indexes, epochs and
producers is then exactly what its remaining batches say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TypeVar

from streamkit.broker.log.producers import DamagedSnapshotError, ProducerEntry, decode_snapshot
from streamkit.broker.log.recovery import Damage, Replay
from streamkit.broker.log.search import Steps
from streamkit.broker.log.segment import (
    LOG_SUFFIX,
    SNAPSHOT_SUFFIX,
    TRANSACTION_INDEX_SUFFIX,
    Segment,
    file_name,
)
from streamkit.broker.log.transactions import AbortedTransaction, decode_index
from streamkit.runtime.contracts.disk import Disk, DiskFile

T = TypeVar("T")


async def replay_segments(
    disk: Disk, path: str, segments: list[Segment], first: int, replay: Replay
) -> Damage | None:
    """Walk the segments from number `first` on, replacing each by what the walk found, up to a damage."""
    for number in range(first, len(segments)):
        found = segments[number]
        walked = Segment(found.base_offset, found.created_ms)
        walked.aborted = [
            row
            for row in read_aborted(disk, path, found.base_offset)
            if row.last_offset < replay.producers_from
        ]
        file = disk.open(f"{path}/{file_name(found.base_offset, LOG_SUFFIX)}")
        damage = await run_steps(file, replay.segment(walked, found.size))
        segments[number] = walked
        if damage is not None:
            return damage
    return None


def offsets_of(names: Iterable[str], suffix: str) -> list[int]:
    """The offsets that files with this suffix are named after, in order."""
    stems = (name.removesuffix(suffix) for name in names if name.endswith(suffix))
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def latest_snapshot(
    disk: Disk, path: str, snapshots: Sequence[int], *, lowest: int, highest: int
) -> tuple[int, dict[int, ProducerEntry]]:
    """(offset, producers) of the newest whole snapshot in [lowest, highest], else none known at `lowest`."""
    for offset in reversed(snapshots):
        if lowest <= offset <= highest:
            producers = read_snapshot(disk, path, offset)
            if producers is not None:
                return offset, producers
    return lowest, {}


def read_snapshot(disk: Disk, path: str, offset: int) -> dict[int, ProducerEntry] | None:
    try:
        return decode_snapshot(disk.read_file(f"{path}/{file_name(offset, SNAPSHOT_SUFFIX)}"))
    except (FileNotFoundError, DamagedSnapshotError):
        return None


def read_aborted(disk: Disk, path: str, base_offset: int) -> list[AbortedTransaction]:
    """The aborted transactions beside a segment; a segment without any has no such file."""
    try:
        return decode_index(disk.read_file(f"{path}/{file_name(base_offset, TRANSACTION_INDEX_SUFFIX)}"))
    except FileNotFoundError:
        return []


def segment_number(bases: list[int], offset: int) -> int:
    """Which of the segments with these bases holds `offset`; the first if none does."""
    return max((number for number, base in enumerate(bases) if base <= offset), default=0)


async def run_steps(file: DiskFile, steps: Steps[T]) -> T:
    """Drive a search with the bytes of `file`, waiting for the device where it must."""
    try:
        position, size = next(steps)
        while True:
            if not size:
                await asyncio.sleep(0)
            data = file.read_nowait(position, size)
            if data is None:
                data = await file.read(position, size)
            position, size = steps.send(data)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
