"""Global tables: a small topic, whole in every worker, to be looked up by any key from any partition.

A task owns one partition of an ordinary table; a global table is one copy for the process, read without a
group from the topic's beginning and then followed. No task opens before it has been read to where the topic
ended when the worker began. It has no changelog (the topic is one) and no history: lookups read the present.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

import msgspec

from streamkit.processing.operators.function import (
    VALUE_AND_RECORD,
    JoinNode,
    check_function,
    function_name,
)
from streamkit.processing.record import RawRecord
from streamkit.processing.serde import UNDECLARED_KEY, Serde
from streamkit.processing.topology import TopicSpec

if TYPE_CHECKING:
    from streamkit.processing.tasks.fuse import At, Code

K = TypeVar("K")
V = TypeVar("V")


class GlobalTable(Mapping[K, V], Generic[K, V]):
    """The last value of each key of `topic`, all partitions together. Read it anywhere; its topic writes."""

    def __init__(self, topic: TopicSpec[K, V]) -> None:
        self.topic = topic
        self._rows: dict[K, V] = {}
        self._decode_key = (topic.key or cast(Serde[K], UNDECLARED_KEY)).decode

    def apply(self, records: Sequence[RawRecord]) -> None:
        """Records of one partition, in order; a null value deletes."""
        for record in records:
            key, value = record.key(), record.value()
            if key is None:
                continue
            if value is None:
                self._rows.pop(self._decode_key(key), None)
            else:
                self._rows[self._decode_key(key)] = self.topic.value.decode(value)

    def clear(self) -> None:
        self._rows.clear()

    def __getitem__(self, key: K) -> V:
        return self._rows[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        return f"GlobalTable({self.topic.name!r})"


@dataclass(frozen=True, eq=False, kw_only=True)
class GlobalLookup(JoinNode):
    """`stream.join(global_table, function, on=…)`: each record with the row that `on` names."""

    kind: ClassVar[str] = "global-lookup"
    table: GlobalTable[Any, Any]
    on: Callable[[Any], Any]

    def __post_init__(self) -> None:
        check_function(self.on, "join(on=)", *VALUE_AND_RECORD, optional=1)
        super().__post_init__()

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        return (self.on, self.function)

    @property
    def detail(self) -> str:
        return f"{self.how}, in {self.table.topic.name} by {function_name(self.on)}"

    def generate(self, code: Code, at: At) -> None:
        key, row, result = code.variable("key"), code.variable("row"), code.variable("v")
        call, at = code.call(self, self.on, at)
        if code.runtime.touches_tables(self):
            at = code.key(at)
        code.line(f"{key} = {call}")
        code.line(f"{row} = None if {key} is None else {code.bind(self.table.get, 'rows')}({key})")
        with code.block(f"if {row} is not None:" if self.how == "inner" else "if True:"):
            code.line(f"{result} = {code.apply(self, self.function, at, at.value, row)}")
            code.follow(self, msgspec.structs.replace(at, value=result))
