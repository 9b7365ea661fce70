"""The immutable graph of an app, and how it is cut into tasks.

    Node          an operator with its parents; the graph is known by its nodes
    Topology      all nodes, tables and timers of an app
    Subtopology   what one kind of task runs: the nodes that are connected without a repartition topic between
    Plan          the subtopologies with partition counts filled in, and every topic that must exist

A `group_by` is a border: the end of one subtopology (it writes the repartition topic) and an entry of
another. Task (subtopology i, partition p) reads partition p of each of the subtopology's topics and owns
partition p of its state. Nodes that share a table live in one subtopology, since its state has one writer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from streamkit.processing.error_policy import DeadLetter, ErrorPolicy
from streamkit.processing.serde import Serde

if TYPE_CHECKING:
    from streamkit.processing.connectors.sources import Inflow
    from streamkit.processing.global_table import GlobalTable
    from streamkit.processing.operators.window import Window
    from streamkit.processing.state.operator_state import OperatorState
    from streamkit.processing.state.store import Index, Store
    from streamkit.processing.state.views import TableView
    from streamkit.processing.table import Lease, Table
    from streamkit.processing.tasks.fuse import At, Code, Runtime
    from streamkit.processing.timers import Timer

K = TypeVar("K")
V = TypeVar("V")

CHANGELOG, REPARTITION = "-changelog", "-repartition"

# Internal topics never lose records by age: event times may lie years back.
CHANGELOG_CONFIG = {"cleanup.policy": "compact", "retention.ms": "-1", "retention.bytes": "-1"}
POSITIONS_CONFIG = {**CHANGELOG_CONFIG, "segment.bytes": str(16 << 20)}  # read whole at each start
REPARTITION_CONFIG = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}


@dataclass(frozen=True, eq=False, kw_only=True)
class TopicSpec(Generic[K, V]):
    """A topic as an app declares it. `partitions=None`: whatever exists, or the broker's default.

    `pattern`: it stands for all topics whose names this regular expression matches, and `name` is our own.
    """

    name: str
    value: Serde[V]
    key: Serde[K] | None = None
    partitions: int | None = None
    config: Mapping[str, str] = field(default_factory=dict)
    pattern: str | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Node(ABC):
    """One operator. Subclasses, one in each file of `operators/`, write their own lines of the fused loop."""

    kind: ClassVar[str]
    needs_time: ClassVar[bool] = False
    name: str
    parents: tuple[Node, ...]
    port: str = ""  # which output of its parent this operator takes: "" the main one, "late", an arm's number

    def generate(self, code: Code, at: At) -> None:
        """Write what this operator does to the value at `at`, then `code.follow` the children. Unless an
        operator says otherwise, the value goes on as it is.
        """
        code.follow(self, at)

    def generate_from(self, code: Code, at: At, parent: Node) -> None:
        """`generate`, for an operator that treats its parents differently."""
        self.generate(code, at)

    def passes_on(self, parent: Node) -> bool:
        """Do records of this parent leave the operator as results? Of a table that is looked up, none do."""
        return True

    @property
    def keyed(self) -> bool:
        """Are records of equal keys in one partition here?"""
        return all(parent.keyed for parent in self.parents)

    @property
    def key_serde(self) -> Serde[Any]:
        return self.parents[0].key_serde

    @property
    def value_serde(self) -> Serde[Any]:
        """How values of this stream are written where the user names no type."""
        return self.parents[0].value_serde

    @cached_property
    def input_delay_ms(self) -> int:
        """How far this operator's input may lie behind the task's watermark."""
        return max((parent.delay_ms for parent in self.parents), default=0)

    @property
    def delay_ms(self) -> int:
        """How far results of this operator may lie behind the task's watermark."""
        return self.input_delay_ms

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        """The user's functions that run here: they are searched for tables."""
        return ()

    @property
    def only_looks(self) -> bool:
        """Is what this operator is given certainly unchanged afterwards?"""
        return False

    @property
    def policy(self) -> ErrorPolicy | None:
        """The operator's own error policy; None: the stream's."""
        return None

    @property
    def writes(self) -> tuple[str, ...]:
        """Names of the topics that this operator writes."""
        return ()

    @property
    def detail(self) -> str:
        """A few words for `explain`."""
        return ""


