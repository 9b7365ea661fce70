"""`group_by`: records move to the partition of a new key, through a repartition topic (see `repartition`).

Records without a key belong nowhere: they are counted and dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from streamkit.processing.only_looks import only_looks
from streamkit.processing.operators.function import VALUE_AND_RECORD, check_function, function_name
from streamkit.processing.operators.repartition import Repartition

if TYPE_CHECKING:
    from streamkit.processing.tasks.fuse import At, Code


@dataclass(frozen=True, eq=False, kw_only=True)
class GroupBy(Repartition):
    kind: ClassVar[str] = "group-by"
    nulls: ClassVar[bool] = False
    function: Callable[..., Any]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_function(self.function, "group_by()", *VALUE_AND_RECORD, optional=1)

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        return (self.function,)

    @property
    def only_looks(self) -> bool:
        return super().only_looks and only_looks(self.function)

    @property
    def detail(self) -> str:
        return f"{function_name(self.function)}, through {self.topic}"

    def generate(self, code: Code, at: At) -> None:
        counts = code.bind(code.runtime.counts(self), "counts")
        call, at = code.call(self, self.function, at)
        at = code.time(at)
        key = code.variable("key")
        code.line(f"{key} = {call}")
        with code.block(f"if {key} is None:"):
            code.line(f"{counts}.null_keys += 1")
        with code.block("else:"):
            self.write(code, at, f"{code.bind(self.key.encode, 'encode')}({key})")
