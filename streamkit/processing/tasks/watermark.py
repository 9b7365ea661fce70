"""How far event time has come, for a task and through repartition topics.

Three clocks:

- The *stream time* of a source partition: the greatest event time read from it. A record is late or not by
  the stream time of the partition where it first entered the app, which is a property of the log and not of
  anybody's speed. A repartitioned record carries it in a header when it differs from its own timestamp.
- The *watermark* of an input: a promise that no record before it is still to come from there. For a source
  partition it is its stream time. For a repartition topic it is the minimum over the upstream tasks, each of
  which announces its own with watermark records (null key, null value, one header) to every partition.
- The watermark of a task: the minimum over its inputs that are not idle. Windows close by it. It never falls.

An input is idle while it has been caught up to its end for `idle_timeout_ms`; then it no longer holds the
others back. When all are idle nothing can be waited for, and the furthest decides. An input that has said
nothing yet holds the watermark at NEVER until it speaks or is idle.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

import msgspec

from streamkit.processing.record import Headers

NEVER = -(1 << 62)  # before every event time
STREAM_TIME = "streamkit.time"
WATERMARK = "streamkit.watermark"


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """What a watermark record says: this upstream partition's task promises `time_ms`, or is idle."""

    upstream: int
    time_ms: int
    idle: bool


_encode = msgspec.json.Encoder().encode
_decode_mark = msgspec.json.Decoder(Mark).decode


def mark_headers(mark: Mark) -> Headers:
    return [(WATERMARK, _encode(mark))]


def is_mark(headers: Headers | None) -> bool:
    """Does the record only say how far its upstream task has come?"""
    return any(name == WATERMARK for name, _ in headers or ())


def with_stream_time(headers: Headers | None, stream_time: int) -> Headers:
    """The record's headers plus the stream time of its source."""
    return [*(headers or ()), (STREAM_TIME, b"%d" % stream_time)]


def without_ours(headers: Headers, stream_time: int) -> tuple[Headers | None, int, Mark | None]:
    """(the user's headers, the stream time that travelled with the record, the mark if it is one)."""
    mark = None
    theirs: Headers = []
    for header in headers:
        name, value = header
        if name == STREAM_TIME and value is not None:
            stream_time = int(value)
        elif name == WATERMARK and value is not None:
            mark = _decode_mark(value)
        else:
            theirs.append(header)
    return theirs or None, stream_time, mark


class Input:
    """The clock of one input partition. Invariant: `time_ms` never falls."""

    __slots__ = ("caught_up_since_ms", "idle", "time_ms", "upstreams")

    def __init__(self, upstreams: int = 0) -> None:
        """`upstreams`: how many tasks write this repartition topic; 0 for a source topic."""
        self.time_ms = NEVER
        self.idle = False
        self.caught_up_since_ms: int | None = None
        self.upstreams = [Mark(upstream, NEVER, False) for upstream in range(upstreams)]

    def advance(self, time_ms: int) -> None:
        """Records up to this event time have come in."""
        self.time_ms = max(self.time_ms, time_ms)

    def heard(self, mark: Mark) -> None:
        """An upstream task announced its watermark."""
        known = self.upstreams[mark.upstream]
        self.upstreams[mark.upstream] = Mark(mark.upstream, max(known.time_ms, mark.time_ms), mark.idle)
        self.idle = all(m.idle for m in self.upstreams)
        self.advance(_minimum((m.time_ms, m.idle) for m in self.upstreams))

    def awake(self) -> None:
        """Records came in: the input is not idle, and its time at the end begins anew."""
        if not self.upstreams:
            self.idle = False
            self.caught_up_since_ms = None

    def observe(self, caught_up: bool, now_ms: int, idle_timeout_ms: int | None) -> None:
        """The worker's word on whether everything in this partition has been read."""
        if self.upstreams:  # quiet is not idle there: the upstream task may lag or be down; its marks tell
            self.idle = all(mark.idle for mark in self.upstreams)
            return
        if not caught_up:
            self.awake()
            return
        if self.caught_up_since_ms is None:
            self.caught_up_since_ms = now_ms
        self.idle = idle_timeout_ms is not None and now_ms - self.caught_up_since_ms >= idle_timeout_ms


class TaskClock:
    """The watermark of a task over its inputs, named (topic, partition). It never falls.

    `followed_ms` is the last watermark up to which all operators have done what was due. It lags while so
    much closes that the task does it in portions; until then nobody downstream hears of the later one. Then
    the operators before `following` are done, those behind it have not begun.
    """

    def __init__(self, idle_timeout_ms: int | None) -> None:
        self.inputs: dict[tuple[str, int], Input] = {}
        self.watermark_ms = NEVER
        self.followed_ms = NEVER
        self.following = ""
        self._idle_timeout_ms = idle_timeout_ms

    @property
    def idle(self) -> bool:
        return bool(self.inputs) and all(i.idle for i in self.inputs.values())

    def observe(self, caught_up: Container[tuple[str, int]], now_ms: int) -> None:
        for place, clock in self.inputs.items():
            clock.observe(place in caught_up, now_ms, self._idle_timeout_ms)

    def advance(self) -> int:
        """Recompute and return the watermark."""
        now = _minimum((clock.time_ms, clock.idle) for clock in self.inputs.values())
        self.watermark_ms = max(self.watermark_ms, now)
        return self.watermark_ms

    def idle_at_ms(self) -> int | None:
        """When the next caught-up input will count as idle."""
        if self._idle_timeout_ms is None:
            return None
        since = [c.caught_up_since_ms for c in self.inputs.values() if not c.idle]
        return min((t + self._idle_timeout_ms for t in since if t is not None), default=None)


def _minimum(times: Iterable[tuple[int, bool]]) -> int:
    """The least time that is not idle; with all idle, the greatest."""
    known = list(times)
    waited_for = [time for time, idle in known if not idle]
    if waited_for:
        return min(waited_for)
    return max((time for time, _ in known), default=NEVER)
