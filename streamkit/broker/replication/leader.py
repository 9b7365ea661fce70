"""A partition as its leader sees it: who has what on disk, who is in sync, what is committed.

The idea. The leader writes; followers fetch, and the offset that a follower fetches from says what it holds:
everything below is on its disk, for it flushes before it fetches again. The leader counts itself by its own
flushed offset. The *high watermark* is the lowest of these offsets over the replicas that are in sync; what
lies below it survives the loss of all of them but one, so that is what consumers see and what acks=all waits
for.

Who is in sync (the ISR) is decided by the controller alone, because it elects the next leader from it. The
leader *proposes* another ISR: without a follower that has not been at the log's end for
`replica.lag.time.max.ms`, with one that has caught up. While a proposal is under way nobody here knows
whether it holds already, so the high watermark minds everybody who may be in the ISR: the *maximal* ISR.

    proposal   made by a fetch (somebody caught up) or a tick (somebody fell behind); never two at once
    accepted   the answer, or newer metadata: that ISR holds
    refused    the answer says that nothing was changed: the old ISR holds, and a little later a new try
    unknown    lost on the way or out of date: asked again, or settled by newer metadata

What a follower told in an earlier leader epoch counts for nothing: a leader is made anew for each epoch, and
every follower starts unknown. It joins the ISR only once it has reached both the high watermark and the
offset at which this epoch began (KIP-679's and KIP-966's premise), and only if its broker is alive and the
one that fetched (KIP-841, KIP-903). A follower on its way in holds the high watermark, or it might never
reach it. With fewer in sync than `min.insync.replicas` the high watermark stands still (KIP-966): a replica
that left the ISR then still has all that was ever committed.

Invariants:
    node_id ∈ ISR ⊆ maximal ISR
    the high watermark never goes back, and when it moves it stops at the durable offset of every member of
    the maximal ISR

What happens is stepped in; what may be answered comes back, in the order of offsets. Nothing is answered,
sent or timed here. Sources: KIP-101, KIP-279, KIP-497, KIP-841, KIP-903, KIP-966.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Generic, TypeAlias, TypeVar

import msgspec

Reply = TypeVar("Reply")
Waiting: TypeAlias = tuple[int, Reply]
"""For everything below an offset; kept by that offset, and those of one offset as they came."""

ACKS_ALL = -1
UNKNOWN = -1
NEVER_MS = -(1 << 62)
RETRY_MS = 200
"""A proposal that was refused is not made again before that."""


class Follower(msgspec.Struct, gc=False, kw_only=True):
    """What the leader knows of another replica, in this leader epoch.

    `end_offset`: everything below is on its disk. `caught_up_ms`: when it last had everything that the leader
    had when it asked.
    """

    broker_id: int
    caught_up_ms: int
    end_offset: int = UNKNOWN
    log_start_offset: int = UNKNOWN
    broker_epoch: int = UNKNOWN
    fetched_ms: int = NEVER_MS
    leader_end_at_fetch: int = 0

    def fetched(self, fetch: FollowerFetch) -> None:
        """A follower that now has what the leader had at its last fetch was caught up at that time."""
        if fetch.offset >= fetch.leader_end_offset:
            self.caught_up_ms = max(self.caught_up_ms, fetch.now_ms)
        elif fetch.offset >= self.leader_end_at_fetch:
            self.caught_up_ms = max(self.caught_up_ms, self.fetched_ms)
        self.end_offset = fetch.offset
        self.log_start_offset = fetch.log_start_offset
        self.broker_epoch = fetch.broker_epoch
        self.fetched_ms = fetch.now_ms
        self.leader_end_at_fetch = fetch.leader_end_offset

    def is_caught_up(self, leader_end_offset: int, now_ms: int, lag_time_max_ms: int) -> bool:
        return self.end_offset == leader_end_offset or now_ms - self.caught_up_ms <= lag_time_max_ms


class FollowerFetch(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A fetch that passed the checks of leader epoch and last fetched epoch, so its offset is in this log."""

    broker_id: int
    broker_epoch: int
    offset: int
    log_start_offset: int
    leader_end_offset: int
    now_ms: int


class IsrProposal(msgspec.Struct, frozen=True, kw_only=True):
    """The ISR that the leader asks for, each with the epoch of its broker (-1 unknown)."""

    isr: tuple[tuple[int, int], ...]
    leader_epoch: int
    partition_epoch: int

    @property
    def brokers(self) -> tuple[int, ...]:
        return tuple(broker_id for broker_id, _ in self.isr)


