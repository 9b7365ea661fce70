"""`to(sink)`: values leave for a system outside, in batches.

It runs as a batch agent does: what is in hand holds the commit back, and bounds what else is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from streamkit.errors import UsageError
from streamkit.processing.batch import BatchFunction
from streamkit.processing.connectors.sinks import Sink
from streamkit.processing.error_policy import ErrorPolicy
from streamkit.processing.operators.agent import AgentNode
from streamkit.processing.serde import Serde
from streamkit.processing.topology import Node, Stateful, ancestors
from streamkit.processing.units import duration_ms


@dataclass(frozen=True, eq=False, kw_only=True)
class Outflow(AgentNode):
    kind: ClassVar[str] = "sink"
    sink: Sink

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        return ()

    @property
    def value_serde(self) -> Serde[Any]:
        return self.parents[0].value_serde

    @property
    def detail(self) -> str:
        return self.sink.detail


def outflow(stream: Node, sink: Sink, name: str, policy: ErrorPolicy | None) -> Outflow:
    """The operator. Refuses a stream that the sink cannot make sense of."""
    if sink.needs_offsets:
        for problem in _disorder(stream):
            raise UsageError(
                f"{sink.detail} knows rows by their offsets, but {problem}",
                hint='write them to a topic first: .to("topic"), then app.stream("topic").to(sink)',
            )
    if sink.max_rows < 1:
        raise UsageError(f"max_rows is at least 1, got {sink.max_rows}")
    return Outflow(
        name=name,
        parents=(stream,),
        function=sink.write,
        shape="batch",
        batch=BatchFunction(sink.write, sink.max_rows, duration_ms(sink.max_wait)),
        on_error=policy,
        sink=sink,
    )


def _disorder(stream: Node) -> Iterator[str]:
    """What brings rows without an offset, or not in the order of offsets."""
    for node in ancestors(stream):
        if isinstance(node, Stateful) and node.computes:
            yield f"results of {node.name} come from many records"
        elif isinstance(node, AgentNode) and node.shape == "stream":
            yield f"{node.name} may make several results of a record, one after the other"
        elif isinstance(node, AgentNode) and node.concurrency > 1 and node.order != "input":
            yield f"results of {node.name} leave in another order"
