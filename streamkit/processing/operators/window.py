"""`window(...).aggregate(...)`: one result for each key and window when it closes, or one at each update.

A result is a plain dict: `{"key": …, "start_ms": …, "end_ms": …}` and the named aggregations. Its key is the
record's; its event time is the last millisecond of the window (on close) or that of the record (on update).
Records too late for their window go to the `late` port unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from streamkit.processing.operators.map import function_name
from streamkit.processing.serde import JSON, Serde
from streamkit.processing.topology import Node
from streamkit.processing.windows import Aggregation, Emit, Tumbling, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamkit.processing.fuse import At, Code

Aggregations = tuple[tuple[str, Aggregation], ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Window(Node):
    kind: ClassVar[str] = "window"
    needs_time: ClassVar[bool] = True
    window: Tumbling
    aggregations: Aggregations
    emit: Emit

    @property
    def value_serde(self) -> Serde[Any]:
        return JSON

    @property
    def delay_ms(self) -> int:
        return super().delay_ms + (self.window.grace_ms if self.emit == "on_close" else 0)

    @property
    def state_name(self) -> str:
        """What the window's stored bytes mean."""
        return f"{self.window.size_ms} " + " ".join(a.fingerprint for _, a in self.aggregations)

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        return tuple(a.of for _, a in self.aggregations if callable(a.of))

    @property
    def detail(self) -> str:
        results = ", ".join(f"{name}={_described(a)}" for name, a in self.aggregations)
        return f"{self.window}, {self.emit}: {results}"

    def generate(self, code: Code, at: At) -> None:
        state = code.runtime.window(self)
        counts, window = code.bind(code.runtime.counts(self), "counts"), code.bind(state, "window")
        watermark = f"{window}_watermark"
        code.once(f"{watermark} = {window}.watermark_ms")
        at = code.time(code.key(at))
        start, stream_time = code.variable("start"), at.stream_time or at.time
        size, span = self.window.size_ms, self.window.span_ms
        with code.block(f"if {at.key} is None:"):
            code.line(f"{counts}.null_keys += 1")
        with code.block("else:"):
            code.line(f"{start} = {at.time} - {at.time} % {size}")
            reached = f"({stream_time} if {stream_time} > {watermark} else {watermark})"
            with code.block(f"if {start} + {span} <= {reached}:"):
                code.line(f"{counts}.late += 1")
                if code.runtime.children(self, "late"):
                    code.follow(self, at, port="late")
            with code.block("else:"):
                self._update(code, at, window, start)

    def _update(self, code: Code, at: At, window: str, start: str) -> None:
        bucket, last, a = f"{window}_bucket", f"{window}_start", code.variable("a")
        code.once(f"{last} = None")
        inputs = [self._input(code, at, aggregation) for _, aggregation in self.aggregations]
        with code.block(f"if {start} != {last}:"):
            code.line(f"{last} = {start}")
            code.line(f"{bucket} = {window}.bucket({start})")
        code.line(f"{a} = {bucket}.get({at.key})")
        with code.block(f"if {a} is None:"):
            code.line(f"{a} = [False, {', '.join(i for _, agg in self.aggregations for i in agg.initial)}]")
        stores: list[str] = []
        for (_, aggregation), slots, x in zip(self.aggregations, self._slots(a), inputs, strict=True):
            for slot, expression in zip(slots, aggregation.combine(slots, x), strict=True):
                new = code.variable("n")
                code.line(f"{new} = {expression}")
                stores.append(f"{slot}.append({new})" if aggregation.appends else f"{slot} = {new}")
        with code.block(f"if not {a}[0]:"):
            code.line(f"{a}[0] = True")
            code.line(f"{bucket}[{at.key}] = {a}")
            code.line(
                f"{code.bind(code.runtime.window(self).dirty.append, 'dirty')}(({start}, {at.key}, {a}))"
            )
        for store in stores:
            code.line(store)
        if self.emit == "on_update":
            result = code.variable("v")
            code.line(f"{result} = {self.result_expression(at.key, start, a)}")
            code.follow(self, msgspec.structs.replace(at, value=result, headers="None"))

    def _input(self, code: Code, at: At, aggregation: Aggregation) -> str:
        """A variable with what the aggregation takes from the value."""
        code.names["plain"] = plain
        of = aggregation.of
        if of is None:
            return at.value
        x = code.variable("x")
        if callable(of):
            call, _ = code.call(self, of, at)
            code.line(f"{x} = {call}")
        elif of.isidentifier():
            code.line(f"{x} = {at.value}[{of!r}] if {at.value}.__class__ is dict else {at.value}.{of}")
        else:
            code.line(f"{x} = {at.value}[{of!r}]")
        return x

    def _slots(self, a: str) -> list[tuple[str, ...]]:
        slots, index = [], 1
        for _, aggregation in self.aggregations:
            width = len(aggregation.initial)
            slots.append(tuple(f"{a}[{index + i}]" for i in range(width)))
            index += width
        return slots

    def result_expression(self, key: str, start: str, a: str) -> str:
        """A dict display of the result for accumulator `a`."""
        parts = [f"'key': {key}", f"'start_ms': {start}", f"'end_ms': {start} + {self.window.size_ms}"]
        for (name, aggregation), slots in zip(self.aggregations, self._slots(a), strict=True):
            parts.append(f"{name!r}: {aggregation.result(slots)}")
        return "{" + ", ".join(parts) + "}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Late(Node):
    """The records that came too late for their window, as they entered it."""

    kind: ClassVar[str] = "late"

    @property
    def value_serde(self) -> Serde[Any]:
        return self.parents[0].parents[0].value_serde

    def generate(self, code: Code, at: At) -> None:
        code.follow(self, at)


def _described(aggregation: Aggregation) -> str:
    of = aggregation.of
    inner = "" if of is None else of if isinstance(of, str) else function_name(of)
    return f"{type(aggregation).__name__}({inner})"
