"""`flat_map`: one value becomes any number of values, each with the record's key, time and headers."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from streamkit.errors import UsageError
from streamkit.processing.operators.map import function_name, returned_type
from streamkit.processing.serde import JSON, Serde, value_serde
from streamkit.processing.topology import Node

if TYPE_CHECKING:
    from streamkit.processing.tasks.fuse import At, Code


@dataclass(frozen=True, eq=False, kw_only=True)
class FlatMap(Node):
    kind: ClassVar[str] = "flat-map"
    function: Callable[..., Any]

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        return (self.function,)

    @property
    def value_serde(self) -> Serde[Any]:
        return serde_of_items(self.function)

    @property
    def detail(self) -> str:
        return function_name(self.function)

    def generate(self, code: Code, at: At) -> None:
        call, at = code.call(self, self.function, at)
        item = code.variable("v")
        code.forks += 1
        with code.block(f"for {item} in {call}:"):
            code.follow(self, msgspec.structs.replace(at, value=item))


def serde_of_items(function: Callable[..., Any]) -> Serde[Any]:
    """How what a function's results hold is written: by its annotation, else as plain JSON."""
    items = typing.get_args(returned_type(function))
    try:
        return value_serde(items[0]) if items else JSON
    except UsageError:
        return JSON
