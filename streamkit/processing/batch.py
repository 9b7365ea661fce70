"""`sk.batch`: an agent that takes several records in one call.

    @app.agent(orders, sink="ids")
    @sk.batch(500, max_wait="2s")
    async def store(orders: list[Order]) -> list[int]: ...

A call gets up to `max_size` values, or as many as came within `max_wait` of the first that it waited with. It
answers None, or a list with one result (or None) for each value, in their order; a result leaves with its own
record's key, time and headers. What must be done at once (a commit that needs everything finished, partitions
that leave) ends the waiting early.

Where its parameter is a `pl.DataFrame`, `pa.Table` or `pa.RecordBatch`, or with `frame=`, a call gets the
values as a frame, and may return one; see `frames`.

A call that raises is tried again whole, as `retry` says, and then value by value: only what fails alone meets
the last resort. With `concurrency=N` each partition has N loops, and a key always goes to the same one.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, overload

from streamkit.errors import UsageError
from streamkit.processing.frames import Frame, FrameKind, HasSchema, frame_of, results_of
from streamkit.processing.operators.function import function_name
from streamkit.processing.units import Duration, duration_ms

if TYPE_CHECKING:
    from streamkit.processing.record import Record

V = TypeVar("V")
R = TypeVar("R")
F = TypeVar("F", bound=HasSchema)


class BatchFunction(Generic[V, R]):
    """A function of several values of type V, which makes a result of type R of each."""

    def __init__(
        self, function: Callable[..., Any], max_size: int, max_wait_ms: int, frame: Frame | None = None
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.frame = frame
        self.max_size = max_size
        self.max_wait_ms = max_wait_ms

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def taken(self, values: list[Any], records: Sequence[Record[Any]]) -> Any:
        """The values as the function takes them; `records` may be left out where it takes a list."""
        return values if self.frame is None else self.frame.of(values, records)

    def results(self, count: int, returned: Any, records: Sequence[Record[Any]]) -> Sequence[Any]:
        """A result for each value. Raises TypeError where that is not what was returned."""
        return paired(count, returned if self.frame is None else results_of(returned, records))


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
    @overload
    def __call__(
        self, function: Callable[[F], Coroutine[Any, Any, HasSchema | None]], /
    ) -> BatchFunction[Any, dict[str, Any]]: ...
    @overload
    def __call__(
        self, function: Callable[[F, list[Record[Any]]], Coroutine[Any, Any, HasSchema | None]], /
    ) -> BatchFunction[Any, dict[str, Any]]: ...


class MakeFrameBatch(Protocol):
    """The same with `frame=`: whatever the parameter is declared as."""

    def __call__(self, function: Callable[..., Coroutine[Any, Any, Any]], /) -> BatchFunction[Any, Any]: ...


@overload
def batch(max_size: int, max_wait: Duration = "100ms") -> MakeBatch: ...
@overload
def batch(max_size: int, max_wait: Duration = "100ms", *, frame: FrameKind) -> MakeFrameBatch: ...
def batch(max_size: int, max_wait: Duration = "100ms", *, frame: FrameKind | None = None) -> Any:
    """Let an agent's function take lists: `async def name(values)`, or `(values, records)`.

    `frame`: "polars" or "arrow", to take frames instead; a parameter that is declared as one says it, too.
    """
    if not isinstance(max_size, int):
        raise UsageError(f"@sk.batch needs a size, got {max_size!r}", hint='@sk.batch(100, max_wait="1s")')
    if max_size < 1:
        raise UsageError(f"a batch holds at least one record, got {max_size}")
    max_wait_ms = duration_ms(max_wait)

    def make(function: Callable[..., Any]) -> BatchFunction[Any, Any]:
        if not inspect.iscoroutinefunction(function):
            raise UsageError(
                f"batches need an async function; {function_name(function)} is not one",
                hint="make it `async def`",
            )
        return BatchFunction(function, max_size, max_wait_ms, frame_of(function, frame))

    return make


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
