"""What operators know of functions that users give them: how they are called, a name, what they return."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

from streamkit.errors import UsageError
from streamkit.processing.only_looks import only_looks
from streamkit.processing.serde import JSON, Serde, value_serde
from streamkit.processing.state.views import How
from streamkit.processing.topology import Node

VALUE_AND_RECORD = ("the value", "its record")
SINGLE = frozenset((str, bytes, dict))  # one value each, though Python iterates over them


@dataclass(frozen=True, eq=False, kw_only=True)
class FunctionNode(Node):
    """An operator that is one function."""

    may_yield: ClassVar[bool] = False
    function: Callable[..., Any]

    def __post_init__(self) -> None:
        caller = f"{self.kind.replace('-', '_')}()"
        check_function(self.function, caller, *VALUE_AND_RECORD, optional=1, may_yield=self.may_yield)

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        return (self.function,)

    @property
    def only_looks(self) -> bool:
        return only_looks(self.function)

    @property
    def detail(self) -> str:
        return function_name(self.function)


@dataclass(frozen=True, eq=False, kw_only=True)
class JoinNode(Node):
    """An operator that makes one value of two. `how`: what becomes of those that have no partner."""

    function: Callable[[Any, Any], Any]
    how: How

    def __post_init__(self) -> None:
        check_function(self.function, "join()", "mine", "theirs")
        if self.how not in get_args(How):
            raise UsageError(f"how is {' or '.join(map(repr, get_args(How)))}, got {self.how!r}")

    @property
    def value_serde(self) -> Serde[Any]:
        return serde_of_result(self.function)

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        return (self.function,)


def function_name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function)).replace("<locals>.", "")


def check_function(
    function: Any,
    caller: str,
    *given: str,
    optional: int = 0,
    may_yield: bool = False,
    may_await: bool = False,
) -> None:
    """Refuse, where it is declared, what `caller` could not call with `given` once a record comes.

    The last `optional` of them may be left out. Raises UsageError.
    """
    words = " and ".join(given) or "nothing"
    if not callable(function):
        raise UsageError(f"{caller} needs a function, got {function!r}", hint=f"it is called with {words}")
    name = function_name(function)
    if not may_await and (inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)):
        raise UsageError(
            f"{caller} does not await, and {name} is async",
            hint="let an agent await it, @app.agent(topic_or_stream), or make it a plain `def`",
        )
    if inspect.isgeneratorfunction(function) and not may_yield:
        raise UsageError(
            f"{caller} takes one result, and {name} yields any number of them",
            hint="return it, or use flat_map()",
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # builtins such as `int` publish none
        return
    if not any(_takes(signature, given[:count]) for count in range(len(given) - optional, len(given) + 1)):
        raise UsageError(
            f"{caller} cannot call {name}{signature}",
            hint=f"it is called with {words}" + (f", or with {given[0]} alone" if optional else ""),
        )


def check_several(function: Callable[..., Any], caller: str) -> None:
    """Refuse a function that says it returns one value, where each of several leaves. Raises UsageError."""
    returned = returned_type(function)
    single = typing.get_origin(returned) or returned
    if single in SINGLE or (hasattr(single, "__struct_fields__") and not hasattr(single, "__iter__")):
        raise UsageError(
            f"{caller} passes on each of several results, and {function_name(function)} returns one "
            f"{single.__name__}",
            hint="return a list of it: [result], or use map()"
            if caller == "flat_map()"
            else "return a list of it: [result], or yield it",
        )


def _takes(signature: inspect.Signature, given: tuple[str, ...]) -> bool:
    try:
        signature.bind(*given)
    except TypeError:
        return False
    return True


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
