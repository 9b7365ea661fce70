"""`group_by`: records move to the partition of a new key, through a repartition topic.

Upstream this operator is an end: it computes the key and writes the record, with its event time and headers,
to `{app}-{operator}-repartition`. Downstream it is an entry. Records without a key belong nowhere: they are
counted and dropped.

Two headers of ours travel in that topic (`watermark`): a record out of order carries the stream time of its
own source, and watermark records say how far each upstream task has come. So downstream every record is late
or not by its own source's clock, however fast the others run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from streamkit.processing.operators.function import function_name
from streamkit.processing.operators.source import decode_value
from streamkit.processing.serde import Serde
from streamkit.processing.tasks.fuse import At
from streamkit.processing.tasks.watermark import with_stream_time, without_ours
from streamkit.processing.topology import Border

if TYPE_CHECKING:
    from streamkit.processing.tasks.fuse import Code


@dataclass(frozen=True, eq=False, kw_only=True)
class GroupBy(Border):
    kind: ClassVar[str] = "group-by"
    needs_time: ClassVar[bool] = True
    function: Callable[..., Any]
    key: Serde[Any]
    value: Serde[Any]
    declared_partitions: int | None = None

    @property
    def partitions(self) -> int | None:
        return self.declared_partitions

    @property
    def keyed(self) -> bool:
        return True

    @property
    def key_serde(self) -> Serde[Any]:
        return self.key

    @property
    def value_serde(self) -> Serde[Any]:
        return self.value

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        return (self.function,)

    @property
    def detail(self) -> str:
        return f"{function_name(self.function)}, through {self.topic}"

    def generate(self, code: Code, at: At) -> None:
        counts = code.bind(code.runtime.counts(self), "counts")
        put = code.outlet(code.runtime.outlet(self.topic))
        call, at = code.call(self, self.function, at)
        at = code.time(at)
        key, headers = code.variable("key"), code.variable("headers")
        code.line(f"{key} = {call}")
        with code.block(f"if {key} is None:"):
            code.line(f"{counts}.null_keys += 1")
        with code.block("else:"):
            code.line(f"{headers} = {code.headers(at)}")
            stream_time = at.stream_time or at.time
            with code.block(f"if {stream_time} > {at.time}:"):
                code.line(f"{headers} = {code.bind(with_stream_time, 'with_time')}({headers}, {stream_time})")
            key_bytes = f"{code.bind(self.key.encode, 'encode')}({key})"
            value = code.encoded_value(at, self.value)
            code.line(f"{put}(({value}, {key_bytes}, {at.time}, {headers}, None))")

    def generate_entry(self, code: Code) -> None:
        v, ts, s = code.variable("v"), code.variable("ts"), code.variable("s")
        headers = code.variable("headers")
        at = At(value=v, key_serde=self.key, time=ts, stream_time=s, headers=headers)
        code.line(f"{ts} = {s} = m.timestamp()[1]")
        code.line(f"{headers} = m.headers()")
        with code.block(f"if {headers} is not None:"):
            code.line(f"{headers}, {s}, mark = {code.bind(without_ours, 'without_ours')}({headers}, {s})")
            with code.block("if mark is not None:"):
                code.line("chain.heard(mark)")
                code.line("continue")
        decode_value(code, at, self.value)
        code.follow(self, at)
