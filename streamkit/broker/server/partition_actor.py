"""A partition's single writer: a mailbox, drained once per turn of the event loop.

Whoever writes puts a batch into the mailbox; the first one schedules a drain. The drain hands all of them
to the log as one append (one system call), steps the outcome into the leader's state, and answers what is
already safe. The rest is answered when a flush round has made it durable, and with it the high watermark
moves, which is what parked fetches wait for. An actor is an object with a list and a flag; it costs no
task.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

import msgspec
import structlog

from streamkit.broker.log.append import AppendResult, Origin
from streamkit.broker.replication.partition import ACKS_ALL, PartitionLeader
from streamkit.broker.storage.errors import LogOfflineError
from streamkit.errors import StreamkitError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.records.batch import NO_LEADER_EPOCH, Buffer, batches
from streamkit.telemetry.instruments import Counter

if TYPE_CHECKING:
    from streamkit.broker.storage.partition_log import PartitionLog

log_line = structlog.get_logger(__name__)

READ_BYTES = 1024 * 1024
A_TRANSACTION_BYTES = 1 << 31
"""What readers are told when a transaction ends: all that it wrote may be new to them."""
CONVERTED_PER_TURN = 4
"""Batches that are compressed anew take milliseconds each."""


class Reply(Protocol):
    """Who waits for the outcome of some batches, each with its `place` among them."""

    def done(self, place: int, result: AppendResult) -> None: ...


Mail: TypeAlias = tuple[Buffer, int, Reply, int]
Answer: TypeAlias = tuple[Reply, int, AppendResult]


class Reader(Protocol):
    """Who waits for committed records: a parked fetch."""

    def committed(self, appended_bytes: int) -> None:
        """The high watermark moved, over about this many bytes."""
        ...

    def ended(self) -> None:
        """This partition serves nobody any more."""
        ...


class AppendError(StreamkitError):
    """Records of our own were not appended, or will never be committed."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class TopicTraffic(msgspec.Struct, gc=False):
    """The counters of one topic, found once per actor."""

    bytes_in: Counter
    bytes_out: Counter
    records_in: Counter


