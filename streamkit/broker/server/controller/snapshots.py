"""Snapshots of the metadata as files: Kafka's format, whole or not there at all.

    [SnapshotHeader]  [KRaftVersion, Voters]  [records] …  [SnapshotFooter]

Each bracket is a record batch; the first, second and last are control batches. Offsets count from 0 inside
the file, and every batch bears the snapshot's epoch. A file without its footer is no snapshot: it is written
beside and renamed, and a download is a `.part` until its last piece is on disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from streamkit.broker.raft.control_records import (
    SnapshotFooterRecord,
    SnapshotHeaderRecord,
    encode_control,
    encode_snapshot_mark,
    voters_in,
)
from streamkit.broker.raft.log_view import SnapshotId
from streamkit.broker.raft.messages import KRaftVersion, Voters
from streamkit.broker.raft.node import KRAFT_VERSION
from streamkit.broker.raft.ready import SnapshotChunk
from streamkit.broker.raft.voters import VoterSet
from streamkit.broker.server.controller.quorum_state import (
    PART_SUFFIX,
    SNAPSHOT_SUFFIX,
    snapshot_ids,
    snapshot_name,
)
from streamkit.errors import RefusedError
from streamkit.protocol.records.batch import Buffer, CorruptBatchError, batch_size, check_batch
from streamkit.protocol.records.control import ControlType, decode_key
from streamkit.protocol.records.record import Record, decode_records, encode_batch
from streamkit.runtime.contracts.disk import Disk

RECORDS_PER_BATCH: Final = 1_000


class Snapshot(msgspec.Struct, frozen=True):
    id: SnapshotId
    voters: VoterSet | None
    values: list[bytes]

    @property
    def end_offset(self) -> int:
        return self.id.end_offset


class Snapshots:
    """Those of one log directory. `appended_bytes` counts what the log took since the newest."""

    def __init__(self, disk: Disk, path: str, bytes_between: int) -> None:
        self.appended_bytes = 0
        self._disk = disk
        self._path = path
        self._bytes_between = bytes_between
        self._known: list[SnapshotId] = []

    @property
    def is_due(self) -> bool:
        return self.appended_bytes >= self._bytes_between

    async def begin(self) -> SnapshotId | None:
        """The newest snapshot there is; what was left of downloads is removed."""
        names = list(self._disk.entries(self._path))
        for name in names:
            if name.endswith(SNAPSHOT_SUFFIX + PART_SUFFIX):
                self._disk.remove(f"{self._path}/{name}")
        self._known = snapshot_ids(names)
        return self._known[-1] if self._known else None

    def ending_at(self, offset: int) -> SnapshotId | None:
        return next((one for one in self._known if one.end_offset == offset), None)

    async def load(self, snapshot: SnapshotId) -> Snapshot:
        """Raises RefusedError if it is damaged."""
        path = self._file(snapshot)
        data = self._disk.read_file(path)
        try:
            return decode_snapshot(snapshot, data)
        except CorruptBatchError as error:
            raise RefusedError(
                f"the snapshot {path} is damaged: {error.message}",
                hint="restore it from a copy, or start with an empty --data-dir",
            ) from None

    async def write(
        self, snapshot: SnapshotId, voters: VoterSet | None, values: Sequence[bytes], now_ms: int
    ) -> None:
        data = b"".join(encode_snapshot(snapshot, voters, values, now_ms))
        await self._disk.replace(self._file(snapshot), data)
        self._known = sorted({*self._known, snapshot})
        self.appended_bytes = 0

    async def receive(self, chunk: SnapshotChunk) -> bool:
        """Keep a piece of a download; whether the snapshot is now complete and durable."""
        part = self._file(chunk.snapshot) + PART_SUFFIX
        file = self._disk.open(part, create=True)
        if chunk.position == 0:
            file.truncate(0)
        file.write([chunk.data], chunk.position)
        if not chunk.last:
            return False
        await self._disk.flush([file], [])
        await self._disk.rename(part, self._file(chunk.snapshot))
        self._known = sorted({*self._known, chunk.snapshot})
        self.appended_bytes = 0
        return True

    async def read(self, snapshot: SnapshotId, position: int, max_bytes: int) -> tuple[Buffer, int] | None:
        """(bytes from `position` on, size of the file); None if there is no such snapshot."""
        try:
            file = self._disk.open(self._file(snapshot))
        except FileNotFoundError:
            return None
        size = file.size()
        return await file.read(position, min(max_bytes, max(0, size - position))), size

    async def remove_before(self, kept: SnapshotId) -> None:
        for old in [one for one in self._known if one < kept]:
            self._disk.remove(self._file(old))
        self._known = [one for one in self._known if one >= kept]

    def _file(self, snapshot: SnapshotId) -> str:
        return f"{self._path}/{snapshot_name(snapshot)}"


def encode_snapshot(
    snapshot: SnapshotId, voters: VoterSet | None, values: Sequence[bytes], now_ms: int
) -> Iterator[bytes]:
    """The batches of a snapshot, in order."""
    epoch = snapshot.epoch
    header = SnapshotHeaderRecord(last_contained_log_timestamp=now_ms)
    yield encode_snapshot_mark(ControlType.SNAPSHOT_HEADER, header, now_ms, base_offset=0, epoch=epoch)
    offset = 1
    if voters is not None:
        controls = (KRaftVersion(KRAFT_VERSION), Voters(voters))
        yield encode_control(controls, now_ms, base_offset=offset, epoch=epoch)
        offset += len(controls)
    for first in range(0, len(values), RECORDS_PER_BATCH):
        some = values[first : first + RECORDS_PER_BATCH]
        records = [Record(timestamp=now_ms, value=value) for value in some]
        yield encode_batch(records, base_offset=offset, leader_epoch=epoch)
        offset += len(some)
    footer = SnapshotFooterRecord()
    yield encode_snapshot_mark(ControlType.SNAPSHOT_FOOTER, footer, now_ms, base_offset=offset, epoch=epoch)


def decode_snapshot(snapshot: SnapshotId, data: Buffer) -> Snapshot:
    """Raises CorruptBatchError, also for one whose end is missing."""
    voters: VoterSet | None = None
    values: list[bytes] = []
    last: ControlType | None = None
    position, view = 0, memoryview(data)
    while position < len(view):
        header = check_batch(view, position)
        batch = view[position : position + batch_size(view, position)]
        position += header.size
        last = None
        if header.is_control:
            voters = voters_in(batch) or voters
            last = decode_key(decode_records(batch)[-1].key)
        else:
            values += [record.value or b"" for record in decode_records(batch)]
    if last is not ControlType.SNAPSHOT_FOOTER:
        raise CorruptBatchError("it has no footer")
    return Snapshot(snapshot, voters, values)
