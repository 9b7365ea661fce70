"""`app.stream(topic)`: records of a topic enter the graph, decoded, with an event time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from streamkit.processing.error_policy import ErrorPolicy
from streamkit.processing.serde import UNDECLARED_KEY, Serde
from streamkit.processing.tasks.fuse import At
from streamkit.processing.topology import Entry, TopicSpec
from streamkit.processing.units import instant_ms

if TYPE_CHECKING:
    from streamkit.processing.tasks.fuse import Code


@dataclass(frozen=True, eq=False, kw_only=True)
class Source(Entry):
    """`time`: seconds since the epoch (or an aware datetime) from the value; None: the record's timestamp.

    The chain's stream time `s` is the greatest event time so far in this partition. It is kept only where
    something downstream measures by it.
    """

    kind: ClassVar[str] = "source"
    topic: TopicSpec[Any, Any]
    time: Callable[..., Any] | None = None
    on_error: ErrorPolicy | None = None
    tombstones: bool = False  # a null value is None, whatever the serde says

    @property
    def reads(self) -> str:
        return self.topic.name

    @property
    def partitions(self) -> int | None:
        return self.topic.partitions

    @property
    def keyed(self) -> bool:
        return self.topic.key is not None

    @property
    def key_serde(self) -> Serde[Any]:
        return self.topic.key or UNDECLARED_KEY

    @property
    def value_serde(self) -> Serde[Any]:
        return self.topic.value

    @property
    def policy(self) -> ErrorPolicy | None:
        return self.on_error

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        return () if self.time is None else (self.time,)

    @property
    def detail(self) -> str:
        key = "" if self.topic.key is None else f", key {self.topic.key.name}"
        return f"topic {self.topic.name}, value {self.topic.value.name}{key}"

    def generate_entry(self, code: Code) -> None:
        at = At(value=code.variable("v"), key_serde=self.key_serde)
        decode_value(code, at, self.topic.value, nulls=self.tombstones)
        at = self._event_time(code, at)
        code.follow(self, at)

    def _event_time(self, code: Code, at: At) -> At:
        if self.time is not None:
            call, at = code.call(self, self.time, at)
            ts = code.variable("ts")
            code.line(f"{ts} = {code.bind(instant_ms, 'instant_ms')}({call})")
            at = At(value=at.value, key=at.key, key_serde=at.key_serde, time=ts)
        if not code.tracks_time:
            return at
        at = code.time(at)
        with code.block(f"if {at.time} > s:"):
            code.line(f"s = {at.time}")
        return At(value=at.value, key=at.key, key_serde=at.key_serde, time=at.time, stream_time="s")


def decode_value(code: Code, at: At, serde: Serde[Any], *, nulls: bool = False) -> None:
    """Write `v = decode(m.value())`; a null value is None or undecodable, as the serde says."""
    decode = code.bind(serde.decode, "decode")
    if serde.name == "bytes":
        code.line(f"{at.value} = m.value()")
    elif serde.nullable or nulls:
        code.line(f"{at.value} = m.value()")
        with code.block(f"if {at.value} is not None:"):
            code.line(f"{at.value} = {decode}({at.value})")
    else:
        code.line(f"{at.value} = {decode}(m.value())")
