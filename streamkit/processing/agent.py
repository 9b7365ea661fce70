"""`Agent`: what `@app.agent` makes of a function: still called as the function, and known to others by name.

    @app.agent(orders, sink=[priced, audit, print])
    async def price(order: Order) -> Priced: ...

    await price(order)                    # a plain call, as tests make it
    await price.ask(order, key="ann")     # sent to its topic, processed where that partition is; the reply
    await price.cast(order, key="ann")    # sent, without a reply
    async for priced in price.map(orders) # many asked, a few at a time; replies in the order of the values

Others reach it inside a worker of the app (from agents and timers) and inside `async with app:`. A request is
a record: it is processed at least once, like any other, by whichever worker has its partition. What the agent
raises reaches the asker as an `AgentError`, and no reply in time is a TimeoutError.

A sink is a topic, another agent (its topic: what arrives there is processed wherever that partition is), an
`sk.Sink` (a file, a database), or a function, plain or async, which is called with each result.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast, overload

import msgspec

from streamkit.errors import DeadlineError, RefusedError, StreamkitError, UsageError
from streamkit.processing.connectors import sinks as connectors
from streamkit.processing.operators.function import function_name
from streamkit.processing.record import Headers
from streamkit.processing.replies import Answer, address
from streamkit.processing.serde import UNDECLARED_KEY, Serde
from streamkit.processing.topology import TopicSpec
from streamkit.processing.units import Duration, duration_ms

if TYPE_CHECKING:
    from streamkit.processing.app import App
    from streamkit.processing.batch import BatchFunction
    from streamkit.processing.operators.agent import AgentNode
    from streamkit.processing.record import Record
    from streamkit.processing.stream import Stream

V = TypeVar("V")
R = TypeVar("R")
AT_ONCE = 64


class AgentError(StreamkitError):
    """An agent that was asked raised. `agent`, and the `error`'s class as text."""

    def __init__(self, agent: str, error: str, message: str) -> None:
        super().__init__(f"{agent} raised {error}: {message}", hint="see the log of the worker that has it")
        self.agent = agent
        self.error = error


class NoReplyError(DeadlineError, TimeoutError):
    """An agent that was asked did not reply in time. It may still do the work."""


class Request(msgspec.Struct, frozen=True):
    """A record for an agent's topic. `agent`: as `replies.address` has it."""

    agent: str
    topic: str
    value: bytes | None
    key: bytes | None
    headers: Headers | None


class Call(Awaitable[Answer], Protocol):
    """A request under way. Awaiting it raises TimeoutError when no reply came in time."""

    def cancel(self) -> object:
        """Nobody waits any more."""
        ...


class Caller(Protocol):
    """What asking needs of whatever runs the app."""

    def call(self, request: Request, timeout_ms: int) -> Call:
        """Send the request now, and wait for its reply in the background."""
        ...


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

    async def ask(
        self, value: V, *, key: Any = None, headers: Headers | None = None, timeout: Duration = "10s"
    ) -> R:
        """What the agent makes of the value: what it returns, or yields first.

        Raises AgentError when the agent raises, and a TimeoutError when no reply came within `timeout`; the
        request is processed nevertheless, unless it never arrived.
        """
        return self._reply(await self._calling(value, key, headers, timeout))

    async def cast(self, value: V, *, key: Any = None, headers: Headers | None = None) -> None:
        """Send the value to the agent; returns when the broker has acknowledged it."""
        await self.app.send(self.source("you cast to"), value, key=key, headers=headers)

    async def map(
        self,
        values: Iterable[V] | AsyncIterable[V],
        *,
        key: Callable[[V], Any] | None = None,
        timeout: Duration = "10s",
        at_once: int = AT_ONCE,
    ) -> AsyncIterator[R]:
        """`ask` for each value, `at_once` of them at a time; the replies in the order of the values.

        `key`: the key of a value. An error is raised in its turn and ends the loop.
        """
        calls: deque[Call] = deque()
        try:
            async for value in _each(values):
                calls.append(self._calling(value, None if key is None else key(value), None, timeout))
                if len(calls) >= at_once:
                    yield self._reply(await calls.popleft())
            while calls:
                yield self._reply(await calls.popleft())
        finally:
            for call in calls:
                call.cancel()

    def _calling(self, value: V, key: Any, headers: Headers | None, timeout: Duration) -> Call:
        topic, caller = self.source("you ask"), self.app.caller
        if caller is None:
            raise RefusedError(
                f"{self.name} is asked while the app {self.app.id} is not running",
                hint="wrap it in `async with app:`, or ask from an agent or a timer",
            )
        request = Request(
            agent=address(self.app.id, self.name),
            topic=topic.name,
            value=None if value is None else topic.value.encode(value),
            key=None if key is None else (topic.key or UNDECLARED_KEY).encode(key),
            headers=headers,
        )
        return caller.call(request, duration_ms(timeout))

    def _reply(self, answer: Answer) -> R:
        if answer.error is not None:
            raise AgentError(self.name, *answer.error)
        results: Serde[R] = self.node.value_serde
        return cast(R, None) if answer.value is None else results.decode(answer.value)

    def source(self, purpose: str) -> TopicSpec[Any, V]:
        """The topic through which others reach it."""
        if self.topic is None:
            raise UsageError(
                f"{purpose} the agent {self.name}, which takes what a stream computes",
                hint="let it take a topic: @app.agent(topic)",
            )
        return self.topic


async def _each(values: Iterable[V] | AsyncIterable[V]) -> AsyncIterator[V]:
    if isinstance(values, AsyncIterable):
        async for value in values:
            yield value
    else:
        for value in values:
            yield value


class Declare(Protocol):
    """What `app.agent(...)` returns: the decorator."""

    @overload
    def __call__(self, function: BatchFunction[V, R], /) -> Agent[V, R]: ...
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


Leaving = TopicSpec[Any, Any] | str | connectors.Sink  # what `Stream.to` takes
OneSink = Leaving | Agent[Any, Any] | Callable[..., Any]
Sinks = OneSink | Iterable[OneSink] | None


def sorted_sinks(sinks: Sinks) -> tuple[list[Leaving], list[Callable[..., Any]]]:
    """The topics and connectors among an agent's sinks, topics of other agents included, and the
    functions."""
    leaving: list[Leaving] = []
    functions: list[Callable[..., Any]] = []
    one = (
        sinks is None
        or isinstance(sinks, str | TopicSpec | connectors.Sink)
        or not isinstance(sinks, Iterable)
    )
    for sink in [sinks] if one else sinks:  # type: ignore[union-attr]
        if isinstance(sink, Agent):
            leaving.append(sink.source("a sink is"))
        elif isinstance(sink, str | TopicSpec | connectors.Sink):
            leaving.append(sink)
        elif callable(sink):
            functions.append(sink)
        elif sink is not None:
            raise UsageError(
                f"{sink!r} is no sink",
                hint="a sink is a topic, another agent, an sk.Sink, or a function of the result",
            )
    return leaving, functions


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
    if shape in ("stream", "batch"):
        return arguments[-1] if arguments else Any
    return declared
