"""One partition's shard of a coordinator, and the shell around it: loading, deciding, appending, failing.

A shard is loaded by replaying its partition; until then clients are answered COORDINATOR_LOAD_IN_PROGRESS.
Then every decision is replayed at once, and all records of one turn of the event loop are appended together.
Replies wait in one queue with the appends before them, so they leave in order and only over committed state;
with nothing under way they leave at once. Commands of a decision are carried out when its replies leave.

If an append fails, memory is ahead of the log. Then everybody who waits is refused, and once the outcome of
all other appends is known the shard is loaded afresh.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, Protocol, TypeAlias

import structlog

from streamkit.broker.coordination.shard import (
    CoordinatorRecord,
    Decision,
    Instant,
    Producer,
    Refusal,
    Token,
    TransactionEnd,
)
from streamkit.broker.server.coordinators.shard_loading import S, ShardLoading
from streamkit.broker.server.timers import Timer, Timers
from streamkit.errors import StreamkitError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.records.batch import Buffer
from streamkit.protocol.records.control import TransactionMarker, marker_record
from streamkit.protocol.records.record import Record, encode_batch
from streamkit.protocol.schema import Message
from streamkit.runtime.contracts.clock import Clock
from streamkit.runtime.contracts.spawn import Spawn
from streamkit.telemetry.instruments import Registry

BATCH_BYTES = 512 * 1024
"""Records of one turn go into batches of about this size, well below the limit of a batch."""
RECORD_BYTES = 1000 * 1024
"""A larger record would not fit into a batch."""
LOAD_SLICE_S = 0.005
RELOAD_DELAY_MS = 1000

log = structlog.get_logger(__name__)

Decide: TypeAlias = Callable[[S, Token, Decision], None]


class OwnLog(Protocol):
    """What a shard needs of its partition."""

    @property
    def leader_epoch(self) -> int:
        """The epoch in which the partition is led here now."""
        ...

    def append_batch(self, batch: bytes) -> asyncio.Future[int]:
        """Append one batch of our own; done once it is committed."""
        ...

    def read_committed_batches(self, from_offset: int) -> AsyncIterator[Buffer]: ...


class ShardMetrics(Protocol):
    def happened(self, event: object) -> None: ...

    def loaded(self, seconds: float) -> None: ...


class LoadMetrics:
    """Of shards without events: how long each took to load, under a name of their own."""

    def __init__(self, registry: Registry, name: str, doc: str) -> None:
        self._seconds = registry.histogram(name, doc).labels()

    def happened(self, event: object) -> None:
        raise AssertionError(f"these shards have no events, and this is {event}")

    def loaded(self, seconds: float) -> None:
        self._seconds.observe(seconds)


class World:
    """What all shards of one host share."""

    def __init__(self, clock: Clock, timers: Timers, spawn: Spawn, metrics: ShardMetrics) -> None:
        self.clock = clock
        self.timers = timers
        self.spawn = spawn
        self.metrics = metrics
        self.replaying = asyncio.Lock()
        self.slice_ends_s = 0.0
        """When whoever replays lets others have a turn."""

    def now(self) -> Instant:
        return Instant(self.clock.now_ms(), self.clock.monotonic_ms())


class Release(NamedTuple):
    """What leaves once everything appended before it is committed."""

    replies: list[tuple[Token, Message]]
    commands: list[object]


class Appending(NamedTuple):
    """A batch on its way to be committed, what it holds, and what waits for that."""

    offset: asyncio.Future[int]
    records: Sequence[CoordinatorRecord]
    release: Release


class Outgoing(NamedTuple):
    """Records for one batch, as far as its size allows; or a marker, which is a batch of its own."""

    records: list[CoordinatorRecord]
    transaction: Producer | None = None
    end: TransactionEnd | None = None


class HostedShard(Generic[S]):
    """One partition's shard: loading (`coordinator` is None), or deciding, until it is closed."""

    def __init__(
        self,
        name: str,
        own_log: OwnLog,
        world: World,
        *,
        is_compacted: bool,
        make: Callable[[], S],
        carry_out: Callable[[HostedShard[S], object], None],
        stored: Callable[[S, CoordinatorRecord, int], None],
    ) -> None:
        """`name` is the partition's; where it `is_compacted`, only the newest record of each key counts.
        `make` gives an empty shard, `carry_out` does what a command says, and `stored` is told at which
        offset each record is committed.
        """
        self.name = name
        self.leader_epoch = own_log.leader_epoch
        """The epoch for which it is the coordinator: whoever led in between has written what it never saw."""
        self.coordinator: S | None = None
        self.ready = asyncio.Event()
        """Set while requests can be decided, and when they never will be again."""
        self._log = own_log
        self._world = world
        self._is_compacted = is_compacted
        self._make = make
        self._carry_out = carry_out
        self._stored = stored
        self._closed = False
        self._outgoing: list[Outgoing] = []
        self._release = Release([], [])
        self._appends: deque[Appending] = deque()
        self._waiting: dict[asyncio.Future[Message], None] = {}
        self._alarm: Timer | None = None
        self._start_loading()

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────

    def ask(self, decide: Decide[S]) -> asyncio.Future[Message]:
        """Decide now; the reply comes when it is ready and what it says is committed. Raises Refusal."""
        if self.coordinator is None:
            raise Refusal(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
        reply: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[reply] = None
        reply.add_done_callback(self._forget)
        decision = Decision(self._world.now())
        try:
            decide(self.coordinator, reply, decision)
        except BaseException:
            reply.cancel()
            raise
        self._settle(self.coordinator, decision)
        self._tick()
        return reply

    def tell(self, decide: Callable[[S, Decision], None]) -> None:
        """Decide on something that nobody waits for; nothing happens unless the shard is loaded."""
        if self.coordinator is not None:
            decision = Decision(self._world.now())
            decide(self.coordinator, decision)
            self._settle(self.coordinator, decision)
            self._tick()

    def is_coordinator_of(self, own_log: OwnLog) -> bool:
        """Whether it is the one for this log in its present leader epoch."""
        return self._log is own_log and self.leader_epoch == own_log.leader_epoch

    def close(self) -> None:
        """Another broker, or none, is the coordinator from now on."""
        self._closed = True
        self._drop(ErrorCode.NOT_COORDINATOR)
        self.ready.set()

    # ── decisions ────────────────────────────────────────────────────────────────────────────────────────

    def _settle(self, coordinator: S, decision: Decision) -> None:
        if any(len(record.key) + len(record.value or b"") > RECORD_BYTES for record in decision.records):
            self._refuse([token for token, _ in decision.replies], ErrorCode.INVALID_COMMIT_OFFSET_SIZE)
            return
        for event in decision.events:
            self._world.metrics.happened(event)
        if not (decision.records or decision.transaction_end or self._outgoing or self._appends):
            self._let_go(Release(decision.replies, decision.commands))
            return
        if not (self._outgoing or any(self._release)):
            asyncio.get_running_loop().call_soon(self._drain)
        self._apply(coordinator, decision)
        self._release.replies.extend(decision.replies)
        self._release.commands.extend(decision.commands)

    def _apply(self, coordinator: S, decision: Decision) -> None:
        """Replay what was decided, and put it where the next drain takes it."""
        producer, end = decision.transaction, decision.transaction_end
        for record in decision.records:
            if producer is None:
                coordinator.replay(*record)
            else:
                coordinator.replay_in_transaction(producer.producer_id, *record)
        last = self._outgoing[-1] if self._outgoing else None
        if last is not None and last.end is None and last.transaction == producer:
            last.records.extend(decision.records)
        elif decision.records:
            self._outgoing.append(Outgoing(list(decision.records), producer))
        if end is not None:
            coordinator.end_transaction(end.producer.producer_id, committed=end.committed)
            self._outgoing.append(Outgoing([], end=end))

    def _tick(self) -> None:
        """Decide what is due, then wake up for the next."""
        coordinator = self.coordinator
        if coordinator is None:
            return
        while (decision := coordinator.tick(self._world.now())) is not None:
            self._settle(coordinator, decision)
        wake_ms = coordinator.wake_at_ms()
        if wake_ms is None or (self._alarm is not None and self._alarm.deadline_ms <= wake_ms):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._world.timers.after(wake_ms - self._world.clock.monotonic_ms(), self._alarmed)

    def _alarmed(self) -> None:
        self._alarm = None
        self._tick()

    # ── appends and replies ──────────────────────────────────────────────────────────────────────────────

    def _drain(self) -> None:
        """Append what this turn decided; its replies queue up behind it."""
        outgoing, self._outgoing = self._outgoing, []
        release, self._release = self._release, Release([], [])
        now_ms = self._world.clock.now_ms()
        for batch, records in _encoded(outgoing, now_ms):
            appended = self._log.append_batch(batch)
            self._appends.append(Appending(appended, records, Release([], [])))
            appended.add_done_callback(self._committed)
        if self._appends:
            last = self._appends[-1].release
            last.replies.extend(release.replies)
            last.commands.extend(release.commands)
        else:
            self._let_go(release)

    def _committed(self, appended: asyncio.Future[int]) -> None:
        failure = appended.exception()
        if failure is not None:
            self._fail(failure)
        while self._appends and self._appends[0].offset.done():
            done = self._appends.popleft()
            if self.coordinator is not None:
                for offset, record in enumerate(done.records, done.offset.result()):
                    self._stored(self.coordinator, record, offset)
            self._let_go(done.release)

    def _let_go(self, release: Release) -> None:
        for token, message in release.replies:
            assert isinstance(token, asyncio.Future)
            if not token.done():
                token.set_result(message)
        for command in release.commands:
            self._carry_out(self, command)

    # ── failing and loading ──────────────────────────────────────────────────────────────────────────────

    def _fail(self, failure: BaseException) -> None:
        if self.coordinator is None:
            return
        reason = failure.message if isinstance(failure, StreamkitError) else str(failure)
        log.error("coordinator reloads", partition=self.name, reason=reason)
        pending = [appending.offset for appending in self._appends]
        self._drop(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        self._world.spawn.start(self._reload(pending), name=f"reload {self.name}")

    async def _reload(self, pending: Iterable[asyncio.Future[int]]) -> None:
        """Wait until it is known what the log holds, and a moment more for what failed to recover."""
        await asyncio.gather(*pending, return_exceptions=True)
        if not self._closed:
            self._world.timers.after(RELOAD_DELAY_MS, self._start_loading)

    def _drop(self, code: ErrorCode) -> None:
        """Forget everything in memory, and refuse whoever waits."""
        self.coordinator = None
        self.ready.clear()
        self._outgoing, self._release = [], Release([], [])
        self._appends.clear()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._refuse(list(self._waiting), code)

    def _start_loading(self) -> None:
        if not self._closed:
            self._world.spawn.start(self._load(), name=f"load {self.name}")

    async def _load(self) -> None:
        began_s = self._world.clock.monotonic_s()
        try:
            coordinator = await self._replayed()
        except (StreamkitError, OSError) as error:
            log.error("coordinator cannot be loaded", partition=self.name, reason=str(error))
            self._world.timers.after(RELOAD_DELAY_MS, self._start_loading)
            return
        if self._closed:
            return
        self._world.metrics.loaded(self._world.clock.monotonic_s() - began_s)
        self.coordinator = coordinator
        decision = Decision(self._world.now())
        coordinator.loaded(decision)
        self._settle(coordinator, decision)
        self._tick()
        self.ready.set()

    async def _replayed(self) -> S:
        """One shard after the other is replayed, so that the first need not wait for the last."""
        coordinator = self._make()
        loading = ShardLoading(
            coordinator, name=self.name, is_compacted=self._is_compacted, stored=self._stored
        )
        batches = self._log.read_committed_batches(0)
        first = await anext(batches, None)  # comes when all that is there is committed
        async with self._world.replaying:
            if first is not None:
                await self._in_slices(loading.take(first))
            async for batch in batches:
                if self._closed:
                    break
                await self._in_slices(loading.take(batch))
            await self._in_slices(loading.rest())
        return coordinator

    async def _in_slices(self, work: Iterator[None]) -> None:
        clock = self._world.clock
        for _ in work:
            if clock.monotonic_s() > self._world.slice_ends_s:
                await asyncio.sleep(0)
                self._world.slice_ends_s = clock.monotonic_s() + LOAD_SLICE_S

    # ── small ────────────────────────────────────────────────────────────────────────────────────────────

    def _forget(self, reply: asyncio.Future[Message]) -> None:
        self._waiting.pop(reply, None)

    def _refuse(self, tokens: Iterable[Token], code: ErrorCode) -> None:
        for token in tokens:
            assert isinstance(token, asyncio.Future)
            if not token.done():
                token.set_exception(Refusal(code))


def _encoded(
    outgoing: Iterable[Outgoing], now_ms: int
) -> Iterator[tuple[bytes, Sequence[CoordinatorRecord]]]:
    """Batches, each with the records that count once it is committed: of transactions, none do."""
    for one in outgoing:
        if one.end is not None:
            yield encoded_marker(one.end, now_ms), ()
            continue
        for records in _batches(one.records):
            made = [Record(timestamp=now_ms, key=record.key, value=record.value) for record in records]
            if one.transaction is None:
                yield encode_batch(made), records
            else:
                producer_id, epoch = one.transaction
                encoded = encode_batch(
                    made, producer_id=producer_id, producer_epoch=epoch, transactional=True
                )
                yield encoded, ()


def encoded_marker(end: TransactionEnd, now_ms: int) -> bytes:
    """The control batch that ends a producer's transaction in a partition."""
    marker = TransactionMarker(committed=end.committed, coordinator_epoch=end.coordinator_epoch)
    key, value = marker_record(marker)
    return encode_batch(
        [Record(timestamp=now_ms, key=key, value=value)],
        producer_id=end.producer.producer_id,
        producer_epoch=end.producer.epoch,
        transactional=True,
        control=True,
    )


def _batches(records: Sequence[CoordinatorRecord]) -> Iterator[list[CoordinatorRecord]]:
    """The records in order, in batches of about BATCH_BYTES."""
    batch: list[CoordinatorRecord] = []
    size = 0
    for record in records:
        record_bytes = len(record.key) + len(record.value or b"")
        if batch and size + record_bytes > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += record_bytes
    if batch:
        yield batch
