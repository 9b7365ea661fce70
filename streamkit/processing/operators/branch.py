"""`branch`: each value takes the first arm whose function is true; without a match it is done.

`Branch` decides; an `Arm` is one of its outputs, a stream of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from streamkit.processing.only_looks import only_looks
from streamkit.processing.operators.function import VALUE_AND_RECORD, check_function, function_name
from streamkit.processing.topology import Node

if TYPE_CHECKING:
    from streamkit.processing.tasks.fuse import At, Code


@dataclass(frozen=True, eq=False, kw_only=True)
class Branch(Node):
    kind: ClassVar[str] = "branch"
    predicates: tuple[Callable[..., Any], ...]

    def __post_init__(self) -> None:
        for predicate in self.predicates:
            check_function(predicate, "branch()", *VALUE_AND_RECORD, optional=1)

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        return self.predicates

    @property
    def only_looks(self) -> bool:
        return all(map(only_looks, self.predicates))

    @property
    def detail(self) -> str:
        return ", ".join(map(function_name, self.predicates))

    def generate(self, code: Code, at: At) -> None:
        self._arm(code, at, 0)

    def _arm(self, code: Code, at: At, number: int) -> None:
        call, at = code.call(self, self.predicates[number], at)
        with code.block(f"if {call}:"):
            code.follow(self, at, port=str(number))
        if number + 1 < len(self.predicates):
            with code.block("else:"):
                self._arm(code, at, number + 1)


@dataclass(frozen=True, eq=False, kw_only=True)
class Arm(Node):
    kind: ClassVar[str] = "arm"

    @property
    def only_looks(self) -> bool:
        return True
