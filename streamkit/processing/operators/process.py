"""`process(function, state=…, on_timer=…)`: any code over a key's records, with its own state and timers.

The function gets the value and a `Context`, and returns the values that leave, or None. Results of a record
keep its event time and headers; those of a timer have the time that it was set for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from streamkit.errors import UsageError
from streamkit.processing.operators.function import (
    SINGLE,
    check_function,
    check_several,
    function_name,
    serde_of_items,
)
from streamkit.processing.serde import Serde, as_kept
from streamkit.processing.state.operator_state import OperatorState
from streamkit.processing.state.processes import ProcessState
from streamkit.processing.state.store import Index, Store
from streamkit.processing.state.stored_processes import StoredProcessState, TimerIndex
from streamkit.processing.topology import Stateful

if TYPE_CHECKING:
    from streamkit.processing.tasks.fuse import At, Code


@dataclass(frozen=True, eq=False, kw_only=True)
class Process(Stateful):
    kind: ClassVar[str] = "process"
    needs_time: ClassVar[bool] = True
    function: Callable[..., Any]
    state: Serde[Any]
    on_timer: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        check_function(self.function, "process()", "the value", "its context", may_yield=True)
        check_several(self.function, "process()")
        if self.on_timer is not None:
            check_function(self.on_timer, "process(on_timer=)", "the context", may_yield=True)
            check_several(self.on_timer, "process(on_timer=)")

    def make_state(self, store: Store) -> OperatorState:
        state = as_kept(self.state, self.name)
        if store.spills:
            return StoredProcessState(self.key_serde, state, store)
        return ProcessState(self.key_serde, state, store)

    def make_index(self) -> Index:
        return TimerIndex()

    @property
    def computes(self) -> bool:
        return self.on_timer is not None

    @property
    def state_name(self) -> str:
        return f"process {self.state.name}"

    @property
    def value_serde(self) -> Serde[Any]:
        return serde_of_items(self.function)

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        return (self.function,) if self.on_timer is None else (self.function, self.on_timer)

    @property
    def detail(self) -> str:
        timers = "" if self.on_timer is None else f", timers {function_name(self.on_timer)}"
        return f"{function_name(self.function)}{timers}"

    def generate(self, code: Code, at: At) -> None:
        counts = code.bind(code.runtime.counts(self), "counts")
        kept = code.runtime.state(self)
        state, context = code.bind(kept, "state"), code.variable("context")
        if isinstance(kept, StoredProcessState):
            code.foresee(kept, at)
        at = code.time(code.key(at))
        with code.block(f"if {at.key} is None:"):
            code.line(f"{counts}.null_keys += 1")
        with code.block("else:"):
            code.line(f"{context} = {state}.context({at.key}, {at.time})")
            call = code.apply(self, self.function, at, at.value, context)
            self._results(code, at, call, state, context)

    def generate_computed(self, code: Code, at: At) -> None:
        assert self.on_timer is not None
        state, context = code.bind(code.runtime.state(self), "state"), code.variable("context")
        code.line(f"{context} = {at.value}")
        self._results(code, at, code.apply(self, self.on_timer, at, context), state, context)

    def _results(self, code: Code, at: At, call: str, state: str, context: str) -> None:
        """All of them are known before the first leaves; the state is kept after the last has left."""
        results, result = code.variable("results"), code.variable("v")
        code.line(f"{results} = {call}")
        if self.on_timer is None:
            with code.block(f"if {context}._timers:"):
                code.line(f"raise {code.bind(self._no_timers, 'no_timers')}()")
        code.forks += 1
        with code.block(f"if {results} is not None:"):
            with code.block(f"if {results}.__class__ in {code.bind(SINGLE, 'single')}:"):
                code.line(f"raise {code.bind(self._one_result, 'one_result')}({results})")
            with code.block(f"for {result} in list({results}):"):
                code.follow(self, msgspec.structs.replace(at, value=result))
        code.line(f"{state}.keep({context})")

    def _no_timers(self) -> UsageError:
        return UsageError(
            f"{function_name(self.function)} sets a timer, and {self.name} has nothing to call then",
            hint="process(..., on_timer=function): it is called with the context",
        )

    def _one_result(self, result: Any) -> UsageError:
        return UsageError(
            f"{self.name} passes on each of several results, and got one {type(result).__name__}",
            hint="return a list of it: [result], or yield it",
        )
