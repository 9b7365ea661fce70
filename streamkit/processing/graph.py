"""An app as a drawing: Mermaid text, which Markdown viewers and mermaid.live draw.

A box for each task with its operators in it, rounded boxes for topics, a drum for each store. Names are the
operators' own, so that a metric or an error can be found in the drawing.
"""

from __future__ import annotations

from collections.abc import Mapping

from streamkit.processing.topology import Border, Subtopology, Topology

QUOTES = str.maketrans({'"': "#quot;", "<": "#lt;", ">": "#gt;"})


def mermaid(topology: Topology, found: Mapping[str, int] | None = None) -> str:
    """The topology as a Mermaid flowchart, ending with a newline. `found`: as in `Explanation`."""
    drawing, plan = _Drawing(), topology.plan(found or {})
    for sub in plan.topology.subtopologies():
        drawing.task(sub, plan.topology)
    return drawing.text()


class _Drawing:
    def __init__(self) -> None:
        self._ids: dict[tuple[str, str], str] = {}
        self._topics: list[str] = []
        self._boxes: list[str] = []
        self._arrows: dict[str, None] = {}

    def task(self, sub: Subtopology, topology: Topology) -> None:
        self._boxes.append(f'    subgraph task{sub.index}["task {sub.index}"]')
        for node in sub.nodes:
            label = node.name if node.kind in node.name else f"{node.kind} {node.name}"
            self._boxes.append(f'        {self._id("operator", node.name)}["{_text(label)}"]')
        for store in sub.stores:
            self._boxes.append(f'        {self._id("store", store)}[("state {_text(store)}")]')
        self._boxes.append("    end")
        for entry in sub.entries:
            self._read(sub, entry.reads, entry.name if entry in sub.nodes else "", topology)
        for node in sub.nodes:
            name = self._id("operator", node.name)
            for parent in node.parents:
                if parent in sub.nodes and not isinstance(parent, Border):
                    self._arrow(self._id("operator", parent.name), name)
            for topic in node.writes:
                self._arrow(name, self._topic(topic))
            for table in topology.claims.get(node.name, ()):
                self._arrow(name, self._id("store", table), "-.-")
            if node.name in sub.stores:
                self._arrow(name, self._id("store", node.name), "-.-")

    def _read(self, sub: Subtopology, topic: str, entry: str, topology: Topology) -> None:
        if entry:
            self._arrow(self._topic(topic), self._id("operator", entry))
            return
        for node in sub.nodes:  # what follows a repartition topic enters where its writer's results go
            if any(isinstance(parent, Border) and parent.reads == topic for parent in node.parents):
                self._arrow(self._topic(topic), self._id("operator", node.name))

    def _topic(self, topic: str) -> str:
        known = ("topic", topic) in self._ids
        name = self._id("topic", topic)
        if not known:
            self._topics.append(f'    {name}(["{_text(topic)}"])')
        return name

    def _id(self, kind: str, name: str) -> str:
        return self._ids.setdefault((kind, name), f"{kind}{len(self._ids)}")

    def _arrow(self, before: str, after: str, line: str = "-->") -> None:
        self._arrows[f"    {before} {line} {after}"] = None

    def text(self) -> str:
        return "\n".join(["flowchart LR", *self._topics, *self._boxes, *self._arrows, ""])


def _text(label: str) -> str:
    return label.translate(QUOTES)
