"""`deduplicate(within, by=…)`: of records with one key and identity, the first in a stretch of time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from streamkit.processing.former_fingerprint import former_function_fingerprint
from streamkit.processing.function_fingerprint import function_fingerprint
from streamkit.processing.operators.function import VALUE_AND_RECORD, check_function, function_name
from streamkit.processing.state.operator_state import OperatorState
from streamkit.processing.state.seen import Seen
from streamkit.processing.state.store import Index, Store
from streamkit.processing.state.stored_seen import SeenIndex, StoredSeen
from streamkit.processing.topology import Stateful

if TYPE_CHECKING:
    from streamkit.processing.tasks.fuse import At, Code


@dataclass(frozen=True, eq=False, kw_only=True)
class Deduplicate(Stateful):
    """`by=None`: the key alone is the identity."""

    kind: ClassVar[str] = "deduplicate"
    needs_time: ClassVar[bool] = True
    within_ms: int
    by: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        if self.by is not None:
            check_function(self.by, "deduplicate(by=)", *VALUE_AND_RECORD, optional=1)

    def make_state(self, store: Store) -> OperatorState:
        if store.spills:
            return StoredSeen(self.within_ms, self.key_serde, store, by_key=self.by is None)
        return Seen(self.within_ms, self.key_serde, store)

    def make_index(self) -> Index:
        return SeenIndex()

    @property
    def state_name(self) -> str:
        return f"seen {'' if self.by is None else function_fingerprint(self.by)}"

    @property
    def former_state_name(self) -> str:
        return f"seen {'' if self.by is None else former_function_fingerprint(self.by)}"

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        return () if self.by is None else (self.by,)

    @property
    def detail(self) -> str:
        by = "key" if self.by is None else function_name(self.by)
        return f"by {by}, within {self.within_ms} ms"

    def generate(self, code: Code, at: At) -> None:
        counts = code.bind(code.runtime.counts(self), "counts")
        state = code.runtime.state(self)
        seen, name = code.bind(state, "seen"), code.variable("name")
        code.takes_back(seen)
        if isinstance(state, StoredSeen) and state.by_key:
            code.foresee(state, at)
        at = code.time(code.key(at))
        with code.block(f"if {at.key} is None:"):
            code.line(f"{counts}.null_keys += 1")
        with code.block("else:"):
            identity = "None"
            if self.by is not None:
                identity, at = code.call(self, self.by, at)
            code.line(f"{name} = {seen}.name({at.key}, {identity})")
            with code.block(f"if {seen}.is_new({name}, {at.time}):"):
                code.follow(self, at)
                code.line(f"{seen}.keep({name}, {at.time})")
            with code.block("else:"):
                code.line(f"{counts}.duplicates += 1")
