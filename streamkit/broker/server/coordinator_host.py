"""The shell around the group coordinator's shards: one for each partition of `__consumer_offsets` led here.

A shard is loaded by replaying its partition; until then its groups are answered COORDINATOR_LOAD_IN_PROGRESS,
and NOT_COORDINATOR when another broker leads it. Then every decision is replayed at once, and all records of
one turn of the event loop are appended together. Replies wait in one queue with the appends before them, so
they leave in order and only over committed state; with nothing under way they leave at once.

If an append fails, memory is ahead of the log. Then everybody who waits is refused, and once the outcome of
all other appends is known the shard is loaded afresh.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import structlog

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.image import MetadataImage
from streamkit.broker.controller.topic_names import CONSUMER_OFFSETS
from streamkit.broker.coordination.group.coordinator import GroupCoordinator
from streamkit.broker.coordination.group.vocabulary import RebalanceCompleted, RebalanceStarted
from streamkit.broker.coordination.placement import partition_for
from streamkit.broker.coordination.shard import CoordinatorRecord, Decision, Instant, Refusal, Token
from streamkit.broker.quorum_config import internal_replication_factor
from streamkit.broker.server.group_cluster import GroupCluster
from streamkit.broker.server.timers import Timer, Timers
from streamkit.errors import StreamkitError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.errors import MalformedMessageError
from streamkit.protocol.records.batch import Buffer
from streamkit.protocol.records.record import Record, decode_records
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
READY_TIMEOUT_S = 5

log = structlog.get_logger(__name__)

Decide: TypeAlias = Callable[[GroupCoordinator, Token, Decision], None]


class OwnLog(Protocol):
    """What a shard needs of its partition."""

    def append(self, records: Sequence[Record]) -> asyncio.Future[int]:
        """Append one batch; done once it is committed."""
        ...

    def read_committed_batches(self, from_offset: int) -> AsyncIterator[Buffer]: ...


class Cluster(Protocol):
    """What the host needs of the cluster's metadata."""

    @property
    def image(self) -> MetadataImage: ...

    async def create_topic(
        self, name: str, *, partitions: int, replication_factor: int, configs: Mapping[str, str]
    ) -> int:
        """Make a topic of our own; NONE if it exists afterwards."""
        ...


class GroupMetrics:
    """Counts what the groups do; their state is measured by `GroupGauges` when somebody looks."""

    def __init__(self, registry: Registry) -> None:
        self._rebalances = registry.counter(
            "rebalances_total", "Rebalances of consumer groups that began", ("group", "reason")
        )
        self._rebalance_seconds = registry.histogram(
            "rebalance_seconds", "From the begin of a rebalance to the next assignment"
        ).labels()
        self._load_seconds = registry.histogram(
            "group_load_seconds", "Replaying one partition of the offsets topic"
        ).labels()

    def happened(self, event: object) -> None:
        if isinstance(event, RebalanceStarted):
            self._rebalances.labels(event.group_id, event.reason.value).value += 1
        elif isinstance(event, RebalanceCompleted):
            self._rebalance_seconds.observe(event.duration_ms / 1000)

    def loaded(self, seconds: float) -> None:
        self._load_seconds.observe(seconds)


@dataclass(frozen=True, kw_only=True)
class World:
    """What all shards of a broker share."""

    config: BrokerConfig
    cluster: GroupCluster
    clock: Clock
    timers: Timers
    spawn: Spawn
    metrics: GroupMetrics

    def now(self) -> Instant:
        return Instant(self.clock.now_ms(), self.clock.monotonic_ms())


