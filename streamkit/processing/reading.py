"""What can be read, and what a stranger takes for it: refused where it is declared, with what was meant."""

from __future__ import annotations

from streamkit.errors import UsageError
from streamkit.processing.agent import Agent
from streamkit.processing.connectors.sources import Source
from streamkit.processing.stream import Stream
from streamkit.processing.topic import Topic


def check_source(source: object) -> None:
    """An agent reads a topic, a stream, or a topic of its own."""
    if source is None or isinstance(source, str | Topic | Stream):
        return
    if isinstance(source, Agent):
        raise UsageError(
            f"an agent reads a topic or a stream, and {source.name} is an agent",
            hint=f"let {source.name} have a topic as its sink=, and read that",
        )
    if callable(source):
        raise UsageError(
            f"@app.agent stands above {getattr(source, '__name__', source)} without its parentheses",
            hint="@app.agent(topic), or @app.agent() for a topic of its own",
        )
    raise UsageError(
        f"an agent reads a topic or a stream, got {source!r}",
        hint="for several: @app.agent(app.stream(one).merge(app.stream(other)))",
    )


def checked_topic(name: str) -> str:
    """The name of a topic, which may stand for a topic that declares nothing."""
    if isinstance(name, str):
        return name
    raise UsageError(
        f"a stream reads a topic, got {name!r}",
        hint="a source flows into a topic, and that is read: app.source(source, topic); app.stream(topic)"
        if isinstance(name, Source)
        else 'app.topic("orders", ...), or its name',
    )
