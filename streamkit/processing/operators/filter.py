"""`filter`: values for which the function is true go on; the rest are done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from streamkit.processing.operators.map import function_name
from streamkit.processing.topology import Node

if TYPE_CHECKING:
    from streamkit.processing.tasks.fuse import At, Code


@dataclass(frozen=True, eq=False, kw_only=True)
class Filter(Node):
    kind: ClassVar[str] = "filter"
    function: Callable[..., Any]

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        return (self.function,)

    @property
    def detail(self) -> str:
        return function_name(self.function)

    def generate(self, code: Code, at: At) -> None:
        call, at = code.call(self, self.function, at)
        with code.block(f"if {call}:"):
            code.follow(self, at)
