"""Agents: the user's own code as an operator, in four shapes that the function itself shows.

    def score(order): ...                          plain    runs inside the fused loop, like `map`
    async def enrich(order): ...                   record   up to `concurrency` calls at once, see `order`
    async def audit(stream: sk.Stream[Order]): ... stream   a loop of its own, one for each lane
    @sk.batch(100, "1s")
    async def store(orders: list[Order]): ...      batch    several at a time, lane by lane

Whatever a function returns (or a stream agent yields) goes to each sink: functions are called with it, then
it leaves for the topics with the record's key, time and headers; None goes nowhere. The asynchronous shapes
take records from an inbox, since the loop never awaits; see `inflight` for what that means for commits.
"""

from __future__ import annotations

import dis
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec

from streamkit.errors import UsageError
from streamkit.processing.batch import BatchFunction
from streamkit.processing.error_policy import ErrorPolicy
from streamkit.processing.operators.function import (
    VALUE_AND_RECORD,
    check_function,
    function_name,
    serde_of_items,
    serde_of_result,
)
from streamkit.processing.operators.source import unchanged_from
from streamkit.processing.replies import without_request
from streamkit.processing.serde import Serde
from streamkit.processing.tasks.inflight import Order
from streamkit.processing.topology import Node
from streamkit.processing.units import Duration

if TYPE_CHECKING:
    from streamkit.processing.tasks.fuse import At, Code

Shape = Literal["plain", "record", "stream", "batch"]


@dataclass(frozen=True, eq=False, kw_only=True)
class AgentNode(Node):
    kind: ClassVar[str] = "agent"
    function: Callable[..., Any]
    shape: Shape
    concurrency: int = 1
    order: Order = "key"
    timeout_ms: int | None = None
    on_error: ErrorPolicy | None = None
    batch: BatchFunction[Any, Any] | None = None
    sinks: tuple[Callable[..., Any], ...] = ()  # functions that are called with each result

    def __post_init__(self) -> None:
        given = ("the stream",) if self.shape == "stream" else VALUE_AND_RECORD
        check_function(
            self.function,
            f"the agent {self.name}",
            *given,
            optional=len(given) - 1,
            may_await=True,
            may_yield=True,
        )
        if self.timeout_ms == 0:
            raise UsageError(f"the agent {self.name} has no time to answer", hint='for example timeout="5s"')

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        return (self.function, *self.sinks)

    @property
    def policy(self) -> ErrorPolicy | None:
        return self.on_error

    @property
    def value_serde(self) -> Serde[Any]:
        if self.shape in ("stream", "batch"):
            return serde_of_items(self.function)
        return serde_of_result(self.function)

    @property
    def detail(self) -> str:
        lanes = f", concurrency {self.concurrency}" if self.concurrency > 1 else ""
        if self.order != "key":
            lanes += f", order {self.order}"
        if self.batch is not None:
            lanes += f", up to {self.batch.max_size} within {self.batch.max_wait_ms} ms"
        return f"{self.shape} {function_name(self.function)}{lanes}"

    def generate(self, code: Code, at: At) -> None:
        if self.shape == "plain":
            self._inline(code, at)
            return
        put = code.outlet(code.runtime.inbox(self))
        at = code.time(code.key(at))
        raw = "m"
        stream_time = at.stream_time or at.time
        headers = at.headers or "None"
        code.line(f"{put}(({raw}, {at.value}, {at.key}, {at.time}, {stream_time}, {headers}))")

    def _inline(self, code: Code, at: At) -> None:
        asked = ""
        if at.raw and unchanged_from(self.parents[0]) is not None:
            at, asked = self._without_request(code, at)
        call, at = code.call(self, self.function, at)
        result = code.variable("v")
        code.line(f"{result} = {call}")
        with code.block(f"if {result} is not None:"):
            made = msgspec.structs.replace(at, value=result)
            for sink in self.sinks:
                call, made = code.call(self, sink, made)
                code.line(call)
            code.follow(self, made)
        code.tally(code.runtime.counts(self), "done")
        if asked:
            with code.block(f"if {asked} is not None:"):
                answer = code.bind(code.runtime.replier(self), "answer")
                code.line(f"{answer}({asked}, {result}, {code.timestamp(at)})")

    def _without_request(self, code: Code, at: At) -> tuple[At, str]:
        """A request's headers stop here; the variable that holds what was asked."""
        headers, asked = code.variable("headers"), code.variable("asked")
        code.line(f"{headers} = {code.headers(at)}")
        code.line(f"{asked} = None")
        with code.block(f"if {headers}:"):
            code.line(f"{headers}, {asked} = {code.bind(without_request, 'split')}({headers})")
        return msgspec.structs.replace(at, headers=headers), asked


def shape_of(function: Callable[..., Any], stream_type: type) -> Shape:
    """What an agent function is, by how it is declared."""
    if isinstance(function, BatchFunction):
        return "batch"
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters:
        raise UsageError(
            f"the agent {function_name(function)} takes no argument", hint="it receives the records"
        )
    try:
        declared = typing.get_type_hints(function).get(parameters[0].name)
    except (NameError, TypeError):  # a type that exists for the type checker only; a `partial`
        declared = parameters[0].annotation
    is_stream = (typing.get_origin(declared) or declared) is stream_type
    if isinstance(declared, str):
        is_stream = declared.split("[")[0].rpartition(".")[2] == stream_type.__name__
    asynchronous = inspect.iscoroutinefunction(function)
    generator = inspect.isasyncgenfunction(function)
    if is_stream and (asynchronous or generator):
        return "stream"
    name = function_name(function)
    if is_stream:
        raise UsageError(
            f"the agent {name} takes a stream, and does not await it", hint=f"make it `async def {name}`"
        )
    if (asynchronous or generator) and _iterates(function, parameters[0].name):
        raise UsageError(
            f"the agent {name} iterates over {parameters[0].name}, which is not declared as a stream",
            hint=f"async def {name}({parameters[0].name}: sk.Stream[...])",
        )
    if generator or inspect.isgeneratorfunction(function):
        raise UsageError(
            f"the agent {name} yields, and its parameter is not declared as a stream",
            hint=f"`async def {name}(stream: sk.Stream[T])` may; what takes single records returns",
        )
    return "record" if asynchronous else "plain"


def _iterates(function: Callable[..., Any], parameter: str) -> bool:
    """Does the function say `async for ... in parameter`?"""
    code, before = getattr(inspect.unwrap(function), "__code__", None), None
    for step in () if code is None else dis.get_instructions(code):
        if step.opname == "GET_AITER" and before is not None and before.argval == parameter:
            return True
        before = step
    return False


def check_shape(
    function: Callable[..., Any], shape: Shape, concurrency: int, order: Order, timeout: Duration | None
) -> None:
    """What was asked for must be possible with such a function."""
    name = function.__name__
    if shape == "plain" and concurrency > 1:
        raise UsageError(
            f"concurrency={concurrency} needs an async function; {name} is a plain one",
            hint="make it `async def`, or drop concurrency=",
        )
    if order != "key" and shape != "record":
        raise UsageError(f"order={order!r} needs an async function of one record; {name} is not one")
    if timeout is not None and shape not in ("record", "batch"):
        raise UsageError(
            f"timeout= needs an async function of records; {name} is not one",
            hint="it limits one call: `async def name(value)`",
        )
