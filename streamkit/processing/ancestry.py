"""Where in the graph a store stands: what its records went through before they reached it.

Names do not say that. `orders-window` and `orders-window-2` are named in the order of their declaration, so
declaring them the other way round gives each the name, and the state, of the other. The ancestry is made of
kinds, functions and topics, and of no derived name: it stays with its operator when that is renamed, and
changes when something is put before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from streamkit.processing.function_fingerprint import function_fingerprint
from streamkit.processing.topology import Border, Entry, Node, Stateful, Topology


def ancestries(topology: Topology) -> Mapping[str, str]:
    """Of each store, table or operator, eight hex digits."""
    known: dict[Node, str] = {}
    for node in topology.nodes:  # parents first
        known[node] = _digest([*_own_words(node), *(known[parent] for parent in node.parents)])
    tables = {
        table.name: _digest(
            sorted(known[node] for node in topology.nodes if _uses(topology, node, table.name))
        )
        for table in topology.tables
    }
    return tables | {node.name: known[node] for node in topology.nodes if isinstance(node, Stateful)}


def _own_words(node: Node) -> Iterable[str]:
    yield f"{node.kind}:{node.port}"
    if isinstance(node, Entry) and not isinstance(node, Border):
        yield node.reads
    if isinstance(node, Stateful):
        yield node.state_name
    yield from map(function_fingerprint, node.functions)


def _uses(topology: Topology, node: Node, table: str) -> bool:
    return table in topology.claims.get(node.name, ())


def _digest(words: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:8]
