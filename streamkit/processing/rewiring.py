"""A graph with some of its operators exchanged, or others put between: nodes are immutable, so whatever comes
after a change is made anew, under the names that it had.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace

from streamkit.processing.topology import Node


def rewired(
    nodes: Iterable[Node],
    *,
    instead: Mapping[Node, Node] | None = None,
    between: Mapping[tuple[Node, Node], Node] | None = None,
) -> tuple[Node, ...]:
    """`nodes`, parents first, with changes. `instead[node]` takes a node's place; `between[parent, child]`,
    whose parent is that parent, comes between the two.
    """
    now = dict(instead or {})
    made: dict[Node, Node] = {}
    result: list[Node] = []
    for node in nodes:
        if node not in now:
            parents = []
            for parent in node.parents:
                inserted = (between or {}).get((parent, node))
                if inserted is not None and inserted not in made:
                    made[inserted] = replace(inserted, parents=(now.get(parent, parent),))
                    result.append(made[inserted])
                parents.append(now.get(parent, parent) if inserted is None else made[inserted])
            now[node] = _with(node, tuple(parents), now)
        result.append(now[node])
    return tuple(result)


def _with(node: Node, parents: tuple[Node, ...], now: Mapping[Node, Node]) -> Node:
    """The node with these parents, and with whatever else of it is a node as that is now."""
    changes: dict[str, object] = {} if parents == node.parents else {"parents": parents}
    for field in fields(node):
        value = getattr(node, field.name)
        if isinstance(value, Node) and now.get(value, value) is not value:
            changes[field.name] = now[value]
    return replace(node, **changes) if changes else node  # type: ignore[arg-type]
