"""A quorum of this node alone, on `__cluster_metadata-0` in Kafka's record-batch format.

It leads from the start and for ever, and what is on its disk is committed. A decision is one batch, so a torn
write loses it whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Final

from streamkit.broker.config import TopicConfig
from streamkit.broker.config_key import INT_MAX, LONG_MAX
from streamkit.broker.controller.topic_names import CLUSTER_METADATA
from streamkit.broker.log.append import Origin
from streamkit.broker.server.active_controller import MetadataLogError
from streamkit.errors import RefusedError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.records.batch import Buffer, batches
from streamkit.protocol.records.record import Record, decode_records, encode_batch
from streamkit.runtime.contracts.clock import Clock

if TYPE_CHECKING:
    from streamkit.broker.storage.log_directory import LogDirectory
    from streamkit.broker.storage.partition_log import PartitionLog

METADATA_TOPIC_ID: Final = bytes(15) + b"\x01"
LEADER_EPOCH: Final = 1  # a quorum of one holds its first election by itself and never another
READ_BYTES: Final = 1024 * 1024
# `flush.messages=1` keeps every append durable also where `streamkit.flush.mode=relaxed`.
LOG_CONFIG: Final = TopicConfig(
    flush_messages=1,
    max_message_bytes=INT_MAX,
    message_timestamp_after_max_ms=LONG_MAX,
    retention_ms=-1,
)


class QuorumOfOne:
    epoch: Final = LEADER_EPOCH
    is_active: Final = True
    leader_endpoint: Final = None

    def __init__(self, log: PartitionLog, node_id: int, clock: Clock) -> None:
        self.leader_id: int | None = node_id
        self.high_watermark = log.log_end_offset
        self.on_committed: Callable[[], None] = lambda: None
        self._log = log
        self._clock = clock
        self._durable = asyncio.Event()
        self._failure = ""
        log.on_flushed = self._durable.set

    @classmethod
    async def open(cls, directory: LogDirectory, node_id: int, clock: Clock) -> QuorumOfOne:
        """Open the log in `directory`, and make it if it is new; raises RefusedError."""
        log = await directory.open_partition(CLUSTER_METADATA, METADATA_TOPIC_ID, 0, LOG_CONFIG)
        if log.offline_reason:
            raise RefusedError(
                f"the metadata log in {log.path} is damaged: {log.offline_reason}",
                hint="restore the directory from a copy, or start with an empty --data-dir",
            )
        return cls(log, node_id, clock)

    async def append(self, values: Sequence[bytes]) -> int:
        now_ms = self._clock.now_ms()
        batch = encode_batch([Record(timestamp=now_ms, value=value) for value in values])
        self._durable.clear()
        (result,) = self._log.append([batch], leader_epoch=LEADER_EPOCH, origin=Origin.COORDINATOR)
        if result.error is not ErrorCode.NONE:
            self.failed(result.message or result.error.name)
        while not self._failure and self._log.flushed_offset <= result.last_offset:
            await self._durable.wait()
            self._durable.clear()
        if self._failure:
            raise MetadataLogError(f"the metadata log failed: {self._failure}")
        self.high_watermark = self._log.flushed_offset
        self.on_committed()
        return result.base_offset

    def failed(self, reason: str) -> None:
        """The directory can no longer be written: nothing more is appended here."""
        self._failure = reason
        self._durable.set()

    async def committed(self, from_offset: int) -> AsyncIterator[tuple[int, Buffer]]:
        log = self._log
        offset = max(from_offset, log.log_start_offset)
        while offset < self.high_watermark:
            data = await log.read_cold(offset, max_bytes=READ_BYTES, end_offset=self.high_watermark)
            for header, batch in batches(data):
                offset = header.next_offset
                for record in () if header.is_control else decode_records(batch):
                    if record.offset >= from_offset:
                        yield record.offset, record.value or b""
