"""`map`: one value becomes another; key, event time and headers stay."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from streamkit.errors import UsageError
from streamkit.processing.serde import JSON, Serde, value_serde
from streamkit.processing.topology import Node

if TYPE_CHECKING:
    from streamkit.processing.tasks.fuse import At, Code


@dataclass(frozen=True, eq=False, kw_only=True)
class Map(Node):
    kind: ClassVar[str] = "map"
    function: Callable[..., Any]

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        return (self.function,)

    @property
    def value_serde(self) -> Serde[Any]:
        return serde_of_result(self.function)

    @property
    def detail(self) -> str:
        return function_name(self.function)

    def generate(self, code: Code, at: At) -> None:
        call, at = code.call(self, self.function, at)
        result = code.variable("v")
        code.line(f"{result} = {call}")
        code.follow(self, msgspec.structs.replace(at, value=result))


def function_name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function)).replace("<locals>.", "")


def returned_type(function: Callable[..., Any]) -> Any:
    """The annotated result of a function without `| None`; Any where nothing is said."""
    if isinstance(function, type):
        return function
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError):  # an annotation under TYPE_CHECKING, a builtin
        return Any
    result = hints.get("return", Any)
    arguments = typing.get_args(result)
    if type(None) in arguments and len(arguments) == 2:
        return next(a for a in arguments if a is not type(None))
    return result


def serde_of_result(function: Callable[..., Any]) -> Serde[Any]:
    """How a function's results are written: by its annotation, else as plain JSON."""
    returned = returned_type(function)
    try:
        return value_serde(returned)
    except UsageError:
        return JSON