class PartitionActor:
    """The leader's shell around one log. `origin` says who may write here: clients, or our own
    coordinators.
    """

    def __init__(
        self,
        log: PartitionLog,
        leader: PartitionLeader[Answer],
        *,
        traffic: TopicTraffic,
        origin: Origin,
    ) -> None:
        self.log = log
        self.leader = leader
        self.traffic = traffic
        self.ended_by = ErrorCode.KAFKA_STORAGE_ERROR if log.offline_reason else ErrorCode.NONE
        """Why this actor serves nobody any more, or NONE while it does."""
        self.is_internal = origin is Origin.COORDINATOR
        self._origin = origin
        self._mailbox: list[Mail] = []
        self._readers: dict[Reader, None] = {}
        self._uncommitted_bytes = 0
        log.on_flushed = self._flushed

    @property
    def high_watermark(self) -> int:
        return self.leader.high_watermark

    @property
    def last_stable_offset(self) -> int:
        """Where a reader of committed transactions ends."""
        stable = self.log.transactions.last_stable_offset(self.leader.high_watermark)
        return max(stable, self.log.log_start_offset)

    @property
    def has_mail(self) -> bool:
        """Whether a drain is due."""
        return bool(self._mailbox)

    # -- writing ---------------------------------------------------------------------------------------------

    def produce(self, batch: Buffer, acks: int, reply: Reply, place: int = 0) -> None:
        """Append `batch` in this turn of the loop; `reply` hears of it once `acks` is satisfied."""
        if acks == ACKS_ALL and self.leader.refuses(acks, self.log.config.min_insync_replicas):
            reply.done(place, AppendResult(ErrorCode.NOT_ENOUGH_REPLICAS))
            return
        if not self._mailbox:
            asyncio.get_running_loop().call_soon(self.drain)
        self._mailbox.append((batch, acks, reply, place))

    def append_batch(self, batch: bytes) -> asyncio.Future[int]:
        """Append a batch of our own: its base offset, once it is committed; or `AppendError`."""
        waiting = OwnAppend()
        self.produce(batch, ACKS_ALL, waiting)
        return waiting.future

    def drain(self) -> None:
        """Write the whole mailbox; called by the loop, and by readers that must see what came before
        them.
        """
        mailbox, self._mailbox = self._mailbox, []
        if not mailbox:
            return
        if self.ended_by is not ErrorCode.NONE:
            for _, _, reply, place in mailbox:
                reply.done(place, AppendResult(self.ended_by))
            return
        if self.log.config.compression_type != "producer" and len(mailbox) > CONVERTED_PER_TURN:
            mailbox, self._mailbox = mailbox[:CONVERTED_PER_TURN], mailbox[CONVERTED_PER_TURN:]
            asyncio.get_running_loop().call_soon(self.drain)
        received = [mail[0] for mail in mailbox]
        self._uncommitted_bytes += sum(map(len, received))
        results = self._appended(received)
        self._flushed()
        self._settle(mailbox, results)

    def _appended(self, received: list[Buffer]) -> Sequence[AppendResult]:
        """Append; a defect of ours is answered like any other error, or its writers would wait for ever."""
        try:
            return self.log.append(received, leader_epoch=self.leader.leader_epoch, origin=self._origin)
        except Exception:
            log_line.exception("append failed", log=self.log.name)
            return [AppendResult(ErrorCode.UNKNOWN_SERVER_ERROR)] * len(received)

    def _settle(self, mailbox: list[Mail], results: Sequence[AppendResult]) -> None:
        """Answer what is safe, and keep the rest until it is."""
        delay, records, size = self.leader.delay, 0, 0
        for (batch, acks, reply, place), result in zip(mailbox, results, strict=True):
            if result.error is ErrorCode.NONE:
                if not result.duplicate:
                    records += result.last_offset - result.base_offset + 1
                    size += len(batch)
                if acks and delay(acks, result.last_offset + 1, (reply, place, result)):
                    continue
            reply.done(place, result)
        self.traffic.records_in.value += records
        self.traffic.bytes_in.value += size

    def _flushed(self) -> None:
        """The log is durable up to `flushed_offset`: answer who waited for that, wake who waits to read."""
        leader = self.leader
        before = leader.high_watermark
        for reply, place, result in leader.flushed(self.log.flushed_offset):
            reply.done(place, result)
        if leader.high_watermark == before:
            return
        self.log.high_watermark = leader.high_watermark
        ended = self.log.transactions.committed(leader.high_watermark)
        if self._readers:
            appended, self._uncommitted_bytes = self._uncommitted_bytes, 0
            if ended:
                appended = A_TRANSACTION_BYTES
            for reader in tuple(self._readers):
                reader.committed(appended)

    # -- reading ---------------------------------------------------------------------------------------------

    def refusal(self, current_leader_epoch: int) -> ErrorCode:
        """Why a client with this idea of the leader's epoch (-1 is none) cannot be answered, if so."""
        if self.ended_by is not ErrorCode.NONE:
            return self.ended_by
        if self.log.offline_reason:
            return ErrorCode.KAFKA_STORAGE_ERROR
        if current_leader_epoch in (NO_LEADER_EPOCH, self.leader.leader_epoch):
            return ErrorCode.NONE
        if current_leader_epoch < self.leader.leader_epoch:
            return ErrorCode.FENCED_LEADER_EPOCH
        return ErrorCode.UNKNOWN_LEADER_EPOCH

    def watch(self, reader: Reader) -> None:
        if not self._readers:
            self._uncommitted_bytes = 0
        self._readers[reader] = None

    def unwatch(self, reader: Reader) -> None:
        self._readers.pop(reader, None)

    async def read_committed_batches(self, from_offset: int) -> AsyncIterator[memoryview]:
        """Each whole batch from the one that contains `from_offset` up to the high watermark."""
        if self.log.offline_reason:
            raise LogOfflineError(self.log.offline_reason)
        offset = max(from_offset, self.log.log_start_offset)
        while offset < self.high_watermark:
            end = self.high_watermark
            data = self.log.read(offset, max_bytes=READ_BYTES, end_offset=end, at_least_one=True)
            if data is None:
                data = await self.log.read_cold(
                    offset, max_bytes=READ_BYTES, end_offset=end, at_least_one=True
                )
            if not len(data):
                return
            for header, batch in batches(data):
                yield batch
                offset = header.next_offset

    # -- ending ----------------------------------------------------------------------------------------------

    def end(self, code: ErrorCode) -> None:
        """The partition is deleted or its directory has failed: nobody who waits will get more than
        `code`.
        """
        self.ended_by = code
        failed = AppendResult(code)
        for reply, place, _ in self.leader.failed():
            reply.done(place, failed)
        self.drain()
        readers, self._readers = self._readers, {}
        for reader in readers:
            reader.ended()


class OwnAppend:
    """A future in place of a client."""

    def __init__(self) -> None:
        self.future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def done(self, place: int, result: AppendResult) -> None:
        if self.future.done():
            return
        if result.error is ErrorCode.NONE:
            self.future.set_result(result.base_offset)
        else:
            self.future.set_exception(AppendError(result.error, result.message or result.error.name))
