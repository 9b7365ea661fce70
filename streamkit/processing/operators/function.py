"""What operators know of the functions that users give them: a name, and the type of what they return."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streamkit.errors import UsageError
from streamkit.processing.serde import JSON, Serde, value_serde
from streamkit.processing.topology import Node


@dataclass(frozen=True, eq=False, kw_only=True)
class FunctionNode(Node):
    """An operator that is one function."""

    function: Callable[..., Any]

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        return (self.function,)

    @property
    def detail(self) -> str:
        return function_name(self.function)


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


def serde_of_items(function: Callable[..., Any]) -> Serde[Any]:
    """How what a function's results hold is written: by its annotation, else as plain JSON."""
    items = typing.get_args(returned_type(function))
    try:
        return value_serde(items[0]) if items else JSON
    except UsageError:
        return JSON
