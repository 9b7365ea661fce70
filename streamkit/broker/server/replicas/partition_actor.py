"""A partition's single writer: a mailbox, drained once per turn of the event loop.

Whoever writes puts a batch into the mailbox; the first one schedules a drain. The drain hands all of them
to the log as one append (one system call), steps the outcome into the leader's state, and answers what is
already safe. The rest is answered when a flush round has made it durable, and with it the high watermark
moves, which is what parked fetches wait for. An actor is an object with a list and a flag; it costs no
task.

An actor has one role at a time, as the cluster's metadata says: it leads (`leader`), or it follows
(`follower`, whose log the replica fetcher writes). Whoever waits for something that only a leader can give
hears NOT_LEADER_OR_FOLLOWER when that ends. The high watermark is the log's, whatever the role.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

import msgspec
import structlog

from streamkit.broker.log.append import AppendResult, Origin
from streamkit.broker.replication.follower import PartitionFollower, followed_high_watermark
from streamkit.broker.replication.leader import ACKS_ALL, FollowerFetch, IsrProposal, PartitionLeader
from streamkit.broker.replication.throttle import NOT_THROTTLED, ThrottledAs
from streamkit.broker.storage.errors import LogOfflineError
from streamkit.broker.topic_config import TopicConfig
from streamkit.errors import StreamkitError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.records.batch import NO_LEADER_EPOCH, Buffer, batches
from streamkit.telemetry.instruments import Counter

if TYPE_CHECKING:
    from streamkit.broker.storage.partition_log import PartitionLog

log_line = structlog.get_logger(__name__)

SUCCESS = ErrorCode.NONE
"""Looked up once: a member of an enum costs ten times as much as a global."""
READ_BYTES = 1024 * 1024
A_TRANSACTION_BYTES = 1 << 31
"""What readers are told when a transaction ends: all that it wrote may be new to them."""
CONVERTED_PER_TURN = 4
"""Batches that are compressed anew take milliseconds each."""


class Reply(Protocol):
    """Who waits for the outcome of some batches, each with its `place` among them."""

    def done(self, place: int, result: AppendResult) -> None: ...

    def waits(self) -> None:
        """Other brokers are waited for, who may take as long as they like."""
        ...


Mail: TypeAlias = tuple[Buffer, int, Reply, int]
Answer: TypeAlias = tuple[Reply, int, AppendResult]


class Reader(Protocol):
    """Who waits for records: a parked fetch. A consumer waits for committed ones, a follower for any."""

    def more(self, bytes_: int) -> None:
        """About so many bytes more can be read; for a follower 0 says that the high watermark moved."""
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
    """The shell around one replica's log. `origin` says who may write here: clients, or our own
    coordinators.
    """

    def __init__(self, log: PartitionLog, *, traffic: TopicTraffic, origin: Origin) -> None:
        self.log = log
        self.leader: PartitionLeader[Answer] | None = None
        self.follower: PartitionFollower | None = None
        self.traffic = traffic
        self.ended_by = ErrorCode.KAFKA_STORAGE_ERROR if log.offline_reason else ErrorCode.NONE
        """Why this actor serves nobody any more, or NONE while it does."""
        self.is_internal = origin is Origin.COORDINATOR
        self.throttled_as: ThrottledAs = NOT_THROTTLED
        self.on_proposal: Callable[[PartitionActor], None] = _nobody_listens
        """Called when the leader proposes another ISR."""
        self._origin = origin
        self._proposed: IsrProposal | None = None
        self._mailbox: list[Mail] = []
        self._readers: dict[Reader, None] = {}
        self._follower_readers: dict[Reader, None] = {}
        self._uncommitted_bytes = 0
        self._waiting_for_commit: list[tuple[int, asyncio.Future[None]]] = []
        log.on_flushed = self._flushed

    @property
    def high_watermark(self) -> int:
        return self.log.high_watermark

    @property
    def last_stable_offset(self) -> int:
        """Where a reader of committed transactions ends."""
        stable = self.log.transactions.last_stable_offset(self.log.high_watermark)
        return max(stable, self.log.log_start_offset)

    @property
    def has_mail(self) -> bool:
        """Whether a drain is due."""
        return bool(self._mailbox)

    @property
    def leader_epoch(self) -> int:
        role = self.leader or self.follower
        return NO_LEADER_EPOCH if role is None else role.leader_epoch

    @property
    def is_established(self) -> bool:
        """Whether a leader knows of everything that was committed before it led."""
        return self.leader is not None and self.log.high_watermark >= self.leader.start_offset

    # -- roles -----------------------------------------------------------------------------------------------

    def lead(self, leader: PartitionLeader[Answer]) -> None:
        """Begin a leader epoch. What waits here from an earlier one of ours goes on waiting in this one."""
        if self.leader is not None:
            leader.inherit(self.leader)
        self.leader, self.follower = leader, None
        self.log.begin_epoch(leader.leader_epoch)
        self._release(leader.flushed(self.log.flushed_offset))
        self._committed(self._uncommitted_bytes)

    def follow(self, follower: PartitionFollower) -> None:
        """Leave the log to the replica fetcher."""
        self.follower = follower
        self._resign(ErrorCode.NOT_LEADER_OR_FOLLOWER)

    def _resign(self, code: ErrorCode) -> None:
        leader, self.leader = self.leader, None
        if leader is not None:
            self._give_up(leader.failed(), code)
        self.drain()
        waiting, self._waiting_for_commit = self._waiting_for_commit, []
        for _, future in waiting:
            if not future.done():
                future.set_exception(AppendError(code, f"{self.log.name} is not led here any more"))
        for readers in (self._readers, self._follower_readers):
            for reader in tuple(readers):
                reader.ended()

    def _give_up(self, answers: Sequence[Answer], code: ErrorCode) -> None:
        failed = AppendResult(code)
        for reply, place, _ in answers:
            reply.done(place, failed)

    # -- writing ---------------------------------------------------------------------------------------------

    def produce(self, batch: Buffer, acks: int, reply: Reply, place: int = 0) -> None:
        """Append `batch` in this turn of the loop; `reply` hears of it once `acks` is satisfied."""
        if acks == ACKS_ALL and self.leader is not None and self.leader.refuses(acks):
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
        leader = self.leader
        if leader is None or self.ended_by is not SUCCESS:
            refused = AppendResult(self.ended_by or ErrorCode.NOT_LEADER_OR_FOLLOWER)
            for _, _, reply, place in mailbox:
                reply.done(place, refused)
            return
        if self.log.config.compression_type != "producer" and len(mailbox) > CONVERTED_PER_TURN:
            mailbox, self._mailbox = mailbox[:CONVERTED_PER_TURN], mailbox[CONVERTED_PER_TURN:]
            asyncio.get_running_loop().call_soon(self.drain)
        received = [mail[0] for mail in mailbox]
        size = sum(map(len, received))
        self._uncommitted_bytes += size
        results = self._appended(received, leader.leader_epoch)
        self._flushed()
        self._settle(leader, mailbox, results)
        if self._follower_readers:
            for reader in tuple(self._follower_readers):
                reader.more(size)

    def _appended(self, received: list[Buffer], leader_epoch: int) -> Sequence[AppendResult]:
        """Append; a defect of ours is answered like any other error, or its writers would wait for ever."""
        try:
            return self.log.append(received, leader_epoch=leader_epoch, origin=self._origin)
        except Exception:
            log_line.exception("append failed", log=self.log.name)
            return [AppendResult(ErrorCode.UNKNOWN_SERVER_ERROR)] * len(received)

    def _settle(
        self, leader: PartitionLeader[Answer], mailbox: list[Mail], results: Sequence[AppendResult]
    ) -> None:
        """Answer what is safe, and keep the rest until it is."""
        delay, records, size, is_replicated = leader.delay, 0, 0, bool(leader.followers)
        for (batch, acks, reply, place), result in zip(mailbox, results, strict=True):
            if result.error is SUCCESS:
                if not result.duplicate:
                    records += result.last_offset - result.base_offset + 1
                    size += len(batch)
                if acks and delay(acks, result.last_offset + 1, (reply, place, result)):
                    if is_replicated:
                        reply.waits()
                    continue
            reply.done(place, result)
        self.traffic.records_in.value += records
        self.traffic.bytes_in.value += size

    def _flushed(self) -> None:
        """The log is durable up to `flushed_offset`: answer who waited for that, wake who waits to read."""
        leader = self.leader
        if leader is not None and leader.flushed_offset != self.log.flushed_offset:
            self._release(leader.flushed(self.log.flushed_offset))

    def _release(self, answers: Sequence[Answer]) -> None:
        """Answer what a step of the leader has made safe, and tell everybody else who waited for that."""
        for reply, place, result in answers:
            reply.done(place, result)
        leader = self.leader
        if leader is not None and leader.high_watermark > self.log.high_watermark:
            appended, self._uncommitted_bytes = self._uncommitted_bytes, 0
            self._committed(appended)

    def _committed(self, appended_bytes: int) -> None:
        """The high watermark has moved, over about so many bytes."""
        leader, log = self.leader, self.log
        if leader is not None and leader.high_watermark > log.high_watermark:
            log.high_watermark = leader.high_watermark
        if log.transactions.committed(log.high_watermark):
            appended_bytes = A_TRANSACTION_BYTES
        if self._readers:
            for reader in tuple(self._readers):
                reader.more(appended_bytes)
        if self._follower_readers:
            for reader in tuple(self._follower_readers):
                reader.more(0)
        if self._waiting_for_commit:
            self._wake_waiting()

    # -- replicating -----------------------------------------------------------------------------------------

    def fetched(self, fetch: FollowerFetch) -> ErrorCode:
        """A follower fetches: what it has on disk counts from now on. An error if it is no replica."""
        leader = self.leader
        if leader is None:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        if fetch.broker_id not in leader.followers:
            return ErrorCode.UNKNOWN_LEADER_EPOCH  # metadata that makes it one is on its way here
        self._step(leader, leader.fetched(fetch))
        return ErrorCode.NONE

    def tick(self, now_ms: int) -> None:
        """Time has passed: followers may have fallen behind."""
        if self.leader is not None:
            self._step(self.leader, self.leader.tick(now_ms, self.log.log_end_offset))

    def isr_decided(
        self, *, isr: Sequence[int], partition_epoch: int, replicas: Sequence[int] | None = None
    ) -> None:
        """The controller says who is in sync, and who replicates, in the present leader epoch."""
        leader = self.leader
        if leader is None:
            return
        released = leader.decided(isr=isr, partition_epoch=partition_epoch, replicas=replicas)
        self._step(leader, released)
        self._give_up(leader.uncommittable(), ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND)

    def configure(self, config: TopicConfig, throttled_as: ThrottledAs) -> None:
        self.log.config, self.throttled_as = config, throttled_as
        if self.leader is not None:
            self.leader.min_insync_replicas = config.min_insync_replicas

    def replicated(self, appended_bytes: int, leaders_high_watermark: int) -> None:
        """The replica fetcher has written so much to the log, and the leader has said what is committed."""
        self._uncommitted_bytes += appended_bytes
        before = self.log.high_watermark
        self.log.high_watermark = followed_high_watermark(
            leaders=leaders_high_watermark, own=before, log_end_offset=self.log.log_end_offset
        )
        if self.log.high_watermark > before:
            appended, self._uncommitted_bytes = self._uncommitted_bytes, 0
            self._committed(appended)

    def _step(self, leader: PartitionLeader[Answer], released: Sequence[Answer]) -> None:
        self._release(released)
        if leader.proposal is not self._proposed:
            self._proposed = leader.proposal
            if self._proposed is not None:
                self.on_proposal(self)

    # -- reading ---------------------------------------------------------------------------------------------

    def refusal(self, current_leader_epoch: int) -> ErrorCode:
        """Why a client with this idea of the leader's epoch (-1 is none) cannot be answered, if so."""
        if self.ended_by is not ErrorCode.NONE:
            return self.ended_by
        if self.log.offline_reason:
            return ErrorCode.KAFKA_STORAGE_ERROR
        leader_epoch = self.leader_epoch
        if current_leader_epoch in (NO_LEADER_EPOCH, leader_epoch):
            return ErrorCode.NONE
        if current_leader_epoch < leader_epoch:
            return ErrorCode.FENCED_LEADER_EPOCH
        return ErrorCode.UNKNOWN_LEADER_EPOCH

    def watch(self, reader: Reader, *, is_follower: bool = False) -> None:
        if is_follower:
            self._follower_readers[reader] = None
            return
        if not self._readers:
            self._uncommitted_bytes = 0
        self._readers[reader] = None

    def unwatch(self, reader: Reader) -> None:
        self._readers.pop(reader, None)
        self._follower_readers.pop(reader, None)

    async def committed_up_to(self, offset: int) -> None:
        """Wait until everything below `offset` is committed; raises `AppendError` if this stops leading."""
        if self.leader is None:
            raise AppendError(ErrorCode.NOT_LEADER_OR_FOLLOWER, f"{self.log.name} is not led here")
        if self.log.high_watermark < offset:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting_for_commit.append((offset, future))
            await future

    def _wake_waiting(self) -> None:
        waiting, self._waiting_for_commit = self._waiting_for_commit, []
        for offset, future in waiting:
            if future.done():
                continue
            if offset <= self.log.high_watermark:
                future.set_result(None)
            else:
                self._waiting_for_commit.append((offset, future))

    async def read_committed_batches(self, from_offset: int) -> AsyncIterator[memoryview]:
        """Each whole batch from the one that contains `from_offset` up to the high watermark, which is first
        waited for: it must have passed all that is in the log or on its way there now, for that may be
        committed already.
        """
        if self.log.offline_reason:
            raise LogOfflineError(self.log.offline_reason)
        while self.has_mail:
            self.drain()
        await self.committed_up_to(self.log.log_end_offset)
        async for batch in self.batches_below_high_watermark(from_offset):
            yield batch

    async def batches_below_high_watermark(self, from_offset: int) -> AsyncIterator[memoryview]:
        """Each whole batch from the one that contains `from_offset`, as far as is known to be committed."""
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
        self.follower = None
        self._resign(code)
        self._readers.clear()
        self._follower_readers.clear()


def _nobody_listens(actor: PartitionActor) -> None:
    """A leader without followers proposes nothing."""


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

    def waits(self) -> None:
        """For as long as it takes."""
