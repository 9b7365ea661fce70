"""How a task is put together: its stores and states, its agents' inboxes, its compiled chains.

    Assembly(plan, sub, partition, stores)
        .stores  .tables  .states     bytes, and what tables and operators keep over them
        .chains                       input topic → the compiled loops of its entries
        .pushes                       operator → the compiled code behind it, for values that no loop brings
        .agents                       asynchronous agent → records that wait for it
        .outlets                      topic → records that were written
        .replies                      to those who asked agents

It is also what generated code binds to (`fuse.Runtime`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from streamkit.processing.operators.agent import AgentNode
from streamkit.processing.record import RawRecord
from streamkit.processing.replies import Asked, Reply, address, reply
from streamkit.processing.serde import as_kept
from streamkit.processing.state.expiring import ExpiringState
from streamkit.processing.state.memory import MemoryStore
from streamkit.processing.state.operator_state import OperatorState
from streamkit.processing.state.store import Store
from streamkit.processing.state.views import TableView
from streamkit.processing.table import Scope, Table, TableState
from streamkit.processing.tasks.fuse import At, Code, Compiled, Counts, SinkRecord, compile_loop, compile_push
from streamkit.processing.tasks.inflight import InFlight, Item, Lanes, Place
from streamkit.processing.tasks.watermark import NEVER, Input, Mark, TaskClock
from streamkit.processing.topology import Border, Entry, Node, Plan, Stateful, Subtopology, TableNode

Replier = Callable[[Asked, Any, int], None]  # what was asked, the result, when


class Chain:
    """The compiled loop of one entry operator, and how far it has come.

    Invariant: every record below `position` has been processed, skipped or dead-lettered.
    """

    def __init__(self, entry: Entry, compiled: Compiled, clock: Input | None) -> None:
        self.entry = entry
        self.compiled = compiled
        self.clock = clock
        self.stream_time = NEVER
        self.position = -1
        self.failed: RawRecord | None = None
        self.attempts = 0  # at the record at `position`
        self.retry_at_ms: int | None = None
        self.stopped = False
        self.records = 0
        self.expiring: list[ExpiringState] = []  # tables whose entries expire by this chain's stream time
        self.foreseeing: list[Any] = []  # states that are told of records before they come

    def reach(self, offset: int) -> None:
        """Everything below this offset is settled."""
        if offset != self.position:
            self.position = offset
            self.attempts = 0

    def heard(self, mark: Mark) -> None:
        """A watermark record came by."""
        if self.clock is not None:
            self.clock.heard(mark)


def make_state(table: Table[Any, Any], store: Store) -> TableState:
    """What a task keeps of a table."""
    value = as_kept(table.value, table.name)
    if table.ttl_ms is not None:
        return ExpiringState(table.key, value, table.default, store, table.ttl_ms)
    return TableState(table.key, value, table.default, store)


class AgentPort:
    """The records that wait for, or are in the hands of, one asynchronous agent of this task."""

    def __init__(self, node: AgentNode, tables: Mapping[str, TableState], answer: Replier) -> None:
        self.node = node
        self.inbox: list[Item] = []
        self.flight = InFlight(node.concurrency, node.order)
        self.lanes = Lanes(node.concurrency)
        self.scopes: list[Scope] = []
        self.answer = answer
        self.admitted = 0
        self.unwell = 0  # of those admitted, settled by an error policy
        self._tables = tables
        self._laned = node.shape in ("stream", "batch")

    def new_scope(self) -> Scope:
        """What one coroutine of this agent may touch, until the task closes."""
        refusal = ""
        if self.node.concurrency > 1:
            refusal = (
                f"{self.node.name} works on {self.node.concurrency} records at once, so no commit fits one"
            )
        elif self.node.batch is not None:
            refusal = f"{self.node.name} takes records of several keys at once, and a write belongs to one"
        self.scopes.append(Scope(self._tables, refusal))
        return self.scopes[-1]

    def admit(self) -> None:
        """Move what the fused loops appended into the queues."""
        admit = self.lanes.admit if self._laned else self.flight.admit
        for item in self.inbox:
            admit(item)
        self.admitted += len(self.inbox)
        self.inbox.clear()

    def lowest(self, place: Place) -> int | None:
        return self.lanes.lowest(place) if self._laned else self.flight.lowest(place)

    @property
    def done(self) -> int:
        """Records finished without an error."""
        return self.admitted - self.unwell - len(self.lanes) - len(self.flight)

    def __len__(self) -> int:
        return len(self.inbox) + len(self.lanes) + len(self.flight)


class Assembly:
    """See the module. `stores` gives the store of a name; in memory when not given."""

    def __init__(self, plan: Plan, sub: Subtopology, partition: int, stores: Mapping[str, Store]) -> None:
        self.plan = plan
        self.sub = sub
        self.partition = partition
        self.topology = sub.topology
        self.clock = TaskClock(sub.topology.idle_timeout_ms)
        self.outlets: dict[str, list[SinkRecord]] = {}
        self.replies: list[Reply] = []
        self.stores: dict[str, Store] = {
            name: stores[name] if name in stores else MemoryStore() for name in sub.stores
        }
        self.tables = {table.name: make_state(table, self.stores[table.name]) for table in sub.tables}
        self.states: dict[str, OperatorState] = {
            node.name: node.make_state(self.stores[node.name]) for node in sub.stateful
        }
        self.agents: dict[str, AgentPort] = {}
        self.chains: dict[str, list[Chain]] = {}
        self.pushes: dict[str, Compiled] = {}
        self.counters: dict[str, Counts] = {node.name: Counts() for node in sub.nodes}
        self._scope = Scope(self.tables)
        self._build()

    @property
    def all_chains(self) -> Iterator[Chain]:
        return (chain for chains in self.chains.values() for chain in chains)

    # -- `fuse.Runtime` -------------------------------------------------------------------------------

    def outlet(self, topic: str) -> list[SinkRecord]:
        return self.outlets.setdefault(topic, [])

    def inbox(self, node: Node) -> list[Any]:
        return self.agents[node.name].inbox

    def state(self, node: Node) -> Any:
        return self.states[node.name]

    def replier(self, node: Node) -> Replier:
        """What replies for this agent, if it is the one that was asked."""
        mine = address(self.topology.app_id, node.name)

        def answer(asked: Asked, value: Any, time_ms: int) -> None:
            if asked.agent == mine:
                encoded = None if value is None else node.value_serde.encode(value)
                self.replies.append(reply(asked, encoded, time_ms))

        return answer

    def view(self, node: Node) -> TableView:
        """How a table is read here."""
        assert isinstance(node, TableNode)
        return node.make_view(self)

    def counts(self, node: Node) -> Counts:
        return self.counters.setdefault(node.name, Counts())

    def children(self, node: Node, port: str = "") -> tuple[Node, ...]:
        return self.topology.children(node, port)

    def touches_tables(self, node: Node) -> bool:
        return bool(self.topology.claims.get(node.name))

    def expires(self, node: Node) -> bool:
        claimed = self.topology.claims.get(node.name, ())
        return any(table.ttl_ms is not None and table.name in claimed for table in self.sub.tables)

    def scope(self) -> Scope:
        return self._scope

    # -- compiling ------------------------------------------------------------------------------------

    def _build(self) -> None:
        for node in self.sub.nodes:
            if isinstance(node, AgentNode) and node.shape != "plain":
                self.agents[node.name] = AgentPort(node, self.tables, self.replier(node))
        for node in self.sub.nodes:
            if node.name in self.agents or (isinstance(node, Stateful) and node.computes):
                self.pushes[node.name] = self._compile_push(node)
        for entry in self.sub.entries:
            self.chains.setdefault(entry.reads, []).append(self._chain(entry))

    def _chain(self, entry: Entry) -> Chain:
        place = entry.reads, self.partition
        reached = list(self._downstream(entry))
        tracked = any(node.needs_time or self.expires(node) for node in reached)
        clock = None
        if tracked and self.partition < self.plan.partition_counts[entry.reads]:
            upstreams = self._upstream_tasks(entry)
            clock = self.clock.inputs.setdefault(place, Input(upstreams))
        code = Code(self, tracks_time=tracked)
        code.enter(entry)
        chain = Chain(entry, compile_loop(code, f"{self.topology.app_id}/{entry.name}"), clock)
        chain.foreseeing = code.foreseeing
        claimed = {table for node in reached for table in self.topology.claims.get(node.name, ())}
        states = [state for name, state in self.tables.items() if name in claimed]
        chain.expiring = [state for state in states if isinstance(state, ExpiringState)]
        return chain

    def _upstream_tasks(self, entry: Entry) -> int:
        if not entry.announced:
            return 0
        return next(sub.partitions for sub in self.plan.subtopologies if entry in sub.nodes)

    def _downstream(self, node: Node) -> Iterator[Node]:
        """Everything in this task that records of `node` may reach."""
        for child in self.sub.topology.nodes:
            if node in child.parents and child.passes_on(node):
                yield child
                if not isinstance(child, Border):
                    yield from self._downstream(child)

    def _compile_push(self, node: Node) -> Compiled:
        code = Code(self, tracks_time=True)
        at = At(
            value="v",
            key_serde=node.key_serde,
            key="key",
            time="ts",
            stream_time="s",
            headers="headers",
            raw=False,
        )
        if isinstance(node, Stateful):
            node.generate_computed(code, at)
        else:
            code.follow(node, at)
        return compile_push(code, f"{self.topology.app_id}/{node.name}")
