"""Streams over a pattern of topics: `app.topic(pattern="orders-.*")`, topics that are there and that will be.

What follows a pattern, up to where its records leave the task, is run once for each topic that matches, as a
task kind of its own: its partitions are handed out like any others, and a topic that comes later disturbs no
task. So the topics of a pattern may have different numbers of partitions, but there can be no state before
a `group_by` or `repartition`, which must say how many partitions its topic has.

    app's topology   Source(pattern) ─► map ─► group_by ═topic═► window
    plan             Source(orders-eu) ─► map ─► group_by ─┐
                     Source(orders-us) ─► map ─► group_by ─┴topic═► window

The tasks that write such a repartition topic come and go, so they announce no watermarks in it: event time
behind it advances as in a source topic, by what is read from each partition.

Not matched are topics that begin with `__`, those that the app itself writes or declares, the notes on what
was redriven of its dead letters, and names of internal topics, which a former version may have left.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from streamkit.errors import UsageError
from streamkit.processing.dead_letters import redriven_topic
from streamkit.processing.operators.source import Source
from streamkit.processing.rewiring import rewired
from streamkit.processing.serde import BYTES
from streamkit.processing.topology import (
    Border,
    Entry,
    Node,
    Plan,
    Subtopology,
    TopicSpec,
    Topology,
    ancestors,
    is_internal,
)

Spec = TypeVar("Spec", bound=TopicSpec[Any, Any])
NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9._-]+")


def declared_name(name: str | None, pattern: str | None, *, makes: bool) -> str:
    """The name of what `app.topic(name, pattern=...)` declares. `makes`: it says how to make a topic."""
    if pattern is None:
        if name is None:
            raise UsageError("app.topic() without a name", hint='app.topic("orders"), or pattern="orders-.*"')
        return name
    try:
        re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"{pattern!r} is no pattern of topics: {error}",
            hint='it is a regular expression for whole names, such as "orders-.*"',
        ) from None
    if makes:
        raise UsageError(
            f"the topics of the pattern {pattern} are made by others",
            hint="drop partitions= and config=, which are for a topic that the app may have to make",
        )
    word = "-".join(part for part in re.split(r"[._-]+", NOT_IN_NAMES.sub("-", pattern)) if part)
    return name or (f"{word}-pattern" if word else "pattern")


def check_one(topic: Spec, what: str) -> Spec:
    """The topic, unless it is a pattern."""
    if topic.pattern is not None:
        raise UsageError(
            f"{what} needs one topic; {topic.name} stands for those that match {topic.pattern}",
            hint="declare the topic: app.topic(name)",
        )
    return topic


def is_pattern(entry: Entry) -> bool:
    return entry.pattern is not None


def comes_by_pattern(node: Node) -> bool:
    """Do records of topics of a pattern come here directly?"""
    return any(isinstance(before, Entry) and is_pattern(before) for before in ancestors(node))


def check_patterns(topology: Topology) -> None:
    """A topic that is a stream of its own cannot come in by a pattern, too."""
    own = {node.reads for node in topology.nodes if isinstance(node, Source) and not is_pattern(node)}
    for source in _sources(topology.nodes):
        for name in sorted(own - {_leader_topic(topology)}):
            if _matches(source, name):
                raise UsageError(
                    f"the topic {name} is a stream of its own, and {source.topic.pattern} matches it",
                    hint=f"exclude it: pattern=r'(?!{name}$){source.topic.pattern}'",
                )


# -- from topology to plan --------------------------------------------------------------------------------


def unannounced(topology: Topology, subs: Iterable[Subtopology]) -> Topology:
    """The topology with repartition topics whose writers come and go marked as such."""
    behind: dict[Node, Node] = {
        node: replace(node, announced=False)
        for sub in subs
        if any(map(is_pattern, sub.entries))
        for node in sub.nodes
        if isinstance(node, Border)
    }
    return replace(topology, nodes=rewired(topology.nodes, instead=behind)) if behind else topology


def with_leader(topology: Topology) -> Topology:
    """The topology with a task that is always there: whoever has it runs the timers that one worker runs."""
    spec = TopicSpec[Any, Any](name=_leader_topic(topology), value=BYTES, partitions=1)
    source = Source(name=spec.name, parents=(), topic=spec)
    return replace(topology, nodes=(source, *topology.nodes), topics=(*topology.topics, spec))


def _leader_topic(topology: Topology) -> str:
    return f"{topology.app_id}-leader"


def fixed(subs: Iterable[Subtopology]) -> list[Subtopology]:
    """The subtopologies without what comes in by patterns."""
    kept: list[Subtopology] = []
    for sub in subs:
        entries = tuple(entry for entry in sub.entries if not is_pattern(entry))
        nodes = sub.nodes if len(entries) == len(sub.entries) else _reached(entries, sub.nodes)
        if entries:
            kept.append(replace(sub, index=len(kept), entries=entries, nodes=nodes))
    return kept


def matching(plan: Plan, topics: Iterable[str]) -> set[str]:
    """Those of the topics that patterns of the app match."""
    sources = _sources(plan.topology.nodes)
    if not sources:
        return set()
    app_id, notes = plan.topology.app_id, map(redriven_topic, plan.topology.dead_letter_topics)
    strange = set(topics).difference((topic.name for topic in plan.topics), notes)
    return {
        topic
        for topic in strange
        if not (topic.startswith(("__", f"{app_id}-replies-")) or is_internal(app_id, topic))
        and any(_matches(source, topic) for source in sources)
    }


def matched(plan: Plan) -> dict[str, list[str]]:
    """The patterns of the app, and which topics of the plan each matches."""
    return {
        source.topic.pattern or "": sorted(topic for topic in plan.matched if _matches(source, topic))
        for source in _sources(plan.topology.nodes)
    }


def spec_of(plan: Plan, topic: str) -> TopicSpec[Any, Any] | None:
    """What the first pattern that matches this topic says of its records."""
    if not matching(plan, [topic]):
        return None
    source = next(source for source in _sources(plan.topology.nodes) if _matches(source, topic))
    return _one(source, topic).topic


def grown(plan: Plan, counts: Mapping[str, int]) -> Plan:
    """The plan with the topics of `counts` that match: new ones have tasks behind all others, and those that
    have more partitions than before more tasks. None ever goes, so tasks keep their names.
    """
    found = {topic: counts[topic] for topic in sorted(matching(plan, counts))}
    new = [topic for topic in found if topic not in plan.partition_counts]
    larger = {t: max(count, plan.partition_counts.get(t, 0)) for t, count in found.items()}
    if not new and larger.items() <= plan.partition_counts.items():
        return plan
    known = [replace(sub, partitions=larger.get(sub.topics[0], sub.partitions)) for sub in plan.subtopologies]
    added = [_for_topic(plan.topology, topic, len(known) + n, larger[topic]) for n, topic in enumerate(new)]
    return replace(
        plan,
        subtopologies=(*known, *added),
        partition_counts={**plan.partition_counts, **larger},
        matched=(*plan.matched, *new),
    )


def _for_topic(topology: Topology, topic: str, index: int, partitions: int) -> Subtopology:
    """What one topic's records go through: all streams over patterns that match it."""
    sources = [source for source in _sources(topology.nodes) if _matches(source, topic)]
    instead: dict[Node, Node] = {source: _one(source, topic) for source in sources}
    nodes = rewired(_reached(sources, topology.nodes), instead=instead)
    return Subtopology(
        index=index,
        topology=replace(topology, nodes=nodes),
        nodes=nodes,
        entries=tuple(node for node in nodes if isinstance(node, Source)),
        tables=(),
        partitions=partitions,
    )


def _reached(entries: Sequence[Entry], nodes: Iterable[Node]) -> tuple[Node, ...]:
    """Those nodes of the same tasks that records of the entries reach."""
    reached: dict[Node, None] = dict.fromkeys(entries)
    for node in nodes:
        if any(p in reached and (p in entries or not isinstance(p, Border)) for p in node.parents):
            reached[node] = None
    inside = set(nodes)
    return tuple(node for node in nodes if node in reached and node in inside)


def _sources(nodes: Iterable[Node]) -> list[Source]:
    return [node for node in nodes if isinstance(node, Source) and is_pattern(node)]


def _one(source: Source, topic: str) -> Source:
    """The source for one of the topics that it matches."""
    return replace(source, topic=replace(source.topic, name=topic, pattern=None))


def _matches(source: Source, topic: str) -> bool:
    return re.fullmatch(source.topic.pattern or "", topic) is not None
