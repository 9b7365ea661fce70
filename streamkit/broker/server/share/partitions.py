"""The share-partitions of this broker: each led here, loaded once in its leader epoch, and kept while used.

`SharePartition` has the rules; here is what they need. A share-partition is loaded by reading its persisted
state; whoever fetches meanwhile is told when it is there. Changes of state are written one write after the
other: what is asked for while one is under way goes into the next. An acknowledgement is answered when its
write has been. Whatever says that this broker is not the one to write (another leader's read, an altered or
deleted group) ends the share-partition: who waits is refused, and the next fetch loads it anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

import structlog

from streamkit.broker.coordination.shard import Refusal
from streamkit.broker.coordination.share.share_partition import (
    Acknowledgement,
    Acquired,
    Fetched,
    SharePartition,
    Transition,
    Wish,
)
from streamkit.broker.coordination.share.states import NO_OFFSET, SharePartitionKey, StateBatch
from streamkit.broker.offset_reset import OffsetReset, ResetTo
from streamkit.broker.server.replicas.partition_actor import PartitionActor
from streamkit.broker.server.share.metrics import ShareMetrics
from streamkit.broker.server.share.persister import SharePersister
from streamkit.broker.server.share.settings import ShareSettings
from streamkit.broker.server.timers import Timer, Timers
from streamkit.broker.storage.errors import LogOfflineError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages import read_share_group_state, write_share_group_state
from streamkit.runtime.contracts.clock import Clock
from streamkit.runtime.contracts.spawn import Spawn

log = structlog.get_logger(__name__)

FENCED: Final = frozenset((ErrorCode.FENCED_LEADER_EPOCH, ErrorCode.FENCED_STATE_EPOCH))
PASSING: Final = frozenset(
    (
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    )
)


class Waiter(Protocol):
    """A parked fetch."""

    def more_is_free(self) -> None:
        """A share-partition that it watches was loaded, may give more, or has ended."""
        ...


class World(NamedTuple):
    """What all share-partitions of this broker need."""

    clock: Clock
    timers: Timers
    spawn: Spawn
    persister: SharePersister
    metrics: ShareMetrics
    settings: Callable[[str], ShareSettings]


class Change(NamedTuple):
    """What is to be persisted, and who waits for it. Without a transition it has happened already."""

    batches: tuple[StateBatch, ...]
    transition: Transition | None = None
    done: asyncio.Future[None] | None = None


class HostedSharePartition:
    """One share-partition: loading, serving, or ended (`ended_by`)."""

    def __init__(
        self,
        key: SharePartitionKey,
        actor: PartitionActor,
        world: World,
        *,
        on_end: Callable[[HostedSharePartition], None],
    ) -> None:
        self.key = key
        self.actor = actor
        self.leader_epoch = actor.leader_epoch
        self.ended_by = ErrorCode.NONE
        """Why it serves nobody any more, or NONE while it does."""
        self.read_committed = False
        self._world = world
        self._on_end = on_end
        self._share: SharePartition | None = None
        self._waiters: dict[Waiter, None] = {}
        self._changes: list[Change] = []
        self._writing = False
        self._alarm: Timer | None = None
        world.spawn.start(self._load(), name="load share-partition")

    @property
    def is_loaded(self) -> bool:
        return self._share is not None

    @property
    def is_current(self) -> bool:
        """Whether the partition is still led here in the epoch for which this was loaded."""
        actor = self.actor
        return actor.leader is not None and actor.leader_epoch == self.leader_epoch and not actor.ended_by

    def watch(self, waiter: Waiter) -> None:
        self._waiters[waiter] = None

    def unwatch(self, waiter: Waiter) -> None:
        self._waiters.pop(waiter, None)

    def end(self, code: ErrorCode) -> None:
        """Serve nobody any more; whoever waits for a change hears `code`."""
        if self.ended_by is not ErrorCode.NONE:
            return
        self.ended_by = code
        self._share = None
        changes, self._changes = self._changes, []
        for change in changes:
            _refuse(change, code)
        if self._alarm is not None:
            self._alarm.cancel()
        self._on_end(self)
        self._wake()

    # ── loading ────────────────────────────────────────────────────────────────────────────────────────

    async def _load(self) -> None:
        try:
            share = await self._loaded()
        except Refusal as refusal:
            log.info("share-partition cannot be loaded", share=self.key[0], reason=str(refusal))
            self.end(refusal.code)
            return
        except (LogOfflineError, OSError):
            self.end(ErrorCode.KAFKA_STORAGE_ERROR)
            return
        if self.ended_by is ErrorCode.NONE:
            self._share = share
            self._wake()

    async def _loaded(self) -> SharePartition:
        result = await self._read()
        if result.error_code != ErrorCode.NONE:
            raise Refusal(_told(result.error_code), result.error_message)
        settings = self._world.settings(self.key.group_id)
        start_offset = result.start_offset
        if start_offset == NO_OFFSET:
            start_offset = await self._first_offset(settings.reset)
        share = SharePartition(
            settings.limits,
            start_offset=start_offset,
            state_epoch=result.state_epoch,
            batches=[
                StateBatch(one.first_offset, one.last_offset, one.delivery_state, one.delivery_count)
                for one in result.state_batches
            ],
        )
        if result.start_offset == NO_OFFSET and settings.reset.to is not ResetTo.EARLIEST:
            # Where "latest" is must not move on if this broker is lost before anybody has answered.
            code = await self._write(share, ())
            if code is not ErrorCode.NONE:
                raise Refusal(_told(code))
        return share

    async def _read(self) -> read_share_group_state.PartitionResult:
        wanted = read_share_group_state.PartitionData(
            partition=self.key.partition, leader_epoch=self.leader_epoch
        )
        topic = read_share_group_state.ReadStateData(topic_id=self.key.topic_id, partitions=[wanted])
        response = await self._world.persister.read(
            read_share_group_state.ReadShareGroupStateRequest(group_id=self.key.group_id, topics=[topic])
        )
        return response.results[0].partitions[0]

    async def _first_offset(self, reset: OffsetReset) -> int:
        actor = self.actor
        if reset.to is ResetTo.EARLIEST:
            return actor.log.log_start_offset
        if reset.to is ResetTo.LATEST:
            return actor.high_watermark
        found = await actor.log.find_by_timestamp(self._world.clock.now_ms() - reset.duration_ms)
        return actor.high_watermark if found is None else min(found.offset, actor.high_watermark)

    # ── handing out ────────────────────────────────────────────────────────────────────────────────────

    def next_fetch_offset(self) -> int | None:
        """From where to read what can be handed out; None if nothing can be now."""
        share = self._share
        if share is None:
            return None
        settings = self._world.settings(self.key.group_id)
        share.limits, self.read_committed = settings.limits, settings.read_committed
        share.log_begins_at(self.actor.log.log_start_offset)
        return share.next_fetch_offset() if share.can_acquire else None

    def acquire(self, wish: Wish, fetched: Sequence[Fetched], fetch_offset: int) -> list[Acquired]:
        share = self._share
        if share is None:
            return []
        acquired = share.acquire(wish, fetched, fetch_offset, self._world.clock.monotonic_ms())
        if acquired:
            count = sum(one.last - one.first + 1 for one in acquired)
            self._world.metrics.acquired(self.key.group_id, count)
            self._set_alarm()
        return acquired

    # ── answers ────────────────────────────────────────────────────────────────────────────────────────

    def acknowledge(
        self, member_id: str, acknowledgements: Sequence[Acknowledgement]
    ) -> asyncio.Future[None]:
        """Done once it is persisted. Raises Refusal, now or from the future."""
        share = self._serving()
        now_ms = self._world.clock.monotonic_ms()
        transition = share.acknowledge(member_id, acknowledgements, now_ms)
        self._set_alarm()
        done = self._change(transition)
        done.add_done_callback(lambda done: self._count(done, acknowledgements))
        return done

    def release(self, member_id: str) -> asyncio.Future[None]:
        """Give what a member holds to others; its session is over."""
        return self._change(self._serving().release(member_id))

    def _serving(self) -> SharePartition:
        if self._share is None:
            raise Refusal(self.ended_by or ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        return self._share

    def _change(self, transition: Transition) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if transition.stretches:
            self._persist(Change(transition.batches, transition, done))
        else:
            done.set_result(None)
        return done

    def _count(self, done: asyncio.Future[None], acknowledgements: Sequence[Acknowledgement]) -> None:
        if not done.cancelled() and done.exception() is None:
            self._world.metrics.acknowledged(self.key.group_id, acknowledgements)

    # ── persisting ─────────────────────────────────────────────────────────────────────────────────────

    def _persist(self, change: Change) -> None:
        self._changes.append(change)
        if not self._writing:
            self._writing = True
            self._world.spawn.start(self._write_changes(), name="write share-partition")

    async def _write_changes(self) -> None:
        try:
            while self._changes and self._share is not None:
                share = self._share
                changes, self._changes = self._changes, []
                batches = [batch for change in changes for batch in change.batches]
                code = await self._write(share, batches)
                if self._share is share:
                    self._settle(share, changes, code)
                else:
                    _refuse_all(changes, self.ended_by)
        finally:
            self._writing = False

    async def _write(self, share: SharePartition, batches: Sequence[StateBatch]) -> ErrorCode:
        content = share.to_write(batches)
        wanted = write_share_group_state.PartitionData(
            partition=self.key.partition,
            state_epoch=share.state_epoch,
            leader_epoch=self.leader_epoch,
            start_offset=content.start_offset,
            delivery_complete_count=content.complete_count,
            state_batches=[
                write_share_group_state.StateBatch(
                    first_offset=one.first,
                    last_offset=one.last,
                    delivery_state=one.state,
                    delivery_count=one.delivery_count,
                )
                for one in content.batches
                if one.last >= content.start_offset
            ],
        )
        topic = write_share_group_state.WriteStateData(topic_id=self.key.topic_id, partitions=[wanted])
        response = await self._world.persister.write(
            write_share_group_state.WriteShareGroupStateRequest(group_id=self.key.group_id, topics=[topic])
        )
        code = response.results[0].partitions[0].error_code
        return ErrorCode(code)  # type: ignore[call-arg]  # looked up by value

    def _settle(self, share: SharePartition, changes: Sequence[Change], code: ErrorCode) -> None:
        for change in changes:
            if change.transition is not None:
                (share.failed if code else share.persisted)(change.transition)
            if code:
                _refuse(change, _told(code))
            elif change.done is not None and not change.done.done():
                change.done.set_result(None)
        if code and code not in PASSING:
            self.end(_told(code))
        else:
            self._wake()

    # ── time ───────────────────────────────────────────────────────────────────────────────────────────

    def _set_alarm(self) -> None:
        wake_ms = None if self._share is None else self._share.wake_at_ms
        if wake_ms is None or (self._alarm is not None and self._alarm.deadline_ms <= wake_ms):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        delay_ms = wake_ms - self._world.clock.monotonic_ms()
        self._alarm = self._world.timers.after(delay_ms, self._alarmed)

    def _alarmed(self) -> None:
        self._alarm = None
        if self._share is None:
            return
        batches = self._share.expire(self._world.clock.monotonic_ms())
        if batches:
            count = sum(one.last - one.first + 1 for one in batches)
            self._world.metrics.locks_ran_out(self.key.group_id, count)
            self._persist(Change(tuple(batches)))
            self._wake()
        self._set_alarm()

    def _wake(self) -> None:
        for waiter in tuple(self._waiters):
            waiter.more_is_free()


class SharePartitions:
    """All of them, by group."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._groups: dict[str, dict[SharePartitionKey, HostedSharePartition]] = {}

    def get(self, key: SharePartitionKey) -> HostedSharePartition | None:
        hosted = self._groups.get(key.group_id, {}).get(key)
        if hosted is not None and not hosted.is_current:
            hosted.end(ErrorCode.NOT_LEADER_OR_FOLLOWER)
            return None
        return hosted

    def load(self, key: SharePartitionKey, actor: PartitionActor) -> HostedSharePartition:
        """The share-partition of a partition that is led here; it may still be on its way."""
        hosted = self.get(key)
        if hosted is None:
            hosted = HostedSharePartition(key, actor, self._world, on_end=self._ended)
            self._groups.setdefault(key.group_id, {})[key] = hosted
        return hosted

    def refresh(self) -> None:
        """The metadata changed: end those that are not led here any more."""
        for hosted in self._all():
            if not hosted.is_current:
                hosted.end(ErrorCode.NOT_LEADER_OR_FOLLOWER)

    async def release(self, group_id: str, member_id: str) -> dict[SharePartitionKey, ErrorCode]:
        """Give all that a member holds here to others; what became of that in each share-partition."""
        held = [one for one in self._groups.get(group_id, {}).values() if one.is_loaded]
        codes = await asyncio.gather(*(_released(one, member_id) for one in held))
        return {one.key: code for one, code in zip(held, codes, strict=True)}

    def forget(self, group_id: str) -> None:
        """Nobody of this group fetches here any more."""
        for hosted in tuple(self._groups.get(group_id, {}).values()):
            hosted.end(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)

    def close(self) -> None:
        for hosted in self._all():
            hosted.end(ErrorCode.NOT_LEADER_OR_FOLLOWER)

    def _all(self) -> list[HostedSharePartition]:
        return [one for group in self._groups.values() for one in group.values()]

    def _ended(self, hosted: HostedSharePartition) -> None:
        group = self._groups.get(hosted.key.group_id, {})
        if group.get(hosted.key) is hosted:
            del group[hosted.key]
        if not group:
            self._groups.pop(hosted.key.group_id, None)


async def _released(hosted: HostedSharePartition, member_id: str) -> ErrorCode:
    try:
        await hosted.release(member_id)
    except Refusal as refusal:
        return refusal.code
    return ErrorCode.NONE


def _told(code: int) -> ErrorCode:
    """What a coordinator's error means to a consumer."""
    named = ErrorCode(code)  # type: ignore[call-arg]  # looked up by value
    if named in PASSING:
        return ErrorCode.COORDINATOR_NOT_AVAILABLE
    if named in FENCED:
        return ErrorCode.NOT_LEADER_OR_FOLLOWER
    if named in {ErrorCode.GROUP_ID_NOT_FOUND, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}:
        return named
    return ErrorCode.UNKNOWN_SERVER_ERROR


def _refuse_all(changes: Sequence[Change], code: ErrorCode) -> None:
    for change in changes:
        _refuse(change, code)


def _refuse(change: Change, code: ErrorCode) -> None:
    if change.done is not None and not change.done.done():
        change.done.set_exception(Refusal(code))
