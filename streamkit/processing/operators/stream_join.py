"""`left.join(right, function, within=…)`: records of two streams with equal keys and times close together.

Null values and null keys join nothing. A result has the later one's event time and the headers of the record
that completed it. What came too late to join goes to the ports `late` (left) and `late-right`, unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from streamkit.processing.operators.function import JoinNode, function_name
from streamkit.processing.serde import Serde, as_kept
from streamkit.processing.state.join_buffers import LEFT, RIGHT, JoinBuffers
from streamkit.processing.state.operator_state import OperatorState
from streamkit.processing.state.store import Index, Store
from streamkit.processing.state.stored_joins import JoinIndex, StoredJoinBuffers
from streamkit.processing.topology import Node, Stateful

if TYPE_CHECKING:
    from streamkit.processing.tasks.fuse import At, Code

ALONE = {"inner": frozenset[int](), "left": frozenset((LEFT,)), "outer": frozenset((LEFT, RIGHT))}
LATE_PORTS = ("late", "late-right")


@dataclass(frozen=True, eq=False, kw_only=True)
class StreamJoin(JoinNode, Stateful):
    """A left record at t meets right ones in [t − before_ms, t + after_ms]."""

    kind: ClassVar[str] = "join"
    needs_time: ClassVar[bool] = True
    before_ms: int
    after_ms: int
    grace_ms: int

    def make_state(self, store: Store) -> OperatorState:
        left, right = self.parents
        buffers = StoredJoinBuffers if store.spills else JoinBuffers
        return buffers(
            self.before_ms,
            self.after_ms,
            self.grace_ms,
            alone=ALONE[self.how],
            key=self.key_serde,
            values=(as_kept(left.value_serde, self.name), as_kept(right.value_serde, self.name)),
            store=store,
        )

    def make_index(self) -> Index:
        return JoinIndex()

    @property
    def state_name(self) -> str:
        left, right = self.parents
        return f"join {left.value_serde.name} {right.value_serde.name}"

    @property
    def computes(self) -> bool:
        return self.how != "inner"

    @property
    def delay_ms(self) -> int:
        waits = self.before_ms + self.after_ms + self.grace_ms
        return self.input_delay_ms + (waits if self.computes else 0)

    @property
    def detail(self) -> str:
        left, right = self.parents
        span = f"-{self.before_ms} to +{self.after_ms} ms, grace {self.grace_ms} ms"
        return f"{self.how}, {left.name} with {right.name} {span}: {function_name(self.function)}"

    def generate_from(self, code: Code, at: At, parent: Node) -> None:
        for side in (LEFT, RIGHT):  # both, when a stream is joined with itself
            if self.parents[side] is parent:
                self._enter(code, at, side)

    def _enter(self, code: Code, at: At, side: int) -> None:
        counts = code.bind(code.runtime.counts(self), "counts")
        buffers = code.runtime.state(self)
        state = code.bind(buffers, "join")
        if isinstance(buffers, StoredJoinBuffers):
            code.foresee(buffers.sides[side], at)
        at = code.time(code.key(at))
        reach = (self.after_ms, self.before_ms)[side]
        watermark, stream_time = f"{state}_watermark", at.stream_time or at.time
        code.once(f"{watermark} = {state}.watermark_ms")
        reached = f"({stream_time} if {stream_time} > {watermark} else {watermark})"
        with code.block(f"if {at.key} is None:"):
            code.line(f"{counts}.null_keys += 1")
        with code.block(f"elif {at.value} is None:"):
            code.line("pass")
        with code.block(f"elif {at.time} + {reach + 1 + self.grace_ms} <= {reached}:"):
            code.line(f"{counts}.late += 1")
            if code.runtime.children(self, LATE_PORTS[side]):
                code.follow(self, at, port=LATE_PORTS[side])
        with code.block("else:"):
            self._meet(code, at, side, state)

    def _meet(self, code: Code, at: At, side: int, state: str) -> None:
        matches, other, result, time = (code.variable(hint) for hint in ("matches", "other", "v", "ts"))
        code.line(f"{matches} = {state}.matches({side}, {at.key}, {at.time})")
        code.forks += 1
        with code.block(f"for {other} in {matches}:"):
            pair = (at.value, f"{other}.value") if side == LEFT else (f"{other}.value", at.value)
            code.line(f"{result} = {code.apply(self, self.function, at, *pair)}")
            code.line(f"{time} = {at.time} if {at.time} > {other}.time_ms else {other}.time_ms")
            code.follow(self, msgspec.structs.replace(at, value=result, time=time))
        code.line(f"{state}.keep({side}, {at.key}, {at.time}, {at.value}, {matches})")

    def generate_computed(self, code: Code, at: At) -> None:
        code.line(f"{at.value} = {code.apply(self, self.function, at, f'*{at.value}')}")
        code.follow(self, at)


@dataclass(frozen=True, eq=False, kw_only=True)
class LateRight(Node):
    """The right-hand records that came too late to join, as they entered."""

    kind: ClassVar[str] = "late"

    @property
    def value_serde(self) -> Serde[Any]:
        return self.parents[0].parents[1].value_serde
