"""Records that meet must be in equal partitions. Where topics have different counts, a stream is moved.

A join of streams, or a merge with state behind it, moves whoever has fewer partitions to where the others
are; a stream that looks rows up goes to the table. A table stays where its topic is: whoever reads it over
HTTP counts on that. So two tables that do not fit together are an error.

The move is a `repartition` with a topic of its own, named after the operator where the streams meet and the
side: `{app}-{join}-left-repartition`. What once was moved stays so, even if the counts come to be equal:
records of the stream may be in that topic and nowhere else.

Counts can be compared; whoever wrote a topic may still have placed its keys in a way of his own. What moves
is placed as Kafka's own partitioner does (murmur2), which must be the way of the topic that stays.

What no move could mend is refused where it is declared: a stream that is not partitioned by its key
(`check_keyed`), and keys that are written differently (`check_joinable`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from streamkit.errors import UsageError
from streamkit.processing.operators.group_by import GroupBy
from streamkit.processing.operators.merge import Merge
from streamkit.processing.operators.repartition import Repartition
from streamkit.processing.operators.stream_join import StreamJoin
from streamkit.processing.operators.tables import Lookup
from streamkit.processing.patterns import comes_by_pattern
from streamkit.processing.rewiring import rewired
from streamkit.processing.serde import JSON_KEY
from streamkit.processing.topology import Entry, Node, Subtopology, Topology, ancestors, repartition_topic

Given = Callable[[Entry], int | None]  # the partitions of an entry's topic, unless it goes by others


def as_before(topology: Topology, found: Mapping[str, int]) -> Topology:
    """The topology with the moves of earlier runs, whose topics are on the cluster."""
    moves: dict[tuple[Node, Node], Node] = {}
    taken = {node.name for node in topology.nodes}
    for node in topology.nodes:
        for parent in _movable(node):
            move = _move(topology.app_id, parent, node, None)
            if move.topic in found and move.name not in taken:  # else it is another operator's topic
                moves[parent, node] = replace(move, declared_partitions=found[move.topic])
    return replace(topology, nodes=rewired(topology.nodes, between=moves)) if moves else topology


def mended(sub: Subtopology, given: Given) -> Topology | None:
    """The topology with streams moved at the first operator of `sub` that needs it; None: none does, or it
    cannot be helped so.
    """
    if not sub.stores:
        return None
    for node in sub.nodes:
        movable = _movable(node)
        counts = {parent: _count(parent, given) for parent in node.parents}
        staying = [parent for parent in node.parents if parent not in movable]
        target = max((count for p in staying or movable if (count := counts[p]) is not None), default=None)
        moving = [parent for parent in movable if counts[parent] not in (None, target)]
        if target is None or not moving or any(_is_move(parent, node) for parent in moving):
            continue
        app = sub.topology.app_id
        moves: dict[tuple[Node, Node], Node] = {(p, node): _move(app, p, node, target) for p in moving}
        _check_names(sub.topology, moves.values())
        return replace(sub.topology, nodes=rewired(sub.topology.nodes, between=moves))
    return None


def _check_names(topology: Topology, moves: Iterable[Node]) -> None:
    taken = {node.name for node in topology.nodes} | {table.name for table in topology.tables}
    for move in moves:
        if move.name in taken:
            raise UsageError(
                f"{move.name} is the name of the operator that moves an input to where it meets the others, "
                "and something else has it",
                hint="choose another name= there",
            )


def _movable(node: Node) -> tuple[Node, ...]:
    """Inputs of an operator whose records may as well come by a repartition topic."""
    if isinstance(node, Lookup):
        return node.parents[:1]
    if isinstance(node, StreamJoin | Merge):
        return tuple(dict.fromkeys(node.parents))
    return ()


def _count(node: Node, given: Given) -> int | None:
    """The partitions of the topics that records of this operator come from."""
    counts = (given(entry) for entry in _entries(node))
    return max((count for count in counts if count is not None), default=None)


def _entries(node: Node) -> Iterator[Entry]:
    return (before for before in ancestors(node) if isinstance(before, Entry))


def _move(app_id: str, parent: Node, node: Node, partitions: int | None) -> Repartition:
    name = f"{node.name}-{_side(parent, node)}"
    return Repartition(
        name=name,
        parents=(parent,),
        topic=repartition_topic(app_id, name),
        key=parent.key_serde,
        value=parent.value_serde,
        declared_partitions=partitions,
    )


def _is_move(parent: Node, node: Node) -> bool:
    """Has this input been moved already?"""
    if not isinstance(parent, Repartition):
        return False
    sides = ("left", "right", *(word for before in parent.parents for word in (before.name, _origin(before))))
    return parent.name in {f"{node.name}-{side}" for side in sides}


def _side(parent: Node, node: Node) -> str:
    """A word for an input that other inputs, added later, do not change, nor operators without state."""
    if not isinstance(node, Merge):
        return "left" if node.parents[0] is parent else "right"
    origins = [_origin(p.parents[0] if _is_move(p, node) else p) for p in node.parents]
    mine = _origin(parent)
    return mine if origins.count(mine) == 1 else parent.name


def _origin(node: Node) -> str:
    """The name of the operator where its records, or the first of them, came in."""
    return next(_entries(node)).name


def check_keyed(node: Node, what: str) -> None:
    """State by key is where the key's partition is."""
    if not node.keyed:
        raise UsageError(
            f"{what} needs a stream that is partitioned by its key; {node.name} is not",
            hint="put .group_by(...) before it, or declare the topic's key="
            if not comes_by_pattern(node)
            else "put .repartition(...) or .group_by(...) before it: topics of a pattern have partitions "
            "of their own",
        )


def check_joinable(left: Node, right: Node) -> None:
    """Equal keys must be equal bytes, so that they are in equal partitions."""
    check_keyed(left, "a join")
    check_keyed(right, "a join")
    if left.key_serde.name != right.key_serde.name:
        raise UsageError(
            f"a join of {left.name} (key {left.key_serde.name}) and "
            f"{right.name} (key {right.key_serde.name}): keys written differently "
            "are in different partitions",
            hint=_same_keys(left, right),
        )


def _same_keys(left: Node, right: Node) -> str:
    """How to have equal keys written alike."""
    for node, other in ((left, right), (right, left)):
        made = next((one for one in (node, *ancestors(node)) if isinstance(one, GroupBy)), None)
        if made is not None and node.key_serde is JSON_KEY and other.key_serde is not JSON_KEY:
            wanted = other.key_serde.name.rpartition(":")[2].rpartition(".")[2]
            return f"give {made.name} its type, group_by(..., key={wanted}), or annotate its function"
    return "declare the same key= for their topics, or group_by one of them"