class PartitionLeader(Generic[Reply]):
    """The leader's state of one partition, for one leader epoch."""

    def __init__(
        self,
        *,
        node_id: int,
        leader_epoch: int,
        isr: Iterable[int],
        flushed_offset: int,
        high_watermark: int,
        partition_epoch: int = 0,
        replicas: Iterable[int] = (),
        start_offset: int = 0,
        min_insync_replicas: int = 1,
        lag_time_max_ms: int = 30_000,
        is_eligible: Callable[[int, int], bool] = lambda broker_id, broker_epoch: True,
        now_ms: int = 0,
    ) -> None:
        self.node_id = node_id
        self.leader_epoch = leader_epoch
        self.partition_epoch = partition_epoch
        self.isr = tuple(isr)
        """As the controller last said."""
        self.proposal: IsrProposal | None = None
        self.followers: dict[int, Follower] = {}
        """Every assigned replica but this one."""
        self.start_offset = start_offset
        """The log's end when this leader epoch began."""
        self.flushed_offset = flushed_offset
        self.high_watermark = high_watermark
        self.min_insync_replicas = min_insync_replicas
        self._lag_time_max_ms = lag_time_max_ms
        self._is_eligible = is_eligible
        self._now_ms = now_ms
        self._log_end_offset = start_offset
        self._next_try_ms = NEVER_MS
        self._waiting_for_flush: list[Waiting[Reply]] = []
        self._waiting_for_commit: list[Waiting[Reply]] = []
        self._assign(replicas or self.isr, now_ms)
        self._advance()

    # -- who is in sync

    @property
    def maximal_isr(self) -> tuple[int, ...]:
        if self.proposal is None:
            return self.isr
        return tuple(dict.fromkeys((*self.isr, *self.proposal.brokers)))

    @property
    def effective_min_isr(self) -> int:
        """More in sync than there are replicas cannot be asked for."""
        return min(self.min_insync_replicas, len(self.followers) + 1)

    @property
    def is_under_min_isr(self) -> bool:
        return len(self.isr) < self.effective_min_isr

    def _assign(self, replicas: Iterable[int], now_ms: int) -> None:
        known = self.followers
        self.followers = {
            broker_id: known.get(broker_id)
            or Follower(broker_id=broker_id, caught_up_ms=now_ms if broker_id in self.isr else NEVER_MS)
            for broker_id in replicas
            if broker_id != self.node_id
        }

    def fetched(self, fetch: FollowerFetch) -> list[Reply]:
        """A follower holds everything below its fetch's offset on disk: the replies that are now safe."""
        follower = self.followers[fetch.broker_id]
        self._now_ms, self._log_end_offset = fetch.now_ms, fetch.leader_end_offset
        follower.fetched(fetch)
        if self._may_join(follower):
            self._propose((*self.isr, follower.broker_id))
        return self._advance()

    def tick(self, now_ms: int, log_end_offset: int) -> list[Reply]:
        """Time has passed: propose an ISR without those who fell behind."""
        self._now_ms, self._log_end_offset = now_ms, log_end_offset
        behind = [broker_id for broker_id in self.isr if self._is_behind(broker_id)]
        if behind and self._may_propose():
            self._propose(tuple(broker_id for broker_id in self.isr if broker_id not in behind))
        return self._advance()

    def _is_behind(self, broker_id: int) -> bool:
        follower = self.followers.get(broker_id)
        return follower is not None and not self._is_caught_up(follower)

    def _is_caught_up(self, follower: Follower) -> bool:
        return follower.is_caught_up(self._log_end_offset, self._now_ms, self._lag_time_max_ms)

    def _may_join(self, follower: Follower) -> bool:
        return (
            follower.broker_id not in self.isr
            and follower.end_offset >= max(self.high_watermark, self.start_offset)
            and self._is_eligible(follower.broker_id, follower.broker_epoch)
            and self._may_propose()
        )

    def _may_propose(self) -> bool:
        return self.proposal is None and self._now_ms >= self._next_try_ms

    def _propose(self, isr: tuple[int, ...]) -> None:
        self.proposal = IsrProposal(
            isr=tuple((broker_id, self._broker_epoch(broker_id)) for broker_id in isr),
            leader_epoch=self.leader_epoch,
            partition_epoch=self.partition_epoch,
        )

    def _broker_epoch(self, broker_id: int) -> int:
        follower = self.followers.get(broker_id)
        return UNKNOWN if follower is None else follower.broker_epoch

    def refused(self) -> None:
        """The controller did not and will not do what was proposed."""
        self.proposal = None
        self._next_try_ms = self._now_ms + RETRY_MS

    def decided(
        self, *, isr: Iterable[int], partition_epoch: int, replicas: Iterable[int] | None = None
    ) -> list[Reply]:
        """What the controller says, in an answer or through the metadata: the replies that are now safe.

        Newer than what is known here it settles a proposal under way: accepted, or out of date.
        """
        if partition_epoch > self.partition_epoch:
            self.partition_epoch = partition_epoch
            self.isr = tuple(isr)
            self.proposal = None
        if replicas is not None:
            self._assign(replicas, self._now_ms)
        return self._advance()

    # -- what is committed

    def flushed(self, offset: int) -> list[Reply]:
        """The leader's own log is durable below `offset`: the replies that are now safe."""
        if offset <= self.flushed_offset:
            return []
        self.flushed_offset = offset
        return released(self._waiting_for_flush, offset) + self._advance()

    def _advance(self) -> list[Reply]:
        """Move the high watermark as far as the maximal ISR allows."""
        offset = self.flushed_offset if not self.followers else self._committed_offset()
        if offset <= self.high_watermark:
            return []
        self.high_watermark = offset
        return released(self._waiting_for_commit, offset)

    def _committed_offset(self) -> int:
        if self.is_under_min_isr:
            return self.high_watermark
        offset, maximal = self.flushed_offset, self.maximal_isr
        for follower in self.followers.values():
            if follower.end_offset < offset and (
                follower.broker_id in maximal or self._is_on_its_way_in(follower)
            ):
                offset = follower.end_offset
        return offset

    def waits_for(self, broker_id: int) -> bool:
        """Whether nothing is committed here before this follower has it."""
        follower = self.followers.get(broker_id)
        return follower is not None and (broker_id in self.maximal_isr or self._is_on_its_way_in(follower))

    def _is_on_its_way_in(self, follower: Follower) -> bool:
        return (
            follower.end_offset != UNKNOWN
            and self._is_caught_up(follower)
            and self._is_eligible(follower.broker_id, follower.broker_epoch)
        )

    # -- who waits

    def refuses(self, acks: int) -> bool:
        """Whether too few replicas are in sync for a write that asks for all of them."""
        return acks == ACKS_ALL and self.is_under_min_isr

    def delay(self, acks: int, end_offset: int, reply: Reply) -> bool:
        """Keep `reply` until everything below `end_offset` is safe; False when it already is.

        A duplicate waits for the records that it repeats, so its place may lie before others that wait.
        """
        if acks == ACKS_ALL:
            if end_offset <= self.high_watermark:
                return False
            waiting = self._waiting_for_commit
        else:
            if end_offset <= self.flushed_offset:
                return False
            waiting = self._waiting_for_flush
        if waiting and end_offset < waiting[-1][0]:
            insort(waiting, (end_offset, reply), key=_offset)
        else:
            waiting.append((end_offset, reply))
        return True

    def inherit(self, before: PartitionLeader[Reply]) -> None:
        """This replica leads on in a new epoch: its log goes on, and so does waiting for it."""
        self._waiting_for_flush, self._waiting_for_commit = (
            before._waiting_for_flush,
            before._waiting_for_commit,
        )

    def uncommittable(self) -> list[Reply]:
        """The replies that wait for a commit while too few are in sync for one; they are given up."""
        if not self._waiting_for_commit or not self.is_under_min_isr:
            return []
        waiting, self._waiting_for_commit = self._waiting_for_commit, []
        return [reply for _, reply in waiting]

    def failed(self) -> list[Reply]:
        """Nothing becomes safe here any more: everybody who waits, to be told so."""
        waiting = self._waiting_for_flush + self._waiting_for_commit
        self._waiting_for_flush, self._waiting_for_commit = [], []
        return [reply for _, reply in sorted(waiting, key=_offset)]


def released(waiting: list[Waiting[Reply]], offset: int) -> list[Reply]:
    """Take from the front of the list whatever waits for an offset up to `offset`."""
    if not waiting or waiting[0][0] > offset:
        return []
    count = bisect_right(waiting, offset, key=_offset)
    replies = [reply for _, reply in waiting[:count]]
    del waiting[:count]
    return replies


_offset = itemgetter(0)
