"""Reading a shard back from its partition, once it leads it.

The topics of most coordinators are compacted: of the records of one key, any but the newest may be gone. So a
load passes over them too, before anything but their keys is opened; what a million commits leave of a few
thousand places is read in a few seconds, cleaned or not. The newest of each key are replayed in the order in
which they were written, as the cleaner would have left them.

Records of transactions count from their markers on, in the order of both. They are replayed as they come, and
what was written before them, before them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import structlog

from streamkit.broker.coordination.shard import CoordinatorRecord, Shard
from streamkit.protocol.errors import MalformedMessageError
from streamkit.protocol.records.batch import HEADER_SIZE, BatchHeader, Buffer, parse_header
from streamkit.protocol.records.control import decode_marker
from streamkit.protocol.records.newest import NewestRecords
from streamkit.protocol.records.record import decode_records, uncompressed_records

S = TypeVar("S", bound=Shard)

log = structlog.get_logger(__name__)


class ShardLoading(Generic[S]):
    """Both iterators do a little of the work at each step, so that others may have a turn in between."""

    def __init__(
        self,
        coordinator: S,
        *,
        name: str,
        is_compacted: bool,
        stored: Callable[[S, CoordinatorRecord, int], None],
    ) -> None:
        self._coordinator = coordinator
        self._name = name
        self._is_compacted = is_compacted
        self._stored = stored
        self._newest = NewestRecords()
        """None of them is replayed yet."""

    def take(self, batch: Buffer) -> Iterator[None]:
        """The next batch of the partition."""
        header = parse_header(batch)
        if header.is_control:
            yield from self.rest()
            self._end_transaction(header, batch)
        elif header.is_transactional:
            yield from self.rest()
            for record in decode_records(batch):
                self._replay(record.offset, record.key, record.value, header.producer_id)
        elif self._is_compacted:
            records = memoryview(batch)[HEADER_SIZE : header.size]
            self._newest.take(header, uncompressed_records(header, records))
        else:
            for record in decode_records(batch):
                self._replay(record.offset, record.key, record.value)
        yield

    def rest(self) -> Iterator[None]:
        """Replay what has been gathered."""
        for key, (offset, value) in self._newest.drain().items():
            self._replay(offset, key, value)
            yield

    def _end_transaction(self, header: BatchHeader, batch: Buffer) -> None:
        for record in decode_records(batch):
            marker = decode_marker(record.key, record.value)
            if marker is not None:
                self._coordinator.end_transaction(header.producer_id, committed=marker.committed)

    def _replay(
        self, offset: int, key: bytes | None, value: bytes | None, producer_id: int | None = None
    ) -> None:
        """A record that nobody can read must not take all the others of a partition down."""
        if key is None:
            return
        try:
            if producer_id is None:
                self._coordinator.replay(key, value)
                self._stored(self._coordinator, CoordinatorRecord(key, value), offset)
            else:
                self._coordinator.replay_in_transaction(producer_id, key, value)
        except MalformedMessageError as error:
            log.error("unreadable record", partition=self._name, offset=offset, reason=error.message)
