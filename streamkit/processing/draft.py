"""An app's graph in the making: operators and tables under names of their own, and who uses which table.

Nodes are immutable and come after their parents, so a draft only ever grows. What cannot be known before all
is declared (whether each table has a user, and that user a stream by the table's key) is checked when the
app asks for its `claims`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from streamkit.errors import UsageError
from streamkit.processing.claims import tables_used
from streamkit.processing.operators.agent import AgentNode
from streamkit.processing.operators.source import Source
from streamkit.processing.table import Table
from streamkit.processing.topology import Node

NAME = re.compile(r"[a-zA-Z0-9._-]{1,200}")  # what Kafka allows in topic names


class Draft:
    """The operators and tables that are declared so far, by name. No two have the same."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.tables: dict[str, Table[Any, Any]] = {}
        self._roots: dict[str, str] = {}  # node name -> the topic where its records first came from
        self._named_tables: dict[str, tuple[str, ...]] = {}  # node name -> tables that its declaration names

    def add(self, node: Node, *, uses: Iterable[Table[Any, Any]] = ()) -> None:
        """Take an operator into the graph. `uses`: tables, beside those that its functions show."""
        if self._taken(node.name):
            raise UsageError(f"the operator name {node.name} is taken", hint="choose another name=")
        self.nodes[node.name] = node
        self._roots[node.name] = (
            node.topic.name if isinstance(node, Source) else self._roots[node.parents[0].name]
        )
        self._named_tables[node.name] = tuple(table.name for table in uses)

    def add_table(self, table: Table[Any, Any]) -> None:
        self.tables[table.name] = table

    def check_free(self, table: str) -> None:
        """A table may have this name."""
        checked_name("table", table)
        if self._taken(table):
            raise UsageError(f"the name {table} is taken", hint="stores and operators need distinct names")

    def name_after(self, parent: Node, kind: str, given: str | None) -> str:
        """`{first topic}-{kind}[-{n}]`: adding operators of another kind never renames this one."""
        return self.name(f"{self._roots[parent.name]}-{kind}", given)

    def name(self, stem: str, given: str | None) -> str:
        """The name that was given, or the first free one after the stem."""
        if given is not None:
            return checked_name("operator", given)
        name, number = stem, 1
        while self._taken(name):
            number += 1
            name = f"{stem}-{number}"
        return name

    def claims(self) -> Mapping[str, tuple[str, ...]]:
        """For each operator the names of the tables that its functions use, checked."""
        claims = {node.name: self._tables_of(node) for node in self.nodes.values()}
        for node in self.nodes.values():
            _check_tables(node, claims[node.name])
        claimed = {table for tables in claims.values() for table in tables}
        for table in self.tables:
            if table not in claimed:
                raise UsageError(
                    f"the table {table} is used by no agent or stream of this app",
                    hint=f"name it where it is used: @app.agent(..., tables=[{table}]), or remove it",
                )
        return claims

    def _taken(self, name: str) -> bool:
        return name in self.nodes or name in self.tables

    def _tables_of(self, node: Node) -> tuple[str, ...]:
        found = dict.fromkeys(self._named_tables[node.name])
        for function in node.functions:
            found |= dict.fromkeys(
                table.name for table in tables_used(function).values() if table is self.tables.get(table.name)
            )
        return tuple(found)


def _check_tables(node: Node, tables: tuple[str, ...]) -> None:
    where = node.parents[0] if node.parents else node
    if tables and not where.keyed:
        raise UsageError(
            f"{node.name} uses the table {tables[0]}, but its stream {where.name} is not partitioned "
            "by the table's key",
            hint=f"put a group_by first, as in @app.agent(topic.by(lambda value: <key of {tables[0]}>))",
        )
    if tables and isinstance(node, AgentNode) and node.order != "key":
        raise UsageError(
            f"{node.name} uses the table {tables[0]}; with order={node.order!r} two records of one key "
            "would change it at once",
            hint='take order="key", which is the default',
        )


def checked_name(what: str, name: str) -> str:
    """The name, if Kafka takes it in the names of topics and groups."""
    if not isinstance(name, str) or not NAME.fullmatch(name) or name in (".", ".."):
        raise UsageError(f"{name!r} is no {what} name", hint="use letters, digits, '.', '_' and '-'")
    return name
