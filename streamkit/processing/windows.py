"""Windows over event time: what kinds there are, and when each takes records and closes.

    tumbling    [n·size, (n+1)·size): every record is in exactly one
    hopping     [n·every, n·every + size): every record is in size / every of them
    sliding     (t − size, t] for the time t of each record: "the last ten minutes", at every record
    session     records of a key no further apart than a gap
    count       every n records of a key, in the order of arrival; event time does not matter

All but the last are aligned to the epoch or to the records, never to a clock. At stream time T a window
accepts a record as long as `end > T − grace`; after that the record is late. It closes, once, when the task's
watermark reaches `end + grace`. So a task holds the windows of `size + grace` of event time and no more, and
the changelog holds their tombstones until the broker compacts them away.
"""

from __future__ import annotations

from math import gcd
from typing import Literal

import msgspec

from streamkit.errors import UsageError
from streamkit.processing.units import Duration, duration_ms


class Tumbling(msgspec.Struct, frozen=True):
    """Windows side by side: `size_ms` long, open for late records `grace_ms` past their end."""

    size_ms: int
    grace_ms: int

    @property
    def span_ms(self) -> int:
        """From the start of a window to its close."""
        return self.size_ms + self.grace_ms

    @property
    def fingerprint(self) -> str:
        return f"tumbling {self.size_ms}"

    def __str__(self) -> str:
        return f"tumbling {self.size_ms} ms, grace {self.grace_ms} ms"


class Hopping(msgspec.Struct, frozen=True):
    """Windows of `size_ms`, one starting every `every_ms`."""

    size_ms: int
    every_ms: int
    grace_ms: int

    @property
    def span_ms(self) -> int:
        return self.size_ms + self.grace_ms

    @property
    def pane_ms(self) -> int:
        """The longest stretch of time of which a window has all or nothing."""
        return gcd(self.size_ms, self.every_ms)

    @property
    def fingerprint(self) -> str:
        return f"hopping {self.size_ms} {self.every_ms}"

    def __str__(self) -> str:
        return f"hopping {self.size_ms} ms every {self.every_ms} ms, grace {self.grace_ms} ms"


class Sliding(msgspec.Struct, frozen=True):
    """For each record's time t the window [t + 1 − size_ms, t + 1)."""

    size_ms: int
    grace_ms: int

    @property
    def span_ms(self) -> int:
        return self.size_ms + self.grace_ms

    @property
    def fingerprint(self) -> str:
        return f"sliding {self.size_ms}"

    def __str__(self) -> str:
        return f"sliding {self.size_ms} ms, grace {self.grace_ms} ms"


class Session(msgspec.Struct, frozen=True):
    """Records of a key with at most `gap_ms` between neighbours. A session ends `gap_ms` after its last."""

    gap_ms: int
    grace_ms: int

    @property
    def fingerprint(self) -> str:
        return f"session {self.gap_ms}"

    def __str__(self) -> str:
        return f"session gap {self.gap_ms} ms, grace {self.grace_ms} ms"


class CountWindow(msgspec.Struct, frozen=True):
    """`n` records of a key."""

    n: int
    grace_ms: int = 0

    @property
    def fingerprint(self) -> str:
        return f"count {self.n}"

    def __str__(self) -> str:
        return f"{self.n} records"


WindowKind = Tumbling | Hopping | Sliding | Session | CountWindow


class Every(msgspec.Struct, frozen=True):
    """Emit what changed each time event time passes a multiple of `interval_ms`."""

    interval_ms: int

    def __str__(self) -> str:
        return f"every {self.interval_ms} ms"


Emit = Literal["on_close", "on_update"] | Every


def tumbling(size: Duration, *, grace: Duration = 0) -> Tumbling:
    """Epoch-aligned windows side by side: `sk.tumbling("1m", grace="10s")`."""
    return Tumbling(_size_ms(size), duration_ms(grace))


def hopping(size: Duration, every: Duration, *, grace: Duration = 0) -> Hopping:
    """Epoch-aligned windows that overlap: `sk.hopping("10m", "1m")` is the last ten minutes, each minute."""
    size_ms, every_ms = _size_ms(size), _size_ms(every)
    if every_ms > size_ms:
        raise UsageError(
            f"hopping windows of {size_ms} ms every {every_ms} ms leave gaps, and records without a window",
            hint="make `every` at most `size`",
        )
    return Hopping(size_ms, every_ms, duration_ms(grace))


def sliding(size: Duration, *, grace: Duration = 0) -> Sliding:
    """The `size` of time up to each record: `sk.sliding("10m")`. One window for each key and record time."""
    return Sliding(_size_ms(size), duration_ms(grace))


def session(gap: Duration, *, grace: Duration = 0) -> Session:
    """Activity without a pause longer than `gap`: `sk.session("30m")`."""
    return Session(_size_ms(gap), duration_ms(grace))


def count_window(n: int) -> CountWindow:
    """Every `n` records of a key."""
    if not isinstance(n, int) or n < 1:
        raise UsageError(f"a window of {n!r} records is none", hint="for example sk.count_window(100)")
    return CountWindow(n)


def every(interval: Duration) -> Every:
    """For `aggregate(emit=sk.every("5s"))`: results that changed, at most this often in event time."""
    return Every(_size_ms(interval))


def _size_ms(size: Duration) -> int:
    size_ms = duration_ms(size)
    if size_ms == 0:
        raise UsageError("a window needs a size greater than zero")
    return size_ms
