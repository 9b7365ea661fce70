"""`peek`: look at every value on its way (count, log, trace) without changing the stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from streamkit.processing.operators.map import function_name
from streamkit.processing.topology import Node

if TYPE_CHECKING:
    from streamkit.processing.tasks.fuse import At, Code


@dataclass(frozen=True, eq=False, kw_only=True)
class Peek(Node):
    kind: ClassVar[str] = "peek"
    function: Callable[..., Any]

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        return (self.function,)

    @property
    def detail(self) -> str:
        return function_name(self.function)

    def generate(self, code: Code, at: At) -> None:
        call, at = code.call(self, self.function, at)
        code.line(call)
        code.follow(self, at)
