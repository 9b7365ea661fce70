"""`flat_map`: one value becomes any number of values, each with the record's key, time and headers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from streamkit.processing.operators.function import FunctionNode, check_several, serde_of_items
from streamkit.processing.serde import Serde

if TYPE_CHECKING:
    from streamkit.processing.tasks.fuse import At, Code


@dataclass(frozen=True, eq=False, kw_only=True)
class FlatMap(FunctionNode):
    kind: ClassVar[str] = "flat-map"
    may_yield: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_several(self.function, "flat_map()")

    @property
    def value_serde(self) -> Serde[Any]:
        return serde_of_items(self.function)

    def generate(self, code: Code, at: At) -> None:
        call, at = code.call(self, self.function, at)
        item = code.variable("v")
        code.forks += 1
        with code.block(f"for {item} in {call}:"):
            code.follow(self, msgspec.structs.replace(at, value=item))
