"""From a topology to a plan: how many partitions everything has, and which topics must exist.

What the user's topics have is given. A repartition topic has as many as is declared; else as many as it has
already on the cluster; else as the other topics of the task that reads it, where they meet in state; else as
many as there are tasks that write it. Where that leaves inputs of one state with different counts, streams
are moved (`copartition`), or it is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from streamkit.errors import UsageError
from streamkit.processing.copartition import as_before, mended
from streamkit.processing.operators.repartition import Repartition
from streamkit.processing.patterns import check_patterns, fixed, grown, is_pattern, unannounced, with_leader
from streamkit.processing.topology import (
    CHANGELOG_CONFIG,
    POSITIONS_CONFIG,
    REPARTITION_CONFIG,
    Border,
    Entry,
    Plan,
    Subtopology,
    TopicPlan,
    Topology,
)


def plan(topology: Topology, found: Mapping[str, int]) -> Plan:
    """The plan for a cluster with these topics. Raises UsageError where inputs cannot be brought together."""
    declared = _declared(topology, found)
    check_patterns(topology)
    topology = as_before(topology, found)
    while True:
        subs = topology.subtopologies()
        _check_acyclic(subs)
        counts = Counts(subs, declared, found)
        moved = next((new for sub in subs if (new := mended(sub, counts.given))), None)
        if moved is None:
            break
        topology = moved
    topology = unannounced(topology, subs)
    subs = topology.subtopologies()
    counts = Counts(subs, declared, found)
    stable = fixed(replace(sub, partitions=counts.of(sub)) for sub in subs)
    if not stable and any(timer.on_leader for timer in topology.timers):
        return plan(with_leader(topology), found)
    for sub in stable:
        _check_copartitioned(sub, counts.by_topic)
    planned = Plan(
        topology=topology,
        subtopologies=tuple(stable),
        topics=tuple(_topics(topology, subs, counts)),
        partition_counts=counts.by_topic,
    )
    return grown(planned, found)


class Counts:
    """How many partitions topics have, and how many tasks each subtopology has."""

    def __init__(
        self, subs: Sequence[Subtopology], declared: Mapping[str, int], found: Mapping[str, int]
    ) -> None:
        self._home = {node: sub for sub in subs for node in sub.nodes}
        self._found = found
        self._declared = declared
        self._tasks: dict[int, int] = {}  # by subtopology
        self.by_topic: dict[str, int] = dict(declared)
        for sub in subs:
            for entry in sub.entries:
                if not is_pattern(entry):
                    self.by_topic[entry.reads] = self._topic(entry, sub)
        for node in self._home:
            if isinstance(node, Border) and node.reads not in self.by_topic:  # nobody reads it
                self.by_topic[node.reads] = self.given(node) or self._derived(node)

    def of(self, sub: Subtopology) -> int:
        """How many tasks."""
        if sub.index not in self._tasks:
            self._tasks[sub.index] = self._count(sub)
        return self._tasks[sub.index]

    def given(self, entry: Entry) -> int | None:
        """The partitions of its topic, where they do not depend on other topics."""
        if not isinstance(entry, Border):
            return self._declared.get(entry.reads)  # None: a pattern
        if entry.partitions is not None:
            return entry.partitions
        return self._found.get(entry.reads) if isinstance(entry, Repartition) else None

    def _count(self, sub: Subtopology) -> int:
        given = [count for entry in sub.entries if (count := self.given(entry)) is not None]
        if sub.stores and given:
            return max(given)
        others = (e for e in sub.entries if isinstance(e, Border) and self.given(e) is None)
        derived = (self._derived(entry) for entry in others if not _follows(entry, sub))
        return max([*given, *derived, 1])

    def _topic(self, entry: Entry, reader: Subtopology) -> int:
        given = self.given(entry)
        if given is None and isinstance(entry, Border) and not reader.stores:
            return self._derived(entry)
        return self.of(reader) if given is None else given

    def _derived(self, entry: Border) -> int:
        """As many as there are tasks at the operator that it is to be like."""
        home = self._home[entry.as_many_as or entry]
        if any(map(is_pattern, home.entries)):
            raise UsageError(
                f"{entry.name} comes behind a pattern of topics, which have any number of partitions",
                hint=f"say how many {entry.reads} is to have: partitions=",
            )
        return self.of(home)


def _follows(entry: Border, sub: Subtopology) -> bool:
    """Is its topic to have as many partitions as this very subtopology has tasks?"""
    return entry.as_many_as in sub.nodes


def _declared(topology: Topology, found: Mapping[str, int]) -> dict[str, int]:
    """The partitions of the user's topics: as found, or as declared, or 1."""
    counts = {}
    for spec in topology.topics:
        actual = found.get(spec.name)
        if actual is not None and spec.partitions is not None and actual != spec.partitions:
            more = f"streamkit topic alter {spec.name} -p {spec.partitions} (keys move)"
            way_out = more if spec.partitions > actual else "another topic"
            raise UsageError(
                f"the topic {spec.name} has {actual} partition{'s' * (actual != 1)}; "
                f"the app declares {spec.partitions}",
                hint=f"declare partitions={actual}, or {way_out}",
            )
        counts[spec.name] = actual or spec.partitions or 1
    return counts


def _check_acyclic(subs: Iterable[Subtopology]) -> None:
    """Whoever reads a repartition topic comes after whoever writes it."""
    waiting, written = list(subs), set[str]()
    while waiting:
        for sub in waiting:
            upstream = {entry.name for entry in sub.entries if isinstance(entry, Border)}
            if upstream <= written:
                break
        else:
            raise UsageError("the streams of this app feed each other through group_by in a circle")
        waiting.remove(sub)
        written |= {node.name for node in sub.nodes if isinstance(node, Border)}


def _check_copartitioned(sub: Subtopology, counts: Mapping[str, int]) -> None:
    if not sub.stores:
        return
    distinct = {topic: counts[topic] for topic in sub.topics}
    if len(set(distinct.values())) > 1:
        listed = ", ".join(f"{topic} ({count} partitions)" for topic, count in distinct.items())
        raise UsageError(
            f"state needs co-partitioned topics, but these meet at {sub.stores[0]}: {listed}",
            hint="give them equal partition counts, or move one where the other is: "
            "stream.repartition(partitions=...)",
        )
    for table in sub.tables:
        actual = next(iter(distinct.values()))
        if table.partitions not in (None, actual):
            raise UsageError(
                f"the table {table.name} declares {table.partitions} partitions; "
                f"the stream that writes it has {actual}",
                hint=f"drop partitions=, or use group_by(..., partitions={table.partitions})",
            )


def _topics(topology: Topology, subs: Iterable[Subtopology], counts: Counts) -> Iterator[TopicPlan]:
    for spec in topology.topics:
        yield TopicPlan(name=spec.name, partitions=spec.partitions, config=spec.config, internal=False)
    declared = {spec.name for spec in topology.topics}
    for name in topology.dead_letter_topics:
        if name not in declared:
            yield TopicPlan(name=name, partitions=None, config={}, internal=False)
    for inflow in topology.inflows:
        yield TopicPlan(name=inflow.positions, partitions=1, config=POSITIONS_CONFIG, internal=True)
    for sub in subs:
        for node in sub.nodes:
            if isinstance(node, Border):
                name, partitions = node.reads, counts.by_topic[node.reads]
                yield TopicPlan(name=name, partitions=partitions, config=REPARTITION_CONFIG, internal=True)
        for store in sub.stores:
            name, partitions = sub.changelog(store), counts.of(sub)
            yield TopicPlan(name=name, partitions=partitions, config=CHANGELOG_CONFIG, internal=True)
