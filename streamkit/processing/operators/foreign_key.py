"""`table.join(other, function, on=…)`: each row with the row of another table that one of its fields names.

The rows of one parent may be in any partition, so each travels to its parent's and the joined row travels
back: two repartition topics, three operators (see `state.foreign_keys` for what each keeps and says).

    left table ─► Subscribe ═topic═► Respond ═topic═► ForeignKeyTable
                                        ▲
                     right table ───────┘
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from streamkit.processing.former_fingerprint import former_function_fingerprint
from streamkit.processing.function_fingerprint import function_fingerprint
from streamkit.processing.operators.function import JoinNode, check_function, function_name
from streamkit.processing.operators.repartition import time_of_source
from streamkit.processing.state.foreign_keys import (
    Results,
    Subscriptions,
    Versions,
    decode_answer,
    decode_subscription,
)
from streamkit.processing.state.operator_state import OperatorState
from streamkit.processing.state.store import Index, Store
from streamkit.processing.state.stored_results import GoneIndex, StoredResults
from streamkit.processing.state.views import TableView, joined
from streamkit.processing.tasks.fuse import At
from streamkit.processing.tasks.watermark import with_stream_time
from streamkit.processing.topology import Border, Node, Stateful, TableNode

if TYPE_CHECKING:
    from streamkit.processing.tasks.fuse import Code, Runtime


@dataclass(frozen=True, eq=False, kw_only=True)
class Messenger(Border, Stateful):
    """Writes messages of its state to its topic; they come in again as `decode` makes them."""

    decode: ClassVar[Callable[[bytes], Any]]

    def _send(self, code: Code, at: At, messages: str) -> None:
        put = code.outlet(code.runtime.outlet(self.topic))
        headers, key, data = code.variable("headers"), code.variable("key"), code.variable("data")
        stream_time = at.stream_time or at.time
        travels = f"{code.bind(with_stream_time, 'with_time')}(None, {stream_time})"
        code.line(f"{headers} = {travels} if {stream_time} > {at.time} else None")
        with code.block(f"for {key}, {data} in {messages}:"):
            code.line(f"{put}(({data}, {key}, {at.time}, {headers}, None))")

    def generate_entry(self, code: Code) -> None:
        at = At(value=code.variable("v"), key_serde=self.key, time=code.variable("ts"))
        at = time_of_source(code, at)
        code.line(f"{at.value} = {code.bind(type(self).decode, 'decode')}(m.value())")
        code.follow(self, msgspec.structs.replace(at, headers="None"))


@dataclass(frozen=True, eq=False, kw_only=True)
class Subscribe(Messenger):
    """Tells right rows which left rows point at them. `key` is the right table's."""

    kind: ClassVar[str] = "subscribe"
    decode: ClassVar[Callable[[bytes], Any]] = decode_subscription
    on: Callable[[Any], Any]

    def __post_init__(self) -> None:
        check_function(self.on, "join(on=)", "the row")

    def make_state(self, store: Store) -> OperatorState:
        left = self.parents[0]
        return Versions(self.on, left.key_serde, left.value_serde, self.key, store)

    @property
    def state_name(self) -> str:
        return f"versions {function_fingerprint(self.on)}"

    @property
    def former_state_name(self) -> str:
        return f"versions {former_function_fingerprint(self.on)}"

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        return (self.on,)

    @property
    def detail(self) -> str:
        return f"{function_name(self.on)}, through {self.topic}"

    def generate(self, code: Code, at: At) -> None:
        versions = code.bind(code.runtime.state(self), "versions")
        at = code.time(code.key(at))
        self._send(code, at, f"{versions}.messages({at.key}, {at.value}, {at.old})")


@dataclass(frozen=True, eq=False, kw_only=True)
class Respond(Messenger, JoinNode):
    """Answers left rows: parents are `Subscribe` and the right table. `key` is the left table's."""

    kind: ClassVar[str] = "respond"
    decode: ClassVar[Callable[[bytes], Any]] = decode_answer
    left: Node

    def make_state(self, store: Store) -> OperatorState:
        join = joined(self.function, self.how)
        state = Subscriptions(join, self.left.value_serde, self.parents[1].key_serde, store)
        state.encode_result = self.value_serde.encode
        return state

    @property
    def state_name(self) -> str:
        return f"subscriptions {self.left.value_serde.name}"

    @property
    def detail(self) -> str:
        return f"{self.how}, {function_name(self.function)}, through {self.topic}"

    def generate_from(self, code: Code, at: At, parent: Node) -> None:
        state = code.runtime.state(self)
        pointing = code.bind(state, "pointing")
        if state.spills:
            code.foresee(state, at)
        at = code.time(at)
        if parent is self.parents[0]:
            rows = code.bind(code.runtime.view(self.parents[1]), "rows")
            self._send(code, at, f"{pointing}.subscribed(m.key(), {at.value}, {rows})")
        else:
            at = code.key(at)
            self._send(code, at, f"{pointing}.changed({at.key}, {at.value})")


@dataclass(frozen=True, eq=False, kw_only=True)
class ForeignKeyTable(Stateful, TableNode):
    """The joined rows, by the left table's key."""

    kind: ClassVar[str] = "foreign-key-join"
    needs_time: ClassVar[bool] = True

    def make_state(self, store: Store) -> OperatorState:
        results = StoredResults if store.spills else Results
        return results(self.key_serde, self.value_serde, store)

    def make_index(self) -> Index:
        return GoneIndex()

    def make_view(self, runtime: Runtime) -> TableView:
        view: TableView = runtime.state(self)
        return view

    @property
    def state_name(self) -> str:
        return f"results {self.value_serde.name}"

    @property
    def detail(self) -> str:
        return "the latest answer for each row"

    def generate(self, code: Code, at: At) -> None:
        state = code.runtime.state(self)
        results = code.bind(state, "results")
        if isinstance(state, StoredResults):
            code.foresee(state, at)
        at = code.key(at)
        new, old = code.variable("v"), code.variable("old")
        with code.block(f"if {results}.is_current({at.key}, {at.value}):"):
            code.line(f"{old} = {results}.get({at.key})")
            code.line(f"{new} = {results}.result({at.value})")
            with code.block(f"if {new} is not None or {old} is not None:"):
                code.follow(self, msgspec.structs.replace(at, value=new, old=old))
            code.line(f"{results}.keep({at.key}, {at.value}, {new}, {at.stream_time})")
