"""`peek`: look at every value on its way (count, log, trace) without changing the stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from streamkit.processing.operators.function import FunctionNode

if TYPE_CHECKING:
    from streamkit.processing.tasks.fuse import At, Code


@dataclass(frozen=True, eq=False, kw_only=True)
class Peek(FunctionNode):
    kind: ClassVar[str] = "peek"

    def generate(self, code: Code, at: At) -> None:
        call, at = code.call(self, self.function, at)
        code.line(call)
        code.follow(self, at)