@dataclass(frozen=True, eq=False, kw_only=True)
class Entry(Node):
    """An operator at which a task's records come in: a source, or a group_by seen from downstream.

    `announced`: every task that writes the topic says in it how far it has come.
    """

    announced: bool = False

    @property
    @abstractmethod
    def reads(self) -> str:
        """The topic whose records enter here."""

    @property
    def pattern(self) -> str | None:
        """What the names of its topics match, where it reads all that do."""
        return None

    @property
    def partitions(self) -> int | None:
        """How many partitions that topic is declared to have."""
        return None

    @abstractmethod
    def generate_entry(self, code: Code) -> None:
        """Write how one record `m` of that topic becomes a value, then follow the children."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Border(Entry):
    """The end of one subtopology and an entry of others: its records go through a repartition topic.

    That topic is partitioned by `key`, and carries the watermark of every task that writes it (`watermark`),
    unless those come and go.
    """

    needs_time: ClassVar[bool] = True
    announced: bool = True
    topic: str
    key: Serde[Any]
    as_many_as: Node | None = None  # the topic has as many partitions as this operator's input

    @property
    def reads(self) -> str:
        return self.topic

    @property
    def keyed(self) -> bool:
        return True

    @property
    def key_serde(self) -> Serde[Any]:
        return self.key

    @property
    def delay_ms(self) -> int:
        return 0

    @property
    def writes(self) -> tuple[str, ...]:
        return (self.topic,)


@dataclass(frozen=True, eq=False, kw_only=True)
class Stateful(Node):
    """An operator with a store of its own, which has the operator's name."""

    @property
    @abstractmethod
    def state_name(self) -> str:
        """What the stored bytes mean: it takes part in the fingerprint."""

    @property
    def former_state_name(self) -> str:
        """What commits of former versions of this package say instead."""
        return self.state_name

    @abstractmethod
    def make_state(self, store: Store) -> OperatorState:
        """The operator's state over its store in a task."""

    def make_index(self) -> Index | None:
        """What its store keeps beside its entries, where it spills: in tasks as in copies."""
        return None

    @property
    def computes(self) -> bool:
        """Does its state make results as time passes?"""
        return False

    def generate_computed(self, code: Code, at: At) -> None:
        """Write what becomes of a value that the state computed, then `code.follow` the children."""
        code.follow(self, at)


@dataclass(frozen=True, eq=False, kw_only=True)
class TableNode(Node):
    """An operator whose results are changes of a table: `At.value` is a key's new value, `At.old` its old."""

    @abstractmethod
    def make_view(self, runtime: Runtime) -> TableView:
        """How the table is read in a task."""


@dataclass(frozen=True, kw_only=True)
class Topology:
    """Everything an app declared, frozen. Node names are unique and stable under stateless insertions."""

    app_id: str
    nodes: tuple[Node, ...]
    topics: tuple[TopicSpec[Any, Any], ...]
    tables: tuple[Table[Any, Any], ...]
    timers: tuple[Timer, ...]
    inflows: tuple[Inflow, ...]
    global_tables: tuple[GlobalTable[Any, Any], ...]
    lease: Lease
    default_policy: ErrorPolicy
    idle_timeout_ms: int | None
    claims: Mapping[str, tuple[str, ...]]  # node name -> names of the tables its functions use
    exactly_once: bool = False

    def children(self, node: Node, port: str = "") -> tuple[Node, ...]:
        return tuple(child for child in self.nodes if node in child.parents and child.port == port)

    def subtopologies(self) -> tuple[Subtopology, ...]:
        return _split(self)

    @property
    def dead_letter_topics(self) -> tuple[str, ...]:
        """Each once."""
        policies = [self.default_policy, *(node.policy for node in self.nodes)]
        found = (policy.then for policy in policies if policy is not None)
        return tuple(dict.fromkeys(then.topic for then in found if isinstance(then, DeadLetter)))

    @cached_property
    def ancestries(self) -> Mapping[str, str]:
        """Where each store stands (`ancestry`)."""
        from streamkit.processing.ancestry import ancestries

        return ancestries(self)

    def plan(self, partition_counts: Mapping[str, int]) -> Plan:
        """Fill in partition counts: of topics that exist, as found; the rest as declared (default 1). Where
        inputs of one state have different ones, the plan's topology moves streams (`copartition`).
        """
        from streamkit.processing.planning import plan

        return plan(self, partition_counts)


