"""`Agent`: what `@app.agent` makes of a function: still called as the function, and known to others by name.

    @app.agent(orders, sink=[priced, audit, print])
    async def price(order: Order) -> Priced: ...

    await price(order)                    # a plain call, as tests make it

A sink is a topic, another agent (its topic: what arrives there is processed wherever that partition is) or a
function, plain or async, which is called with each result.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, overload

from streamkit.errors import UsageError
from streamkit.processing.operators.function import function_name
from streamkit.processing.topology import TopicSpec

if TYPE_CHECKING:
    from streamkit.processing.app import App
    from streamkit.processing.operators.agent import AgentNode
    from streamkit.processing.record import Record
    from streamkit.processing.stream import Stream

V = TypeVar("V")
R = TypeVar("R")


class Agent(Generic[V, R]):
    """An agent that takes values of type V and makes results of type R of them."""

    def __init__(self, app: App, node: AgentNode, topic: TopicSpec[Any, V] | None) -> None:
        functools.update_wrapper(self, node.function)
        self.app = app
        self.node = node
        self.topic = topic  # where its values come from unchanged; None: it takes what a stream computes

    @property
    def name(self) -> str:
        """The operator's name, unique in the app."""
        return self.node.name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.node.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"Agent({self.name!r})"

    def source(self, purpose: str) -> TopicSpec[Any, V]:
        """The topic through which others reach it."""
        if self.topic is None:
            raise UsageError(
                f"{purpose} the agent {self.name}, which takes what a stream computes",
                hint="let it take a topic: @app.agent(topic)",
            )
        return self.topic


class Declare(Protocol):
    """What `app.agent(...)` returns: the decorator."""

    @overload
    def __call__(self, function: Callable[[Stream[Any, V]], AsyncIterator[R]], /) -> Agent[V, R]: ...
    @overload
    def __call__(
        self, function: Callable[[Stream[Any, V]], Coroutine[Any, Any, None]], /
    ) -> Agent[V, None]: ...
    @overload
    def __call__(self, function: Callable[[V], Coroutine[Any, Any, R]], /) -> Agent[V, R]: ...
    @overload
    def __call__(self, function: Callable[[V, Record[Any]], Coroutine[Any, Any, R]], /) -> Agent[V, R]: ...
    @overload
    def __call__(self, function: Callable[[V], R], /) -> Agent[V, R]: ...
    @overload
    def __call__(self, function: Callable[[V, Record[Any]], R], /) -> Agent[V, R]: ...


OneSink = TopicSpec[Any, Any] | str | Agent[Any, Any] | Callable[..., Any]
Sinks = OneSink | Iterable[OneSink] | None


def sorted_sinks(sinks: Sinks) -> tuple[list[TopicSpec[Any, Any] | str], list[Callable[..., Any]]]:
    """The topics among an agent's sinks, those of other agents included, and the functions."""
    topics: list[TopicSpec[Any, Any] | str] = []
    functions: list[Callable[..., Any]] = []
    one = sinks is None or isinstance(sinks, str | TopicSpec) or callable(sinks)
    for sink in [sinks] if one else sinks:  # type: ignore[union-attr]
        if isinstance(sink, Agent):
            topics.append(sink.source("a sink is"))
        elif isinstance(sink, str | TopicSpec):
            topics.append(sink)
        elif callable(sink):
            functions.append(sink)
        elif sink is not None:
            raise UsageError(
                f"{sink!r} is no sink", hint="a sink is a topic, another agent, or a function of the result"
            )
    return topics, functions


def check_sinks(function: Callable[..., Any], shape: str, sinks: Iterable[Callable[..., Any]]) -> None:
    """A plain agent runs in a loop that does not await."""
    for sink in sinks:
        if shape == "plain" and inspect.iscoroutinefunction(sink):
            raise UsageError(
                f"the sink {function_name(sink)} is async, and the agent {function_name(function)} is not",
                hint="make the agent `async def`",
            )


def value_type(function: Callable[..., Any], shape: str) -> Any:
    """What a function declares to take: the type of a topic that is made for it."""
    first = next(iter(inspect.signature(function).parameters.values()))
    try:
        declared = typing.get_type_hints(function).get(first.name, Any)
    except NameError:  # a type that exists for the type checker only
        return Any
    arguments = typing.get_args(declared)
    return (arguments[-1] if arguments else Any) if shape == "stream" else declared
