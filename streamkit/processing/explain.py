"""What an app will do, for people (`print(app.explain())`) and for programs (`app.explain().json()`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamkit.processing.patterns import matched
from streamkit.processing.topology import Border, Node, Subtopology, Topology


class Explanation:
    """A topology in words: tasks, operators, topics, state."""

    def __init__(self, topology: Topology, found: Mapping[str, int] | None = None) -> None:
        """`found`: the partitions of topics that exist; the others have what is declared, or one."""
        self._plan = topology.plan(found or {})
        self._topology = self._plan.topology

    def json(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "app": self._topology.app_id,
            "tasks": [self._task(sub) for sub in self._topology.subtopologies()],
            "topics": [
                {
                    "name": topic.name,
                    "partitions": topic.partitions,
                    "internal": topic.internal,
                    "config": dict(topic.config),
                }
                for topic in self._plan.topics
            ],
            "patterns": matched(self._plan),
            "sources": [
                {"name": inflow.name, "detail": inflow.source.detail, "writes": inflow.topic.name}
                for inflow in self._topology.inflows
            ],
            "timers": [
                {"name": t.name, "schedule": t.schedule.text, "on_leader": t.on_leader}
                for t in self._topology.timers
            ],
        }

    def _task(self, sub: Subtopology) -> dict[str, Any]:
        return {
            "index": sub.index,
            "reads": list(sub.topics),
            "operators": [self._operator(node) for node in sub.nodes],
            "stores": [{"name": store, "changelog": sub.changelog(store)} for store in sub.stores],
        }

    def _operator(self, node: Node) -> dict[str, Any]:
        return {
            "name": node.name,
            "kind": node.kind,
            "after": [parent.name for parent in node.parents],
            "detail": node.detail,
            "writes": list(node.writes),
            "tables": list(self._topology.claims.get(node.name, ())),
        }

    def __str__(self) -> str:
        lines = [f"app {self._topology.app_id}"]
        lines += [f"source {i.name}  {i.source.detail} → {i.topic.name}" for i in self._topology.inflows]
        for sub in self._topology.subtopologies():
            lines += ["", f"task {sub.index}  reads {', '.join(sub.topics)}  (co-partitioned by number)"]
            for entry in sub.entries:
                if entry not in sub.nodes:
                    lines += self._tree(sub, entry, 1, entering=True)
            for node in sub.nodes:
                if not node.parents:
                    lines += self._tree(sub, node, 1)
            lines += [f"  state {store}  changelog {sub.changelog(store)}" for store in sub.stores]
        lines += ["", "topics"]
        for topic in self._plan.topics:
            partitions = "any number of" if topic.partitions is None else topic.partitions
            config = "".join(f" {key}={value}" for key, value in topic.config.items())
            internal = " internal" if topic.internal else ""
            lines.append(f"  {topic.name}  {partitions} partitions{internal}{config}")
        for pattern, topics in matched(self._plan).items():
            lines.append(f"  {pattern}  a pattern, matches {', '.join(topics) or 'nothing yet'}")
        lines += [
            f"timer {t.name}  {t.schedule.text}{'  at one worker' if t.on_leader else ''}"
            for t in self._topology.timers
        ]
        return "\n".join(lines)

    def _tree(self, sub: Subtopology, node: Node, depth: int, *, entering: bool = False) -> list[str]:
        tables = self._topology.claims.get(node.name, ())
        using = f"  tables {', '.join(tables)}" if tables and not entering else ""
        detail = "from the repartition topic" if entering else node.detail
        lines = [f"{'  ' * depth}{node.name}  {node.kind}: {detail}{using}"]
        if isinstance(node, Border) and not entering:
            return lines
        for child in self._topology.nodes:
            if node in child.parents:
                lines += self._tree(sub, child, depth + 1)
        return lines
