"""`filter`: values for which the function is true go on; the rest are done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from streamkit.processing.operators.function import FunctionNode

if TYPE_CHECKING:
    from streamkit.processing.tasks.fuse import At, Code


@dataclass(frozen=True, eq=False, kw_only=True)
class Filter(FunctionNode):
    kind: ClassVar[str] = "filter"

    def generate(self, code: Code, at: At) -> None:
        call, at = code.call(self, self.function, at)
        with code.block(f"if {call}:"):
            code.follow(self, at)
