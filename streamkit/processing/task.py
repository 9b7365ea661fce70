"""A task: one partition of one subtopology. Batches in, outputs out; no clock, no I/O, no await.

    output = task.process(Batch(topic, partition, messages), now_ms)     # a slice of confluent Messages
    ... produce output.sinks; records behind output.consumed are offered again, not before output.wake_at_ms
    output = task.tick(now_ms, caught_up={(topic, partition), ...})      # at least once a second
    ... produce output.sinks; offer records behind output.consumed again, not before output.wake_at_ms
    task.committed(checkpoint, positions)

Life: `Task(sub, partition)` → `resume(place, metadata)` for each of `places` → `restore(store, records, end)`
with all that stands in each changelog, committed up to `end` → `start()` → process, tick, checkpoint →
`close()`.

Asynchronous agents run beside (`agents`): they take from `task.agents`, and give results back with `emit` and
`fail`. What was emitted leaves with the next `drain`.

Nothing is lost between here and a commit: an offset counts as processed once its outputs are in a
`TaskOutput`, its table and window changes are in the state, and no agent has it in hand. A task that has
state commits only at a barrier (`can_checkpoint`): nothing in flight and all chains at the same record. So
the state in a commit is exactly that of the records below its offsets.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import orjson

from streamkit.processing.checkpoint import Checkpoint, CommitMetadata, check_fingerprints, fingerprint
from streamkit.processing.error_policy import DeadLetter, ErrorPolicy, Fail, Skip, dead_letter_headers
from streamkit.processing.fuse import (
    At,
    Code,
    Compiled,
    Counts,
    SinkRecord,
    compile_loop,
    compile_push,
)
from streamkit.processing.inflight import (
    HEADERS,
    KEY,
    RAW,
    STREAM_TIME,
    TIME,
    VALUE,
    InFlight,
    Item,
    Lanes,
    Place,
)
from streamkit.processing.operators.agent import Agent
from streamkit.processing.operators.group_by import GroupBy
from streamkit.processing.operators.window import Window
from streamkit.processing.record import RawRecord
from streamkit.processing.serde import UNDECLARED_KEY
from streamkit.processing.state import changelog
from streamkit.processing.state.memory import MemoryStore
from streamkit.processing.state.store import Store
from streamkit.processing.table import Scope, TableState
from streamkit.processing.topology import Entry, Node, Plan, Subtopology
from streamkit.processing.watermark import NEVER, Input, Mark, TaskClock, mark_headers
from streamkit.processing.windows import WindowState


class Batch(msgspec.Struct, frozen=True):
    """Records of one source partition, in order of offsets, without errors among them."""

    topic: str
    partition: int
    records: Sequence[RawRecord]


class TaskFailure(msgspec.Struct, frozen=True):
    """The error policy says stop: `error` was raised by `operator`; at `offset` of `place`, if at a
    record.
    """

    operator: str
    error: Exception
    place: Place | None
    offset: int | None


class TaskOutput(msgspec.Struct):
    """What a call produced. Produce `sinks` in order within each topic, before anything later."""

    sinks: dict[str, list[SinkRecord]]
    consumed: int = 0  # how many records of the batch are done with; offer the rest again
    wake_at_ms: int | None = None  # call again by then: a retry is due, or an input becomes idle
    failure: TaskFailure | None = None


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

    def reach(self, offset: int) -> None:
        """Everything below this offset is settled."""
        if offset != self.position:
            self.position = offset
            self.attempts = 0

    def heard(self, mark: Mark) -> None:
        """A watermark record came by."""
        if self.clock is not None:
            self.clock.heard(mark)


class AgentPort:
    """The records that wait for, or are in the hands of, one asynchronous agent of this task."""

    def __init__(self, node: Agent, tables: Mapping[str, TableState]) -> None:
        self.node = node
        self.inbox: list[Item] = []
        self.flight = InFlight(node.concurrency)
        self.lanes = Lanes(node.concurrency)
        self.scopes: list[Scope] = []
        self.admitted = 0
        self.unwell = 0  # of those admitted, settled by an error policy
        self._tables = tables

    def new_scope(self) -> Scope:
        """What one coroutine of this agent may touch, until the task closes."""
        refusal = ""
        if self.node.concurrency > 1:
            refusal = (
                f"{self.node.name} works on {self.node.concurrency} records at once, so no commit fits one"
            )
        self.scopes.append(Scope(self._tables, refusal))
        return self.scopes[-1]

    def admit(self) -> None:
        """Move what the fused loops appended into the queues."""
        admit = self.lanes.admit if self.node.shape == "stream" else self.flight.admit
        for item in self.inbox:
            admit(item)
        self.admitted += len(self.inbox)
        self.inbox.clear()

    def lowest(self, place: Place) -> int | None:
        return self.lanes.lowest(place) if self.node.shape == "stream" else self.flight.lowest(place)

    @property
    def done(self) -> int:
        """Records finished without an error."""
        return self.admitted - self.unwell - len(self.lanes) - len(self.flight)

    def __len__(self) -> int:
        return len(self.inbox) + len(self.lanes) + len(self.flight)


class Task:
    """See the module. `stores` gives the store of a name; in memory when not given."""

    def __init__(
        self, plan: Plan, sub: Subtopology, partition: int, stores: Mapping[str, Store] | None = None
    ) -> None:
        self.id = f"{sub.index}_{partition}"
        self.sub = sub
        self.partition = partition
        self.topology = sub.topology
        self.failure: TaskFailure | None = None
        self.dead_letters: Counter[tuple[str, str]] = Counter()  # operator, class of the error
        self.watermarks_sent: dict[str, Mark] = {}
        self.clock = TaskClock(sub.topology.idle_timeout_ms)
        self._plan = plan
        self._counts: dict[str, Counts] = {node.name: Counts() for node in sub.nodes}
        self._outlets: dict[str, list[SinkRecord]] = {}
        self._windows: dict[str, WindowState] = {}
        self._tables: dict[str, TableState] = {}
        self._pending: Checkpoint | None = None
        self._make_state(stores or {})
        self._scope = Scope(self._tables)
        self.agents: dict[str, AgentPort] = {}
        self._chains: dict[str, list[Chain]] = {}
        self._pushes: dict[str, Compiled] = {}
        self._build()

    # -- assembling ---------------------------------------------------------------------------------

    def _make_state(self, stores: Mapping[str, Store]) -> None:
        self.stores: dict[str, Store] = {
            name: stores[name] if name in stores else MemoryStore() for name in self.sub.stores
        }
        self._orphans: dict[str, set[bytes]] = {name: set() for name in self.stores}
        for table in self.sub.tables:
            self._tables[table.name] = TableState(
                table.key, table.value, table.default, self.stores[table.name]
            )
        for node in self.sub.windows:
            assert isinstance(node, Window)
            self._windows[node.name] = WindowState(
                node.window, node.key_serde, node.parents[0].delay_ms, self.stores[node.name]
            )

    def _build(self) -> None:
        for node in self.sub.nodes:
            if isinstance(node, Agent) and node.shape != "plain":
                self.agents[node.name] = AgentPort(node, self._tables)
        for node in self.sub.nodes:
            if node.name in self.agents or (isinstance(node, Window) and node.emit == "on_close"):
                self._pushes[node.name] = self._compile_push(node)
        for entry in self.sub.entries:
            self._chains.setdefault(entry.reads, []).append(self._chain(entry))

    def _chain(self, entry: Entry) -> Chain:
        place = entry.reads, self.partition
        tracked = any(node.needs_time for node in self._downstream(entry))
        clock = None
        if tracked and self.partition < self._plan.partition_counts[entry.reads]:
            upstreams = self._upstream_tasks(entry)
            clock = self.clock.inputs.setdefault(place, Input(upstreams))
        code = Code(self, tracks_time=tracked)
        code.enter(entry)
        return Chain(entry, compile_loop(code, f"{self.topology.app_id}/{entry.name}"), clock)

    def _upstream_tasks(self, entry: Entry) -> int:
        if not isinstance(entry, GroupBy):
            return 0
        return next(sub.partitions for sub in self._plan.subtopologies if entry in sub.nodes)

    def _downstream(self, node: Node) -> Iterator[Node]:
        """Everything in this task that records of `node` may reach."""
        for child in self.sub.topology.nodes:
            if node in child.parents:
                yield child
                if not isinstance(child, GroupBy):
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
        if isinstance(node, Window):
            code.line(f"v = {node.result_expression('key', 'ts', 'v')}")
            code.line(f"ts = s = ts + {node.window.size_ms - 1}")
        code.follow(node, at)
        return compile_push(code, f"{self.topology.app_id}/{node.name}")

    # -- `fuse.Runtime`: what generated code binds to -------------------------------------------------

    def outlet(self, topic: str) -> list[SinkRecord]:
        return self._outlets.setdefault(topic, [])

    def inbox(self, node: Node) -> list[Any]:
        return self.agents[node.name].inbox

    def window(self, node: Node) -> WindowState:
        return self._windows[node.name]

    def counts(self, node: Node) -> Counts:
        return self._counts[node.name]

    def children(self, node: Node, port: str = "") -> tuple[Node, ...]:
        return self.topology.children(node, port)

    def touches_tables(self, node: Node) -> bool:
        return bool(self.topology.claims.get(node.name))

    def scope(self) -> Scope:
        return self._scope

    # -- starting and ending ------------------------------------------------------------------------

    @property
    def places(self) -> tuple[Place, ...]:
        """The source partitions of this task."""
        counts = self._plan.partition_counts
        return tuple((topic, self.partition) for topic in self._chains if self.partition < counts[topic])

    def resume(self, place: Place, metadata: str | None, offset: int | None = None) -> CommitMetadata:
        """Take up the clocks of a committed offset; returns what was committed with it."""
        committed = CommitMetadata.decode(metadata)
        check_fingerprints(committed, self._fingerprints())
        for chain in self._chains[place[0]]:
            chain.stream_time = committed.times.get(chain.entry.name, NEVER)
            chain.position = -1 if offset is None else offset
            if chain.clock is None:
                continue
            if isinstance(chain.entry, GroupBy):
                self._resume_upstreams(chain.clock, committed.upstreams)
        self._advance_sources(self._chains[place[0]])
        if committed.watermark_ms is not None:
            self.clock.watermark_ms = max(self.clock.watermark_ms, committed.watermark_ms)
        return committed

    def _resume_upstreams(self, clock: Input, marks: list[Mark]) -> None:
        for mark in marks:
            if mark.upstream < 0:  # one mark for all
                for upstream in range(len(clock.upstreams)):
                    clock.heard(Mark(upstream, mark.time_ms, False))
            elif mark.upstream < len(clock.upstreams):
                clock.heard(mark)

    def restore(self, store: str, records: Sequence[RawRecord], end: int) -> int:
        """Replay changelog records below the committed position `end`; returns how many were applied.

        The keys of those past it are repaired by the next checkpoint (see `changelog`).
        """
        self._orphans[store] |= changelog.orphans(records, end)
        return changelog.apply(self.stores[store], records, end)

    def start(self) -> None:
        """State is restored: open it to user code."""
        for window in self._windows.values():
            window.load()
            window.watermark_ms = max(NEVER, self.clock.watermark_ms - window.delay_ms)
        for state in self._tables.values():
            state.load()
        for table in self.sub.tables:
            table.hold(self._tables[table.name])

    def close(self) -> None:
        """The partition is gone: whatever user code still runs can write no more."""
        for scope in (self._scope, *(scope for port in self.agents.values() for scope in port.scopes)):
            scope.open = False
        for table in self.sub.tables:
            table.release(self._tables[table.name])

    # -- records ------------------------------------------------------------------------------------

    def process(self, batch: Batch, now_ms: int) -> TaskOutput:
        """Run a slice of records. A slice is one call on the loop: a few hundred records."""
        chains = self._chains[batch.topic]
        if chains[0].clock is not None:
            chains[0].clock.awake()
        with self._lent():
            limit: int | None = None
            for chain in chains:
                self._run(chain, _between(batch.records, chain.position, limit), now_ms)
                if chain.stopped:
                    limit = chain.position if limit is None else min(limit, chain.position)
            self._admit_inboxes()
            self._advance(now_ms)
        reached = min(chain.position for chain in chains)
        consumed = len(batch.records) if limit is None else _below(batch.records, reached)
        return self._output(consumed=consumed)

    def skip_to(self, place: Place, offset: int) -> None:
        """Everything below `offset` was read, though no record is there (compaction, transaction markers)."""
        for chain in self._chains[place[0]]:
            if not chain.stopped:
                chain.position = max(chain.position, offset)

    def tick(self, now_ms: int, caught_up: Container[Place] = ()) -> TaskOutput:
        """Time passes: idle inputs stop holding windows open. `caught_up`: partitions read to their end."""
        self.clock.observe(caught_up, now_ms)
        with self._lent():
            self._advance(now_ms)
        return self._output()

    def advance_to(self, event_time_ms: int, now_ms: int) -> TaskOutput:
        """Every source partition of this task has reached this event time (for tests and bounded inputs)."""
        for chain in (c for chains in self._chains.values() for c in chains):
            if chain.clock is not None and not isinstance(chain.entry, GroupBy):
                chain.stream_time = max(chain.stream_time, event_time_ms)
        with self._lent():
            self._advance(now_ms)
        return self._output()

    def drain(self) -> TaskOutput:
        """What agents emitted since the last output."""
        return self._output()

    # -- agents -------------------------------------------------------------------------------------

    def emit(self, port: AgentPort, item: Item, value: Any) -> None:
        """An agent's result for a record: down the graph with the record's key, time and headers."""
        if value is None:
            return
        raw, headers = item[RAW], item[HEADERS]
        if headers is None and raw is not None:
            headers = raw.headers()
        with self._lent():
            push = self._pushes[port.node.name].function
            push(value, item[KEY], item[TIME], item[STREAM_TIME], headers, raw)
            self._admit_inboxes()

    def fail(self, port: AgentPort, item: Item, error: Exception, attempt: int) -> int | None:
        """An agent raised at its `attempt`-th try (from 1). Returns the pause before the next try in ms;
        None: the record is settled (skipped, dead-lettered, or the task has failed).
        """
        policy = self._policy(port.node)
        if policy.retry is not None and attempt <= policy.retry.attempts:
            self._counts[port.node.name].retries += 1
            return policy.retry.pause_ms(attempt)
        raw = item[RAW]
        if raw is None:
            letter = port.node.value_serde.encode(item[VALUE]), UNDECLARED_KEY.encode(item[KEY]), item[TIME]
            self._last_resort(policy, port.node, error, None, letter)
        else:
            self._last_resort(policy, port.node, error, raw, (raw.value(), raw.key(), item[TIME]))
        if self.failure is None:
            port.unwell += 1
        return None

    @property
    def in_flight(self) -> int:
        """Records that wait for, or are in the hands of, agents."""
        return sum(map(len, self.agents.values()))

    # -- commits ------------------------------------------------------------------------------------

    def can_checkpoint(self) -> bool:
        """May the present state be committed? With state, only at the barrier (see the module)."""
        if self._pending is not None:
            return False
        if not self.sub.stores:
            return True
        if self.in_flight or (self.failure is not None and self.failure.offset is None):
            return False
        return all(len({chain.position for chain in chains}) == 1 for chains in self._chains.values())

    def checkpoint(self, now_ms: int) -> Checkpoint:
        """Freeze what is to be committed. One at a time: `committed` ends it."""
        if not self.can_checkpoint():
            raise RuntimeError(f"task {self.id}: checkpoint() outside the barrier")
        changes = {}
        states: dict[str, TableState | WindowState] = {**self._tables, **self._windows}
        for name, state in states.items():
            changed = state.changes()
            changed += changelog.repairs(self.stores[name], self._orphans[name], changed)
            self._orphans[name].clear()
            changes[self.sub.changelog(name)] = changelog.to_records(changed, self.partition, now_ms)
        self._pending = Checkpoint(
            sinks=self._watermark_records(now_ms),
            changelog={topic: records for topic, records in changes.items() if records},
            offsets={p: o for p in self.places if (o := self.committable(p)) is not None},
            clocks={place: self._clock_of(place) for place in self.places},
        )
        return self._pending

    def committed(self, checkpoint: Checkpoint, positions: Mapping[str, int]) -> None:
        """The offsets are committed: the stores take the changes, up to the changelogs' acknowledged ends."""
        assert checkpoint is self._pending
        self._pending = None
        for name, store in self.stores.items():
            topic = self.sub.changelog(name)
            records = checkpoint.changelog.get(topic)
            if records:
                changes = [(key, value) for value, key, *_ in records if key is not None]
                store.write(changes, positions.get(topic, store.position))
        for state in self._tables.values():
            state.written()

    def committable(self, place: Place) -> int | None:
        """The offset that may be committed: everything below it is finished. None: nothing was read yet."""
        position = min(chain.position for chain in self._chains[place[0]])
        lowest = [port.lowest(place) for port in self.agents.values()]
        position = min([position, *(offset for offset in lowest if offset is not None)])
        return None if position < 0 else position

    def position(self, place: Place) -> int:
        """The offset of the next record to offer."""
        return max(0, min(chain.position for chain in self._chains[place[0]]))

    @property
    def retry_at_ms(self) -> int | None:
        """When the earliest retry is due."""
        retries = (c.retry_at_ms for chains in self._chains.values() for c in chains)
        return min((at for at in retries if at is not None), default=None)

    @property
    def orphans(self) -> int:
        """Keys that the next checkpoint repairs."""
        return sum(map(len, self._orphans.values()))

    @property
    def windows_open(self) -> int:
        return sum(map(len, self._windows.values()))

    @property
    def windows_closed(self) -> int:
        """Since this task began."""
        return sum(window.closed for window in self._windows.values())

    @property
    def operator_counts(self) -> Mapping[str, Counts]:
        """By operator; records are counted where they enter the task, and where an agent finished them."""
        for chains in self._chains.values():
            for chain in chains:
                self._counts.setdefault(chain.entry.name, Counts()).records = chain.records
        for name, port in self.agents.items():
            self._counts[name].done = port.done
        return self._counts

    # -- inside -------------------------------------------------------------------------------------

    def _lent(self) -> _Lent:
        return _Lent(self)

    def _run(self, chain: Chain, records: Sequence[RawRecord], now_ms: int) -> None:
        if self.failure is not None or (chain.retry_at_ms is not None and now_ms < chain.retry_at_ms):
            chain.stopped = True
            return
        if not records:
            return
        chain.stopped, chain.retry_at_ms = False, None
        remaining = iter(records)
        while (error := chain.compiled.function(remaining, chain)) is not None:
            record = chain.failed
            if record is None:
                raise error
            chain.reach(record.offset())
            if not self._settle(chain, record, error, now_ms):
                chain.stopped = True
                chain.records += _below(records, chain.position)
                return
            chain.reach(record.offset() + 1)
        chain.reach(records[-1].offset() + 1)
        chain.records += len(records)

    def _settle(self, chain: Chain, record: RawRecord, error: Exception, now_ms: int) -> bool:
        """Apply the policy to a record that raised. False: the chain stops here, for now or for good."""
        operator = chain.compiled.operator_at(error.__traceback__) or chain.entry
        policy = self._policy(operator)
        if policy.retry is not None and chain.attempts < policy.retry.attempts:
            chain.attempts += 1
            self._counted(operator).retries += 1
            chain.retry_at_ms = now_ms + policy.retry.pause_ms(chain.attempts)
            return False
        letter = record.value(), record.key(), record.timestamp()[1]
        self._last_resort(policy, operator, error, record, letter)
        return self.failure is None

    def _policy(self, node: Node) -> ErrorPolicy:
        """The policy of the operator or the nearest before it, else the app's."""
        while node.policy is None and node.parents:
            node = node.parents[0]
        return node.policy or self.topology.default_policy

    def _counted(self, node: Node) -> Counts:
        return self._counts.setdefault(node.name, Counts())

    def _last_resort(
        self,
        policy: ErrorPolicy,
        operator: Node,
        error: Exception,
        record: RawRecord | None,
        letter: tuple[bytes | None, bytes | None, int],
    ) -> None:
        match policy.then:
            case DeadLetter(topic):
                self._counted(operator).dead_letters += 1
                self.dead_letters[operator.name, type(error).__qualname__] += 1
                headers = dead_letter_headers(record, operator.name, error)
                self.outlet(topic).append((*letter, headers, None))
            case Skip():
                self._counted(operator).skipped += 1
            case Fail():
                self._counted(operator).failed += 1
                place = None if record is None else (record.topic(), record.partition())
                offset = None if record is None else record.offset()
                self.failure = TaskFailure(operator.name, error, place, offset)

    def _admit_inboxes(self) -> None:
        for port in self.agents.values():
            if port.inbox:
                port.admit()

    def _advance(self, now_ms: int) -> None:
        """Bring the watermark up to the inputs, and close what it passes, upstream windows first."""
        for chains in self._chains.values():
            self._advance_sources(chains)
        watermark = self.clock.advance()
        for node in self.sub.windows:
            window = self._windows[node.name]
            if watermark - window.delay_ms > window.watermark_ms:
                self._close_windows(node, window, watermark)
        self._admit_inboxes()

    def _advance_sources(self, chains: Sequence[Chain]) -> None:
        """The slowest of several streams on one topic, each with its own event time, is its clock."""
        sources = [c for c in chains if c.clock is not None and c.entry.kind == "source"]
        for chain in sources[:1]:
            assert chain.clock is not None
            chain.clock.advance(min(c.stream_time for c in sources))

    def _close_windows(self, node: Node, window: WindowState, watermark: int) -> None:
        push = self._pushes.get(node.name)  # none: its results left at each update
        for start, key, accumulator in window.close(watermark):
            if push is not None and self.failure is None:
                self._push_result(node, push, start, key, accumulator)

    def _push_result(self, node: Node, push: Compiled, start: int, key: Any, accumulator: list[Any]) -> None:
        """Send a closed window down the graph. It stems from no single record, so retries follow at once."""
        attempts = 0
        while True:
            try:
                push.function(accumulator, key, start, start, None, None)
                return
            except Exception as error:
                operator = push.operator_at(error.__traceback__) or node
                policy = self._policy(operator)
                attempts += 1
                if policy.retry is not None and attempts <= policy.retry.attempts:
                    self._counted(operator).retries += 1
                    continue
                letter = orjson.dumps(accumulator[1:], default=repr), UNDECLARED_KEY.encode(key), start
                self._last_resort(policy, operator, error, None, letter)
                return

    def _output(self, consumed: int = 0) -> TaskOutput:
        sinks = {}
        for topic, records in self._outlets.items():
            if records:
                sinks[topic] = records[:]
                records.clear()
        due = [at for at in (self.retry_at_ms, self.clock.idle_at_ms()) if at is not None]
        return TaskOutput(sinks, consumed, min(due, default=None), self.failure)

    def _watermark_records(self, now_ms: int) -> dict[str, list[SinkRecord]]:
        """How far this task has come, for every partition of its repartition topics; nothing if unchanged."""
        records: dict[str, list[SinkRecord]] = {}
        for node in self.sub.nodes:
            if not isinstance(node, GroupBy):
                continue
            watermark = max(NEVER, self.clock.watermark_ms - node.parents[0].delay_ms)
            mark = Mark(self.partition, watermark, self.clock.idle)
            unheard = watermark == NEVER and not mark.idle
            if unheard or self.watermarks_sent.get(node.topic) == mark:
                continue
            self.watermarks_sent[node.topic] = mark
            partitions = range(self._plan.partition_counts[node.topic])
            records[node.topic] = [(None, None, now_ms, mark_headers(mark), p) for p in partitions]
        return records

    def _clock_of(self, place: Place) -> CommitMetadata:
        chains = self._chains[place[0]]
        return CommitMetadata(
            times={c.entry.name: c.stream_time for c in chains if c.stream_time != NEVER},
            upstreams=[mark for c in chains[:1] if c.clock is not None for mark in c.clock.upstreams],
            watermark_ms=None if self.clock.watermark_ms == NEVER else self.clock.watermark_ms,
            stores=self._fingerprints(),
        )

    def _fingerprints(self) -> dict[str, str]:
        tables = {table.name: fingerprint(table.key.name, table.value.name) for table in self.sub.tables}
        windows = {w.name: fingerprint(w.key_serde.name, w.state_name) for w in self.sub.windows}
        return tables | windows


class _Lent:
    """For the time of a `with`, the app's tables are those of this task."""

    __slots__ = ("_before", "_lease", "_scope")

    def __init__(self, task: Task) -> None:
        self._lease = task.topology.lease
        self._scope = task.scope()
        self._before: Scope | None = None

    def __enter__(self) -> None:
        self._before = self._lease.scope
        self._lease.scope = self._scope

    def __exit__(self, *exc: object) -> None:
        self._lease.scope = self._before


def _between(records: Sequence[RawRecord], start: int, end: int | None) -> Sequence[RawRecord]:
    """The records with start ≤ offset < end."""
    if end is None and (not records or records[0].offset() >= start):
        return records
    return [r for r in records if r.offset() >= start and (end is None or r.offset() < end)]


def _below(records: Sequence[RawRecord], offset: int) -> int:
    """How many of the records come before `offset`."""
    return bisect_left(records, offset, key=lambda record: record.offset())
