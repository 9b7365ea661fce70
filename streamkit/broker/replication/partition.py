"""A partition as its leader sees it: what is durable where, what is committed, which replies that releases.

The leader counts itself by its *flushed* offset, a follower by the offset that it fetches from (everything
below is flushed there). The high watermark is the lowest of these over the in-sync replicas, and never goes
back.

A producer with acks=1 waits until the leader has flushed its records, one with acks=all until the high
watermark has passed them. Both kinds wait in the order of their offsets; a duplicate waits for the records
that it repeats, so its place may lie before others that are waiting.

What happens is stepped in (`delay`, `flushed`, `failed`); what may be answered comes back. Nothing is
answered here.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Generic, TypeVar

Reply = TypeVar("Reply")

ACKS_ALL = -1


class PartitionLeader(Generic[Reply]):
    """The leader's state of one partition, for one leader epoch.

    Invariant: `high_watermark <= min(durable of the in-sync replicas) <= log end`.
    """

    def __init__(
        self, *, node_id: int, leader_epoch: int, isr: Iterable[int], flushed_offset: int, high_watermark: int
    ) -> None:
        self.node_id = node_id
        self.leader_epoch = leader_epoch
        self.durable: dict[int, int] = dict.fromkeys(isr, high_watermark)
        """In-sync replica → the offset below which it has everything on disk."""
        self.high_watermark = high_watermark
        self._waiting_for_flush: list[tuple[int, int, Reply]] = []
        self._waiting_for_commit: list[tuple[int, int, Reply]] = []
        self._order = 0
        self.flushed(flushed_offset)

    @property
    def isr(self) -> tuple[int, ...]:
        return tuple(self.durable)

    def refuses(self, acks: int, min_insync_replicas: int) -> bool:
        """Whether too few replicas are in sync for a write that asks for all of them."""
        return acks == ACKS_ALL and len(self.durable) < min_insync_replicas

    def delay(self, acks: int, end_offset: int, reply: Reply) -> bool:
        """Keep `reply` until everything below `end_offset` is safe; False when it already is."""
        if acks == ACKS_ALL:
            if end_offset <= self.high_watermark:
                return False
            waiting = self._waiting_for_commit
        else:
            if end_offset <= self.durable[self.node_id]:
                return False
            waiting = self._waiting_for_flush
        self._order += 1
        heappush(waiting, (end_offset, self._order, reply))
        return True

    def flushed(self, offset: int) -> list[Reply]:
        """The leader's own log is durable below `offset`: the replies that are now safe."""
        if offset <= self.durable[self.node_id]:
            return []
        self.durable[self.node_id] = offset
        self.high_watermark = max(self.high_watermark, min(self.durable.values()))
        return released(self._waiting_for_flush, offset) + released(
            self._waiting_for_commit, self.high_watermark
        )

    def failed(self) -> list[Reply]:
        """Nothing becomes durable here any more: the replies that will never be safe."""
        replies = [reply for _, _, reply in self._waiting_for_flush + self._waiting_for_commit]
        self._waiting_for_flush.clear()
        self._waiting_for_commit.clear()
        return replies


def released(waiting: list[tuple[int, int, Reply]], offset: int) -> list[Reply]:
    """Take out of the heap whatever waits for an offset up to `offset`."""
    replies = []
    while waiting and waiting[0][0] <= offset:
        replies.append(heappop(waiting)[2])
    return replies