@dataclass(frozen=True, kw_only=True)
class Subtopology:
    """The part of a topology that one kind of task runs."""

    index: int
    topology: Topology = field(repr=False)
    nodes: tuple[Node, ...]
    entries: tuple[Entry, ...]  # sources and upstream group_bys, in order of definition
    tables: tuple[Table[Any, Any], ...]
    partitions: int = 0

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that a task of this kind reads, each once."""
        return tuple(dict.fromkeys(entry.reads for entry in self.entries))

    @property
    def windows(self) -> tuple[Window, ...]:
        from streamkit.processing.operators.window import Window

        return tuple(node for node in self.nodes if isinstance(node, Window))

    @property
    def stateful(self) -> tuple[Stateful, ...]:
        """Operators with state, upstream first."""
        return tuple(node for node in self.nodes if isinstance(node, Stateful))

    @property
    def stores(self) -> tuple[str, ...]:
        """Names of the stores of each task: tables, then operators."""
        return (*(table.name for table in self.tables), *(node.name for node in self.stateful))

    def changelog(self, store: str) -> str:
        return changelog_topic(self.topology.app_id, store)


@dataclass(frozen=True, kw_only=True)
class TopicPlan:
    """A topic that the app needs. `create` is how, if it is missing; None: it must exist already."""

    name: str
    partitions: int | None
    config: Mapping[str, str]
    internal: bool


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A topology with its partition counts: what a worker sets up, and the tasks it may be given."""

    topology: Topology
    subtopologies: tuple[Subtopology, ...]
    topics: tuple[TopicPlan, ...]
    partition_counts: Mapping[str, int]
    matched: tuple[str, ...] = ()  # topics that came in by patterns; each has a subtopology of its own

    @property
    def has_patterns(self) -> bool:
        """May topics come while the app runs?"""
        return any(isinstance(node, Entry) and node.pattern is not None for node in self.topology.nodes)

    def reads(self, topic: str) -> bool:
        return topic in self._readers

    def subtopology_reading(self, topic: str) -> Subtopology:
        return self._readers[topic]

    @cached_property
    def _readers(self) -> Mapping[str, Subtopology]:
        """By topic: with patterns there may be thousands."""
        return {topic: sub for sub in self.subtopologies for topic in sub.topics}


def ancestors(node: Node) -> Iterator[Node]:
    """The operator and everything before it in its task."""
    yield node
    if not isinstance(node, Border):
        for parent in node.parents:
            yield from ancestors(parent)


def lineage(node: Node) -> Iterator[Node]:
    """The operator and everything before it, in whatever task."""
    yield node
    for parent in node.parents:
        yield from lineage(parent)


def changelog_topic(app_id: str, store: str) -> str:
    return f"{app_id}-{store}{CHANGELOG}"


def store_of(app_id: str, changelog: str) -> str:
    return changelog.removeprefix(f"{app_id}-").removesuffix(CHANGELOG)


def repartition_topic(app_id: str, operator: str) -> str:
    return f"{app_id}-{operator}{REPARTITION}"


def is_internal(app_id: str, topic: str) -> bool:
    """Has it the name of a changelog or a repartition topic of the app?"""
    return topic.startswith(f"{app_id}-") and topic.endswith((CHANGELOG, REPARTITION))


def operator_of(app_id: str, topic: str) -> str | None:
    """Whose repartition topic this is; None for any other topic."""
    if not (topic.startswith(f"{app_id}-") and topic.endswith(REPARTITION)):
        return None
    return topic.removeprefix(f"{app_id}-").removesuffix(REPARTITION)


# -- splitting ------------------------------------------------------------------------------------------


class _Groups:
    """Union-find over names, with the first-seen name as the representative."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def find(self, name: str) -> str:
        self._parent.setdefault(name, name)
        while self._parent[name] != name:
            name = self._parent[name]
        return name

    def union(self, a: str, b: str) -> None:
        a, b = self.find(a), self.find(b)
        if a != b:
            self._parent[b] = a


def _split(topology: Topology) -> tuple[Subtopology, ...]:
    groups = _Groups()
    for node in topology.nodes:
        groups.find(node.name)
        if isinstance(node, Entry) and node.kind == "source":
            groups.union(f"topic {node.reads}", node.name)
        for parent in node.parents:
            downstream_of = f"after {parent.name}" if isinstance(parent, Border) else parent.name
            groups.union(downstream_of, node.name)
        for table in topology.claims.get(node.name, ()):
            groups.union(f"table {table}", node.name)
    members: dict[str, list[Node]] = {}
    for node in topology.nodes:
        members.setdefault(groups.find(node.name), []).append(node)
    entries: dict[str, list[Entry]] = {}
    for node in topology.nodes:
        if isinstance(node, Entry) and node.kind == "source":
            entries.setdefault(groups.find(node.name), []).append(node)
        elif isinstance(node, Entry) and topology.children(node):
            entries.setdefault(groups.find(f"after {node.name}"), []).append(node)
    return tuple(
        Subtopology(
            index=index,
            topology=topology,
            nodes=tuple(nodes),
            entries=tuple(entries.get(group, ())),
            tables=tuple(t for t in topology.tables if groups.find(f"table {t.name}") == group),
        )
        for index, (group, nodes) in enumerate(members.items())
    )
