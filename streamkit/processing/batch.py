"""`sk.batch`: an agent that takes several records in one call.

    @app.agent(orders, sink="ids")
    @sk.batch(500, max_wait="2s")
    async def store(orders: list[Order]) -> list[int]: ...

A call gets up to `max_size` values, or as many as came within `max_wait` of the first that it waited with. It
answers None, or a list with one result (or None) for each value, in their order; a result leaves with its own
record's key, time and headers. What must be done at once (a commit that needs everything finished, partitions
that leave) ends the waiting early.

A call that raises is tried again whole, as `retry` says, and then value by value: only what fails alone meets
the last resort. With `concurrency=N` each partition has N loops, and a key always goes to the same one.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast, overload

from streamkit.errors import UsageError
from streamkit.processing.operators.function import function_name
from streamkit.processing.units import Duration, duration_ms

if TYPE_CHECKING:
    from streamkit.processing.record import Record

V = TypeVar("V")
R = TypeVar("R")


class BatchFunction(Generic[V, R]):
    """A function of several values of type V, which makes a result of type R of each."""

    def __init__(self, function: Callable[..., Any], max_size: int, max_wait_ms: int) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.max_size = max_size
        self.max_wait_ms = max_wait_ms

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)


class MakeBatch(Protocol):
    """What `batch(...)` returns: the decorator."""

    @overload
    def __call__(
        self, function: Callable[[list[V]], Coroutine[Any, Any, None]], /
    ) -> BatchFunction[V, None]: ...
    @overload
    def __call__(
        self, function: Callable[[list[V], list[Record[Any]]], Coroutine[Any, Any, None]], /
    ) -> BatchFunction[V, None]: ...
    @overload
    def __call__(
        self, function: Callable[[list[V]], Coroutine[Any, Any, Sequence[R]]], /
    ) -> BatchFunction[V, R]: ...
    @overload
    def __call__(
        self, function: Callable[[list[V], list[Record[Any]]], Coroutine[Any, Any, Sequence[R]]], /
    ) -> BatchFunction[V, R]: ...


def batch(max_size: int, max_wait: Duration = "100ms") -> MakeBatch:
    """Let an agent's function take lists: `async def name(values)`, or `(values, records)`."""
    if max_size < 1:
        raise UsageError(f"a batch holds at least one record, got {max_size}")
    max_wait_ms = duration_ms(max_wait)

    def make(function: Callable[..., Any]) -> BatchFunction[Any, Any]:
        if not inspect.iscoroutinefunction(function):
            raise UsageError(
                f"batches need an async function; {function_name(function)} is not one",
                hint="make it `async def`",
            )
        return BatchFunction(function, max_size, max_wait_ms)

    return cast(MakeBatch, make)


def paired(count: int, returned: Any) -> Sequence[Any]:
    """A result for each of so many values. Raises TypeError where that is not what was returned."""
    if returned is None:
        return [None] * count
    if not isinstance(returned, list | tuple) or len(returned) != count:
        size = f" of {len(returned)}" if isinstance(returned, list | tuple) else ""
        raise TypeError(
            f"a batch of {count} was answered with a {type(returned).__name__}{size}: "
            "return None, or a list with one result for each value"
        )
    return returned
