"""How fast replicas may be copied: a bound on the bytes per second of those that are named for it (KIP-73).

The idea. Moving partitions copies whole logs, and unbounded that takes the network and the disks from the
clients. Each broker counts the bytes of the replicas named in their topics' configurations: once for what it
sends of them as a leader, once for what it receives as a follower. While one of these rates is above its
bound, that side leaves out the named replicas that are not in sync.

    named, not in sync     held back while the rate is above the bound
    named, in sync         never held back, or the throttle would push it out of the ISR; but it counts, so
                           that those which are catching up leave it its part. So it is with one that is on
                           its way in: the high watermark waits for it, and with that the producers
    not named              neither held back nor counted

Clients' fetches and produces have nothing to do with it. What is fetched at once may overshoot the bound;
the time that follows makes up for it.

The rate is that of the last windows, Kafka's `replication.quota.window.num` of
`replication.quota.window.size.seconds` each: their bytes over the time since the oldest of them began, which
counts as one window at least.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from streamkit.runtime.contracts.clock import Clock

UNBOUNDED: Final = 2**63 - 1
EVERY_REPLICA: Final = "*"
EVERY_PARTITION: Final = range(2**31)


class ThrottledAs(NamedTuple):
    """The roles in which a replica is named for throttling."""

    leader: bool
    follower: bool


NOT_THROTTLED: Final = ThrottledAs(leader=False, follower=False)


@lru_cache(maxsize=64)
def named(replicas: tuple[str, ...], broker_id: int) -> Container[int]:
    """The partitions of a topic that its list (`*`, or `partition:broker` each) names on this broker."""
    if EVERY_REPLICA in replicas:
        return EVERY_PARTITION
    pairs = (one.split(":") for one in replicas)
    return frozenset(int(partition) for partition, broker in pairs if int(broker) == broker_id)


class Window(msgspec.Struct, gc=False):
    """Bytes that were counted within one window; it lives on after the last of them."""

    begin_ms: int
    last_ms: int
    size_bytes: int


class Throttle:
    """A bound in bytes per second, and the rate that it is held against."""

    def __init__(self, clock: Clock, *, windows: int, window_ms: int) -> None:
        self.bound = UNBOUNDED
        self.total_bytes = 0
        """All that was ever counted."""
        self._clock = clock
        self._window_ms = window_ms
        self._kept_ms = windows * window_ms
        self._windows: deque[Window] = deque()

    def record(self, size_bytes: int) -> None:
        if not size_bytes:
            return
        now_ms = self._clock.monotonic_ms()
        newest = self._windows[-1] if self._windows else None
        if newest is None or now_ms - newest.begin_ms >= self._window_ms:
            self._forget(now_ms)
            newest = Window(now_ms, now_ms, 0)
            self._windows.append(newest)
        newest.last_ms = now_ms
        newest.size_bytes += size_bytes
        self.total_bytes += size_bytes

    def rate(self) -> float:
        """Bytes per second over the windows that are kept."""
        now_ms = self._clock.monotonic_ms()
        self._forget(now_ms)
        if not self._windows:
            return 0.0
        elapsed_ms = max(now_ms - self._windows[0].begin_ms, self._window_ms)
        return sum(one.size_bytes for one in self._windows) * 1000 / elapsed_ms

    @property
    def is_exceeded(self) -> bool:
        return self.wait_ms() > 0

    def wait_ms(self) -> int:
        """How long until the rate is within the bound if nothing more is counted; 0 if it is now."""
        if self.bound == UNBOUNDED:
            return 0
        now_ms = self._clock.monotonic_ms()
        self._forget(now_ms)
        return max(0, self._within_bound_at_ms(now_ms) - now_ms)

    def _within_bound_at_ms(self, at_ms: int) -> int:
        """Time spreads what was counted, until its oldest window is forgotten: then on with the others."""
        left = sum(one.size_bytes for one in self._windows)
        for one in self._windows:
            if left * 1000 <= self.bound * self._window_ms:
                return at_ms
            forgotten_ms = one.last_ms + self._kept_ms
            spread_ms = one.begin_ms + -(-left * 1000 // self.bound) if self.bound else forgotten_ms
            if spread_ms < forgotten_ms:
                return max(at_ms, spread_ms)
            at_ms = max(at_ms, forgotten_ms)
            left -= one.size_bytes
        return at_ms

    def _forget(self, now_ms: int) -> None:
        while self._windows and now_ms - self._windows[0].last_ms >= self._kept_ms:
            self._windows.popleft()
