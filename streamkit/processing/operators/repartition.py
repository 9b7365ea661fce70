"""`repartition`: records move to their key's partition, through a repartition topic; nothing else changes.

Upstream this operator is an end: it writes each record, with its event time and headers, to
`{app}-{operator}-repartition`. Downstream it is an entry.

Two headers of ours travel in that topic (`watermark`): a record out of order carries the stream time of its
own source, and watermark records say how far each upstream task has come. So downstream every record is late
or not by its own source's clock, however fast the others run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from streamkit.errors import UsageError
from streamkit.processing.operators.source import decode_value
from streamkit.processing.serde import PLAIN_SERDES, Serde
from streamkit.processing.tasks.fuse import At
from streamkit.processing.tasks.watermark import with_stream_time, without_ours
from streamkit.processing.topology import Border

if TYPE_CHECKING:
    from streamkit.processing.tasks.fuse import Code


@dataclass(frozen=True, eq=False, kw_only=True)
class Repartition(Border):
    """A record without a key goes to any partition; a value of None travels as a null value."""

    kind: ClassVar[str] = "repartition"
    nulls: ClassVar[bool] = True
    value: Serde[Any]
    declared_partitions: int | None = None

    def __post_init__(self) -> None:
        count = self.declared_partitions
        if count is not None and (not isinstance(count, int) or count < 1):
            raise UsageError(f"{self.kind} to {count!r} partitions", hint="at least 1")

    @property
    def partitions(self) -> int | None:
        return self.declared_partitions

    @property
    def only_looks(self) -> bool:
        return self.value in PLAIN_SERDES and self.key in PLAIN_SERDES

    @property
    def value_serde(self) -> Serde[Any]:
        return self.value

    @property
    def detail(self) -> str:
        count = "" if self.declared_partitions is None else f"to {self.declared_partitions} partitions, "
        return f"{count}through {self.topic}"

    def generate(self, code: Code, at: At) -> None:
        at = code.time(at if at.raw else code.key(at))
        self.write(code, at, code.encoded_key(at, self.key, keep=True))

    def write(self, code: Code, at: At, key_bytes: str) -> None:
        """Write the lines that send the value at `at` through the topic under this key."""
        put = code.outlet(code.runtime.outlet(self.topic))
        headers, stream_time = code.variable("headers"), at.stream_time or at.time
        code.line(f"{headers} = {code.headers(at)}")
        if self.announced:
            with code.block(f"if {stream_time} > {at.time}:"):
                code.line(f"{headers} = {code.bind(with_stream_time, 'with_time')}({headers}, {stream_time})")
        value = code.encoded_value(at, self.value)
        code.line(f"{put}(({value}, {key_bytes}, {at.time}, {headers}, None))")

    def generate_entry(self, code: Code) -> None:
        at = At(value=code.variable("v"), key_serde=self.key, time=code.variable("ts"))
        at = time_of_source(code, at) if self.announced else _time_of_topic(code, at)
        decode_value(code, at, self.value, nulls=self.nulls)
        code.untouched(at, self.value)
        code.follow(self, at)


def time_of_source(code: Code, at: At) -> At:
    """Stream time is that of the record's source; watermark records go no further."""
    s, headers = code.variable("s"), code.variable("headers")
    code.line(f"{at.time} = {s} = m.timestamp()[1]")
    code.line(f"{headers} = m.headers()")
    with code.block(f"if {headers} is not None:"):
        code.line(f"{headers}, {s}, mark = {code.bind(without_ours, 'without_ours')}({headers}, {s})")
        with code.block("if mark is not None:"):
            code.line("chain.heard(mark)")
            code.line("continue")
    return msgspec.structs.replace(at, stream_time=s, headers=headers)


def _time_of_topic(code: Code, at: At) -> At:
    """Stream time is that of this partition, as in a source topic."""
    code.line(f"{at.time} = m.timestamp()[1]")
    with code.block(f"if {at.time} > s:"):
        code.line(f"s = {at.time}")
    return msgspec.structs.replace(at, stream_time="s")
