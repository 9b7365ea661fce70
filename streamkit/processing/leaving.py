"""Where values leave the graph: the ends of streams and tables, and the sinks of agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamkit.errors import UsageError
from streamkit.processing.connectors import sinks as connectors
from streamkit.processing.error_policy import ErrorPolicy
from streamkit.processing.operators.outflow import outflow
from streamkit.processing.operators.sink import Sink
from streamkit.processing.topology import Node, TopicSpec

if TYPE_CHECKING:
    from streamkit.processing.app import App


def leave(
    app: App,
    node: Node,
    target: TopicSpec[Any, Any] | str | connectors.Sink,
    *,
    name: str,
    policy: ErrorPolicy | None,
) -> None:
    """Have the values of an operator written to a topic or a connector."""
    if not isinstance(target, str | TopicSpec | connectors.Sink):
        raise UsageError(
            f"to() takes a topic, its name or an sk.Sink, got {target!r}", hint='for example .to("results")'
        )
    if isinstance(target, connectors.Sink):
        app.draft.add(outflow(node, target, name, policy))
    elif policy is None:
        app.draft.add(Sink(name=name, parents=(node,), topic=app.sink_topic(target, node)))
    else:
        raise UsageError("retry= and on_error= of to() are for sinks; a topic takes what can be encoded")
