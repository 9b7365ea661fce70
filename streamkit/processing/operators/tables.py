"""Tables in the graph: rows that follow a stream, two tables as one, and streams that look rows up.

What runs between table operators is changes: the new row in `At.value`, the one before in `At.old`, None
where there is none. Lookups read the rows of the other side as they are when the record is processed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import msgspec

from streamkit.processing.operators.function import JoinNode, function_name
from streamkit.processing.serde import Serde, as_kept, value_serde
from streamkit.processing.state.operator_state import OperatorState
from streamkit.processing.state.rows import Rows, VersionedRows
from streamkit.processing.state.store import Store
from streamkit.processing.state.views import JoinedView, TableView, joined
from streamkit.processing.topology import Node, Stateful, TableNode

if TYPE_CHECKING:
    from streamkit.processing.tasks.fuse import At, Code, Runtime

V = TypeVar("V")


@dataclass(frozen=True, eq=False, kw_only=True)
class ToTable(Stateful, TableNode):
    """The last value of each key; None deletes. `history_ms`: how long earlier rows can be looked up."""

    kind: ClassVar[str] = "table"
    history_ms: int = 0

    def make_state(self, store: Store) -> OperatorState:
        key, value = self.key_serde, as_kept(self.value_serde, self.name)
        if self.history_ms:
            return VersionedRows(self.history_ms, key, value, store)
        return Rows(key, value, store)

    def make_view(self, runtime: Runtime) -> TableView:
        view: TableView = runtime.state(self)
        return view

    @property
    def state_name(self) -> str:
        return f"{'versions' if self.history_ms else 'rows'} {self.value_serde.name}"

    @property
    def detail(self) -> str:
        return f"history {self.history_ms} ms" if self.history_ms else "the latest of each key"

    def generate(self, code: Code, at: At) -> None:
        counts = code.bind(code.runtime.counts(self), "counts")
        rows, old = code.bind(code.runtime.state(self), "rows"), code.variable("old")
        at = code.time(code.key(at))
        with code.block(f"if {at.key} is None:"):
            code.line(f"{counts}.null_keys += 1")
        with code.block("else:"):
            code.line(f"{old} = {rows}.get({at.key})")
            after = msgspec.structs.replace(at, old=old)
            changes = f"({at.value} is not None or {old} is not None)"
            if self.history_ms:  # what belongs to the past changes nothing now
                changes += f" and {rows}.is_latest({at.key}, {at.time})"
            with code.block(f"if {changes}:"):
                code.follow(self, after)
            code.line(f"{rows}.put({at.key}, {at.value}, {at.time})")


@dataclass(frozen=True, eq=False, kw_only=True)
class TableJoin(JoinNode, TableNode):
    """Rows of two tables with equal keys as rows of one."""

    kind: ClassVar[str] = "table-join"

    def make_view(self, runtime: Runtime) -> TableView:
        left, right = (runtime.view(parent) for parent in self.parents)
        return JoinedView(left, right, self.function, self.how)

    @property
    def detail(self) -> str:
        left, right = self.parents
        return f"{self.how}, {left.name} with {right.name}: {function_name(self.function)}"

    def generate_from(self, code: Code, at: At, parent: Node) -> None:
        left, right = self.parents
        other = code.bind(code.runtime.view(right if parent is left else left), "rows")
        row, new, old = code.variable("row"), code.variable("v"), code.variable("old")
        both = parent is left and parent is right  # a table joined with itself
        code.line(f"{row} = {other}.get({at.key})")
        join = joined(self.function, self.how)
        for result, mine, theirs in ((new, at.value, at.value), (old, at.old, at.old)):
            pair = (mine, theirs if both else row) if parent is left else (row, mine)
            code.line(f"{result} = {code.apply(self, join, at, *pair)}")
        with code.block(f"if {new} is not None or {old} is not None:"):
            code.follow(self, msgspec.structs.replace(at, value=new, old=old))


@dataclass(frozen=True, eq=False, kw_only=True)
class Lookup(JoinNode):
    """`stream.join(table, function)`: each record with its key's row; changes of the table say nothing."""

    kind: ClassVar[str] = "lookup"
    needs_time: ClassVar[bool] = False

    def passes_on(self, parent: Node) -> bool:
        return parent is self.parents[0]

    @property
    def delay_ms(self) -> int:
        return self.parents[0].delay_ms

    @property
    def detail(self) -> str:
        return f"{self.how}, in {self.parents[1].name}: {function_name(self.function)}"

    def generate_from(self, code: Code, at: At, parent: Node) -> None:
        if parent is not self.parents[0]:
            code.line("pass")
            return
        counts = code.bind(code.runtime.counts(self), "counts")
        rows = code.bind(code.runtime.view(self.parents[1]), "rows")
        row, result = code.variable("row"), code.variable("v")
        at = code.time(code.key(at))
        with code.block(f"if {at.key} is None:"):
            code.line(f"{counts}.null_keys += 1")
        with code.block(f"elif {at.value} is not None:"):
            code.line(f"{row} = {rows}.as_of({at.key}, {at.time})")
            with code.block(f"if {row} is not None:" if self.how == "inner" else "if True:"):
                code.line(f"{result} = {code.apply(self, self.function, at, at.value, row)}")
                code.follow(self, msgspec.structs.replace(at, value=result))


@dataclass(frozen=True, eq=False, kw_only=True)
class Changes(Node):
    """`table.changes()`: what happens to a table as a stream of `{"new": row | None, "old": row | None}`."""

    kind: ClassVar[str] = "changes"

    @property
    def value_serde(self) -> Serde[Any]:
        return CHANGE

    def generate(self, code: Code, at: At) -> None:
        change = code.variable("v")
        code.line(f"{change} = {code.bind(Change, 'Change')}({at.value}, {at.old})")
        code.follow(self, msgspec.structs.replace(at, value=change, old=""))


class Change(msgspec.Struct, Generic[V], frozen=True):
    """One change of a row: `new` is None when it was deleted, `old` when it was not there before."""

    new: V | None
    old: V | None


CHANGE: Serde[Change[Any]] = value_serde(Change[Any])
