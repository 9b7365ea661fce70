"""`map`: one value becomes another; key, event time and headers stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from streamkit.processing.operators.function import FunctionNode, serde_of_result
from streamkit.processing.serde import Serde

if TYPE_CHECKING:
    from streamkit.processing.tasks.fuse import At, Code


@dataclass(frozen=True, eq=False, kw_only=True)
class Map(FunctionNode):
    kind: ClassVar[str] = "map"

    @property
    def value_serde(self) -> Serde[Any]:
        return serde_of_result(self.function)

    def generate(self, code: Code, at: At) -> None:
        call, at = code.call(self, self.function, at)
        result = code.variable("v")
        code.line(f"{result} = {call}")
        code.follow(self, msgspec.structs.replace(at, value=result))
