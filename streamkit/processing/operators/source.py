"""`app.stream(topic)`: records of a topic enter the graph, decoded, with an event time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from streamkit.processing.error_policy import ErrorPolicy
from streamkit.processing.only_looks import only_looks
from streamkit.processing.operators.function import VALUE_AND_RECORD, check_function
from streamkit.processing.serde import UNDECLARED_KEY, Serde
from streamkit.processing.tasks.fuse import At
from streamkit.processing.topology import Border, Entry, Node, TopicSpec
from streamkit.processing.units import instant_ms

if TYPE_CHECKING:
    from streamkit.processing.tasks.fuse import Code

FIRST_CREDIBLE_MS = 365 * 24 * 3600 * 1000
"""A timestamp of 1970 is a clock that was never set (or a test's): nothing is measured by it."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Source(Entry):
    """`time`: seconds since the epoch (or an aware datetime) from the value; None: the record's timestamp.

    `by_arrival`: the time at which it is processed, by the worker's clock (*processing time*). It passes
    without records, too, and a replay gives other results.

    One such time far in the future would close every window, so what lies more than `max_ahead_ms` behind the
    record's own timestamp is an error of that record: nothing happens later than it was written. (Timestamps
    themselves are bounded by the broker, `message.timestamp.after.max.ms`.)

    The chain's stream time `s` is the greatest event time so far in this partition. It is kept only where
    something downstream measures by it.
    """

    kind: ClassVar[str] = "source"
    topic: TopicSpec[Any, Any]
    time: Callable[..., Any] | None = None
    by_arrival: bool = False
    max_ahead_ms: int | None = None
    on_error: ErrorPolicy | None = None
    tombstones: bool = False  # a null value is None, whatever the serde says

    def __post_init__(self) -> None:
        if self.time is not None:
            check_function(self.time, "time=", *VALUE_AND_RECORD, optional=1)

    @property
    def reads(self) -> str:
        return self.topic.name

    @property
    def pattern(self) -> str | None:
        return self.topic.pattern

    @property
    def partitions(self) -> int | None:
        return self.topic.partitions

    @property
    def keyed(self) -> bool:
        return self.topic.key is not None and self.topic.pattern is None

    @property
    def key_serde(self) -> Serde[Any]:
        return (self.topic.key or UNDECLARED_KEY).within

    @property
    def value_serde(self) -> Serde[Any]:
        return self.topic.value.within

    @property
    def policy(self) -> ErrorPolicy | None:
        return self.on_error

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        return () if self.time is None else (self.time,)

    @property
    def detail(self) -> str:
        key = "" if self.topic.key is None else f", key {self.topic.key.name}"
        topic = f"topic {self.topic.name}" if self.topic.pattern is None else f"topics {self.topic.pattern}"
        time = ", by processing time" if self.by_arrival else ""
        return f"{topic}, value {self.topic.value.name}{key}{time}"

    def generate_entry(self, code: Code) -> None:
        at = At(value=code.variable("v"), key_serde=self.topic.key or UNDECLARED_KEY)
        decode_value(code, at, self.topic.value, nulls=self.tombstones)
        at = self._event_time(code, at)
        if self.time is None or only_looks(self.time):
            code.untouched(at, self.topic.value)
        code.follow(self, at)

    def _event_time(self, code: Code, at: At) -> At:
        if self.by_arrival:  # the task has set the stream time to now
            return At(value=at.value, key=at.key, key_serde=at.key_serde, time="s", stream_time="s")
        if self.time is not None:
            call, at = code.call(self, self.time, at)
            ts = code.variable("ts")
            code.line(f"{ts} = {code.bind(instant_ms, 'instant_ms')}({call})")
            if self.max_ahead_ms is not None:
                with code.block(f"if {ts} > m.timestamp()[1] + {self.max_ahead_ms}:"):
                    code.line(f"{code.bind(check_ahead, 'check_ahead')}({ts}, m.timestamp()[1])")
            at = At(value=at.value, key=at.key, key_serde=at.key_serde, time=ts)
        if not code.tracks_time:
            return at
        at = code.time(at)
        with code.block(f"if {at.time} > s:"):
            code.line(f"s = {at.time}")
        return At(value=at.value, key=at.key, key_serde=at.key_serde, time=at.time, stream_time="s")


def unchanged_from(node: Node) -> TopicSpec[Any, Any] | None:
    """The topic whose values arrive here as they are, under whatever key."""
    while isinstance(node, Border):
        node = node.parents[0]
    return node.topic if isinstance(node, Source) and node.topic.pattern is None else None


def check_ahead(event_ms: int, written_ms: int) -> None:
    """Raise ValueError: this event time is too far behind the time at which its record was written."""
    if written_ms >= FIRST_CREDIBLE_MS:
        raise ValueError(
            f"event time {event_ms / 1000:.0f} s is {(event_ms - written_ms) / 1000:.0f} s later than the "
            "time at which its record was written: more than max_ahead="
        )


def decode_value(code: Code, at: At, serde: Serde[Any], *, nulls: bool = False) -> None:
    """Write `v = decode(m.value())`; a null value is None or undecodable, as the serde says."""
    decode = code.bind(serde.on_arrival, "decode")
    if serde.name == "bytes":
        code.line(f"{at.value} = m.value()")
    elif serde.nullable or nulls:
        code.line(f"{at.value} = m.value()")
        with code.block(f"if {at.value} is not None:"):
            code.line(f"{at.value} = {decode}({at.value})")
    else:
        code.line(f"{at.value} = {decode}(m.value())")