class HostedShard:
    """One partition's shard: loading (`coordinator` is None), or deciding, until it is closed."""

    def __init__(self, partition: int, own_log: OwnLog, world: World) -> None:
        self.partition = partition
        self.coordinator: GroupCoordinator | None = None
        self.ready = asyncio.Event()
        """Set while requests can be decided, and when they never will be again."""
        self._log = own_log
        self._world = world
        self._closed = False
        self._records: list[CoordinatorRecord] = []
        self._replies: list[tuple[Token, Message]] = []
        self._appends: deque[tuple[asyncio.Future[int], list[tuple[Token, Message]]]] = deque()
        self._waiting: dict[asyncio.Future[Message], None] = {}
        self._alarm: Timer | None = None
        self._start_loading()

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────

    def ask(self, decide: Decide) -> asyncio.Future[Message]:
        """Decide now; the reply comes when it is ready and what it says is committed. Raises Refusal."""
        if self.coordinator is None:
            raise Refusal(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
        reply: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[reply] = None
        reply.add_done_callback(self._forget)
        decision = Decision(self._world.now())
        decide(self.coordinator, reply, decision)
        self._settle(self.coordinator, decision)
        self._tick()
        return reply

    def close(self) -> None:
        """Another broker, or none, is the coordinator from now on."""
        self._closed = True
        self._drop(ErrorCode.NOT_COORDINATOR)
        self.ready.set()

    # ── decisions ────────────────────────────────────────────────────────────────────────────────────────

    def _settle(self, coordinator: GroupCoordinator, decision: Decision) -> None:
        if any(len(record.key) + len(record.value or b"") > RECORD_BYTES for record in decision.records):
            self._refuse([token for token, _ in decision.replies], ErrorCode.INVALID_COMMIT_OFFSET_SIZE)
            return
        for event in decision.events:
            self._world.metrics.happened(event)
        if not (decision.records or self._records or self._appends):
            _send(decision.replies)
            return
        if not (self._records or self._replies):
            asyncio.get_running_loop().call_soon(self._drain)
        for record in decision.records:
            coordinator.replay(*record)
        self._records += decision.records
        self._replies += decision.replies

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
        records, self._records = self._records, []
        replies, self._replies = self._replies, []
        now_ms = self._world.clock.now_ms()
        for batch in _batches(records):
            appended = self._log.append([Record(timestamp=now_ms, key=r.key, value=r.value) for r in batch])
            self._appends.append((appended, []))
            appended.add_done_callback(self._committed)
        if self._appends:
            self._appends[-1][1].extend(replies)
        else:
            _send(replies)

    def _committed(self, appended: asyncio.Future[int]) -> None:
        failure = appended.exception()
        if failure is not None:
            self._fail(failure)
        while self._appends and self._appends[0][0].done():
            _send(self._appends.popleft()[1])

    # ── failing and loading ──────────────────────────────────────────────────────────────────────────────

    def _fail(self, failure: BaseException) -> None:
        if self.coordinator is None:
            return
        reason = failure.message if isinstance(failure, StreamkitError) else str(failure)
        log.error("group coordinator reloads", partition=self.partition, reason=reason)
        pending = [appended for appended, _ in self._appends]
        self._drop(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        self._world.spawn.start(self._reload(pending), name=f"reload-groups-{self.partition}")

    async def _reload(self, pending: Iterable[asyncio.Future[int]]) -> None:
        """Wait until it is known what the log holds, and a moment more for what failed to recover."""
        await asyncio.gather(*pending, return_exceptions=True)
        if not self._closed:
            self._world.timers.after(RELOAD_DELAY_MS, self._start_loading)

    def _drop(self, code: ErrorCode) -> None:
        """Forget everything in memory, and refuse whoever waits."""
        self.coordinator = None
        self.ready.clear()
        self._records, self._replies = [], []
        self._appends.clear()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._refuse(list(self._waiting), code)

    def _start_loading(self) -> None:
        if not self._closed:
            self._world.spawn.start(self._load(), name=f"load-groups-{self.partition}")

    async def _load(self) -> None:
        began_s = self._world.clock.monotonic_s()
        try:
            coordinator = await self._replayed()
        except (StreamkitError, OSError) as error:
            log.error("groups cannot be loaded", partition=self.partition, reason=str(error))
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

    async def _replayed(self) -> GroupCoordinator:
        clock = self._world.clock
        coordinator = GroupCoordinator(self._world.config, self._world.cluster)
        slice_s = clock.monotonic_s()
        async for batch in self._log.read_committed_batches(0):
            for record in decode_records(batch):
                self._replay(coordinator, record)
            if clock.monotonic_s() - slice_s > LOAD_SLICE_S:
                await asyncio.sleep(0)
                slice_s = clock.monotonic_s()
        return coordinator

    def _replay(self, coordinator: GroupCoordinator, record: Record) -> None:
        """A record that nobody can read must not take the groups of a whole partition down."""
        if record.key is None:
            return
        try:
            coordinator.replay(record.key, record.value)
        except MalformedMessageError as error:
            log.error(
                "unreadable group record",
                partition=self.partition,
                offset=record.offset,
                reason=error.message,
            )

    # ── small ────────────────────────────────────────────────────────────────────────────────────────────

    def _forget(self, reply: asyncio.Future[Message]) -> None:
        self._waiting.pop(reply, None)

    def _refuse(self, tokens: Iterable[Token], code: ErrorCode) -> None:
        for token in tokens:
            assert isinstance(token, asyncio.Future)
            if not token.done():
                token.set_exception(Refusal(code))


class GroupHost:
    """All shards of this broker, and the way from a group's name to its shard."""

    def __init__(
        self,
        config: BrokerConfig,
        *,
        cluster: Cluster,
        leads: Callable[[str, int], OwnLog | None],
        clock: Clock,
        timers: Timers,
        spawn: Spawn,
        metrics: Registry,
    ) -> None:
        """`leads` gives the log of a partition that this broker leads."""
        self.shards: dict[int, HostedShard] = {}
        self._config = config
        self._cluster = cluster
        self._leads = leads
        self._world = World(
            config=config,
            cluster=GroupCluster(config, lambda: cluster.image),
            clock=clock,
            timers=timers,
            spawn=spawn,
            metrics=GroupMetrics(metrics),
        )

    def refresh(self, deleted_topics: Iterable[str] = (), changed_topics: Iterable[str] = ()) -> None:
        """The metadata changed: host the shards whose partitions are led here, and no others.

        `changed_topics` are new or have more partitions.
        """
        for partition in range(self._partition_count()):
            own_log = self._leads(CONSUMER_OFFSETS, partition)
            if own_log is not None and partition not in self.shards:
                self.shards[partition] = HostedShard(partition, own_log, self._world)
            elif own_log is None and partition in self.shards:
                self.shards.pop(partition).close()
        deleted = frozenset(deleted_topics)
        changed = deleted.union(changed_topics)
        for coordinator in self.coordinators() if changed else ():
            coordinator.topics_changed(changed)
        if CONSUMER_OFFSETS in deleted:
            self.close()
        elif deleted:
            self._forget_topics(deleted)

    async def settled(self) -> None:
        """All shards are loaded, or it takes long enough to let their clients wait instead."""
        await asyncio.gather(*(_settled(shard) for shard in self.shards.values()))

    def close(self) -> None:
        for shard in self.shards.values():
            shard.close()
        self.shards.clear()

    def ask(self, group_id: str, decide: Decide) -> asyncio.Future[Message]:
        """Have the group's shard decide. Raises Refusal, now or from the future."""
        partition = self.partition_of(group_id)
        shard = None if partition is None else self.shards.get(partition)
        if shard is None:
            raise Refusal(ErrorCode.NOT_COORDINATOR)
        return shard.ask(decide)

    def partition_of(self, group_id: str) -> int | None:
        """The partition that holds the group; None before the offsets topic exists."""
        partitions = self._partition_count()
        return partition_for(group_id, partitions) if partitions else None

    async def find(self, group_id: str) -> int:
        """The id of the group's coordinator; makes the offsets topic if there is none. Raises Refusal.

        A shard that is new here is waited for a little, so that the next request does not meet it loading.
        """
        if not self._partition_count():
            await self._create_offsets_topic()
        partition = self.partition_of(group_id)
        registration = (
            None if partition is None else self._cluster.image.partition(CONSUMER_OFFSETS, partition)
        )
        if partition is None or registration is None or registration.leader < 0:
            raise Refusal(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        if registration.leader == self._config.node_id and partition in self.shards:
            await _settled(self.shards[partition])
        return registration.leader

    def coordinators(self) -> Iterator[GroupCoordinator]:
        """The shards that have been loaded."""
        return (shard.coordinator for shard in self.shards.values() if shard.coordinator is not None)

    @property
    def is_loading(self) -> bool:
        return any(shard.coordinator is None for shard in self.shards.values())

    async def _create_offsets_topic(self) -> None:
        replication_factor = internal_replication_factor(
            self._config.offsets_topic_replication_factor,
            voters=len(self._config.voters()),
            brokers=sum(1 for _ in self._cluster.image.live_brokers()),
        )
        if replication_factor is None:
            raise Refusal(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        code = await self._cluster.create_topic(
            CONSUMER_OFFSETS,
            partitions=self._config.offsets_topic_num_partitions,
            replication_factor=replication_factor,
            configs={
                "cleanup.policy": "compact",
                "compression.type": "producer",
                "segment.bytes": str(self._config.offsets_topic_segment_bytes),
            },
        )
        if code != ErrorCode.NONE:
            log.error("the offsets topic cannot be created", code=code)
            raise Refusal(ErrorCode.COORDINATOR_NOT_AVAILABLE)

    def _forget_topics(self, topics: frozenset[str]) -> None:
        def decide(coordinator: GroupCoordinator, token: Token, decision: Decision) -> None:
            coordinator.forget_topics(topics, decision)
            assert isinstance(token, asyncio.Future)
            token.cancel()

        for shard in self.shards.values():
            if shard.coordinator is not None:
                shard.ask(decide)

    def _partition_count(self) -> int:
        topic = self._cluster.image.topics.get(CONSUMER_OFFSETS)
        return len(topic.partitions) if topic is not None else 0


async def _settled(shard: HostedShard) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(READY_TIMEOUT_S):
            await shard.ready.wait()


def _send(replies: Iterable[tuple[Token, Message]]) -> None:
    for token, message in replies:
        assert isinstance(token, asyncio.Future)
        if not token.done():
            token.set_result(message)


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
