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
the state in a commit is exactly that of the records below its offsets. Under exactly-once every task does so:
outputs become visible with the commit, so they too must be those of the records below its offsets.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from streamkit.processing.operators.source import Source
from streamkit.processing.operators.tables import Lookup
from streamkit.processing.record import RawRecord
from streamkit.processing.replies import Reply, without_request
from streamkit.processing.state.cache import (
    CACHE_BYTES,
    CACHED,
    CROWDED,
    FULL,
    LEAST_CACHED,
    Cache,
    entries_within,
)
from streamkit.processing.state.operator_state import Computed
from streamkit.processing.state.store import Store
from streamkit.processing.table import Lease, Scope
from streamkit.processing.tasks.assembly import AgentPort, Assembly, Chain
from streamkit.processing.tasks.checkpoint import Checkpoint, CommitMetadata
from streamkit.processing.tasks.commits import Commits
from streamkit.processing.tasks.fuse import Compiled, Counts, SinkRecord
from streamkit.processing.tasks.inflight import HEADERS, KEY, RAW, STREAM_TIME, TIME, VALUE, Item, Place
from streamkit.processing.tasks.settlement import Letter, Settlement, TaskFailure, letter_of_computed
from streamkit.processing.tasks.watermark import NEVER
from streamkit.processing.topology import Node, Plan, Subtopology, ancestors

_DONE: Any = object()


class Batch(msgspec.Struct, frozen=True):
    """Records of one source partition, in order of offsets, without errors among them."""

    topic: str
    partition: int
    records: Sequence[RawRecord]


class TaskOutput(msgspec.Struct):
    """What a call produced. Produce `sinks` in order within each topic, before anything later."""

    sinks: dict[str, list[SinkRecord]]
    consumed: int = 0  # how many records of the batch are done with; offer the rest again
    wake_at_ms: int | None = None  # call again by then: a retry or timer is due, or an input becomes idle
    failure: TaskFailure | None = None
    replies: list[Reply] = []  # to those who asked agents; they belong to no commit


class Task:
    """See the module. `stores` gives the store of a name; in memory when not given."""

    def __init__(
        self, plan: Plan, sub: Subtopology, partition: int, stores: Mapping[str, Store] | None = None
    ) -> None:
        self.id = f"{sub.index}_{partition}"
        self.sub = sub
        self.partition = partition
        self.topology = sub.topology
        self._plan = plan
        self._parts = Assembly(plan, sub, partition, stores or {})
        self._errors = Settlement(self._parts)
        self._commits = Commits(self._parts)
        self._chains = self._parts.chains
        self.agents = self._parts.agents
        self.clock = self._parts.clock
        self.stores = self._parts.stores
        self._by_arrival = [
            chain
            for chain in self._parts.all_chains
            if isinstance(chain.entry, Source) and chain.entry.by_arrival
        ]
        self._following: Iterator[None] | None = None  # what is due at the watermark, while it is under way
        self._caches = tuple(self._find_caches())
        self._cached_most = CACHED
        self._cache_bytes = CACHE_BYTES

    # -- starting and ending ------------------------------------------------------------------------

    @property
    def places(self) -> tuple[Place, ...]:
        """The source partitions of this task."""
        counts = self._plan.partition_counts
        return tuple((topic, self.partition) for topic in self._chains if self.partition < counts[topic])

    @property
    def places_looked_up(self) -> frozenset[Place] | None:
        """Those whose rows others look up: they are read in the order of time. None: no order matters."""
        lookups = [node for node in self.sub.nodes if isinstance(node, Lookup)]
        if not lookups:
            return None
        tables = {parent.name for node in lookups for parent in ancestors(node.parents[1])}
        streams = {parent.name for node in lookups for parent in ancestors(node.parents[0])}
        entries = [entry for entry in self.sub.entries if entry.name in tables - streams]
        return frozenset((entry.reads, self.partition) for entry in entries)

    def resume(self, place: Place, metadata: str | None, offset: int | None = None) -> CommitMetadata:
        """Take up the clocks of a committed offset; returns what was committed with it."""
        committed = self._commits.resume(place, metadata, offset)
        self._advance_sources(self._chains[place[0]])
        if committed.watermark_ms is not None:
            self.clock.watermark_ms = max(self.clock.watermark_ms, committed.watermark_ms)
            following, followed_ms = committed.behind or ("", committed.watermark_ms)
            self.clock.followed_ms = max(self.clock.followed_ms, followed_ms)
            self.clock.following = following
        return committed

    def restore(self, store: str, records: Sequence[RawRecord], end: int) -> int:
        """Replay changelog records below the committed position `end`; returns how many were applied."""
        return self._commits.restore(store, records, end)

    def start(self) -> None:
        """State is restored: open it to user code."""
        self._commits.start()

    def close(self) -> None:
        """The partition is gone: whatever user code still runs can write no more."""
        scopes = (scope for port in self.agents.values() for scope in port.scopes)
        for scope in (self._parts.scope(), *scopes):
            scope.open = False
        for table in self.sub.tables:
            table.release(self._parts.tables[table.name])

    # -- records ------------------------------------------------------------------------------------

    def process(self, batch: Batch, now_ms: int) -> TaskOutput:
        """Run a slice of records. A slice is one call on the loop: a few hundred records."""
        chains = self._chains[batch.topic]
        if chains[0].clock is not None:
            chains[0].clock.awake()
        self._tell_time(now_ms)
        if self.behind:
            with self._lent():
                self._advance(now_ms)
            if self.behind:
                return self._output()
        with self._lent():
            limit: int | None = None
            for chain in chains:
                self._run(chain, _between(batch.records, chain.position, limit), now_ms)
                for state in chain.expiring:
                    state.reach(chain.stream_time)
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
        self._tell_time(now_ms)
        with self._lent():
            self._advance(now_ms)
        return self._output()

    @property
    def behind(self) -> bool:
        """So much was due, by event time or by the clock, that some is left. `follow` does the next portion;
        no records are taken before all is done.
        """
        return self._following is not None or self.clock.followed_ms < self.clock.watermark_ms

    def follow(self, now_ms: int) -> TaskOutput:
        """Do some of what is due."""
        with self._lent():
            self._advance(now_ms)
        return self._output()

    def advance_to(self, event_time_ms: int, now_ms: int) -> TaskOutput:
        """Every source partition of this task has reached this event time (for tests and bounded inputs)."""
        for chain in self._parts.all_chains:
            if chain.clock is not None and not chain.entry.announced:
                chain.stream_time = max(chain.stream_time, event_time_ms)
        with self._lent():
            self._advance(now_ms)
        return self._output()

    def drain(self) -> TaskOutput:
        """What agents emitted since the last output."""
        return self._output()

    # -- agents -------------------------------------------------------------------------------------

    def emit(self, port: AgentPort, item: Item, value: Any, *, answers: bool = True) -> None:
        """An agent's result for a record: down the graph with the record's key, time and headers. `answers`:
        it is also the reply, if the record is a request.
        """
        raw, headers = item[RAW], item[HEADERS]
        if headers is None and raw is not None:
            headers = raw.headers()
        headers, asked = without_request(headers)
        if value is not None:
            with self._lent():
                push = self._parts.pushes[port.node.name].function
                push(value, item[KEY], item[TIME], item[STREAM_TIME], headers, raw)
                self._admit_inboxes()
        if asked is not None and answers:
            port.answer(asked, value, item[TIME])

    def fail(
        self, port: AgentPort, item: Item, error: Exception, attempt: int, *, answers: bool = True
    ) -> int | None:
        """An agent raised at its `attempt`-th try (from 1). Returns the pause before the next try in ms;
        None: the record is settled (skipped, dead-lettered, or the task has failed). `answers` as in `emit`.
        """
        pause_ms = self.pause_ms(port, attempt)
        if pause_ms is None:
            self.settle(port, item, error, answers=answers)
        return pause_ms

    def pause_ms(self, port: AgentPort, attempt: int) -> int | None:
        """The pause before the next try after the `attempt`-th (from 1); None: no more tries."""
        return self._errors.pause_ms(port.node, attempt)

    def settle(self, port: AgentPort, item: Item, error: Exception, *, answers: bool = True) -> None:
        """An agent's record failed for good: what the policy says of it."""
        raw = item[RAW]
        letter: Letter
        if raw is None:
            encode = port.node.parents[0].value_serde.encode
            letter = letter_of_computed(item[VALUE], item[KEY], item[TIME], encode)
        else:
            letter = raw.value(), raw.key(), item[TIME]
        self._errors.last_resort(port.node, error, raw, letter, answers=answers)
        if self.failure is None:
            port.unwell += 1

    @property
    def in_flight(self) -> int:
        """Records that wait for, or are in the hands of, agents."""
        return sum(map(len, self.agents.values()))

    # -- commits ------------------------------------------------------------------------------------

    def can_checkpoint(self) -> bool:
        """May the present state be committed? With state, and in a transaction, only at the barrier (see the
        module).
        """
        if self._commits.pending is not None or any(store.damaged for store in self.stores.values()):
            return False
        if not self.sub.stores and not self.topology.exactly_once:
            return True
        if self.in_flight or self._is_torn:
            return False
        return all(len({chain.position for chain in chains}) == 1 for chains in self._chains.values())

    @property
    def _is_torn(self) -> bool:
        """May the failure have left traces in a state? A record's own: it will be processed again, and would
        count twice. One that could not be read has gone nowhere, and tables know who came to them.
        """
        failure = self.failure
        if failure is None:
            return False
        if failure.offset is None:
            return True
        if any(chain.entry.name == failure.operator for chain in self._parts.all_chains):
            return False
        touched = self._parts.scope().touched
        return bool(self.sub.stateful) or (touched is not None and touched.offset() == failure.offset)

    def checkpoint(self, now_ms: int) -> Checkpoint:
        """Freeze what is to be committed. One at a time: `committed` ends it."""
        if not self.can_checkpoint():
            raise RuntimeError(f"task {self.id}: checkpoint() outside the barrier")
        offsets = {p: o for p in self.places if (o := self.committable(p)) is not None}
        return self._commits.checkpoint(offsets, self.places, now_ms)

    def outdoing(self, changelog: str, newest: Mapping[bytes, bytes | None], now_ms: int) -> list[SinkRecord]:
        """What the checkpoint under way has to write behind the newest rows of a changelog (key → value), so
        that those of others are none.
        """
        return self._commits.outdoing(changelog, newest, now_ms)

    def committed(self, checkpoint: Checkpoint, positions: Mapping[str, int]) -> None:
        """The offsets are committed: the stores take the changes, up to the changelogs' acknowledged ends."""
        self._divide_cache()
        self._commits.committed(checkpoint, positions)

    def committable(self, place: Place) -> int | None:
        """The offset that may be committed: everything below it is finished. None: nothing was read yet."""
        position = min(chain.position for chain in self._chains[place[0]])
        lowest = [port.lowest(place) for port in self.agents.values()]
        position = min([position, *(offset for offset in lowest if offset is not None)])
        return None if position < 0 else position

    def position(self, place: Place) -> int:
        """The offset of the next record to offer."""
        return max(0, min(chain.position for chain in self._chains[place[0]]))

    def row(self, table: str, key: Any) -> Any:
        """The row of a table of this task as it is now, or None."""
        if table in self._parts.tables:
            return self._parts.tables[table].row(key)
        node = next(node for node in self.sub.nodes if node.name == table)
        return self._parts.view(node).get(key)

    # -- what can be seen from outside ----------------------------------------------------------------

    @property
    def failure(self) -> TaskFailure | None:
        return self._errors.failure

    @property
    def dead_letters(self) -> Counter[tuple[str, str]]:
        """By operator and class of the error."""
        return self._errors.dead_letters

    @property
    def retry_at_ms(self) -> int | None:
        """When the earliest retry is due."""
        retries = (chain.retry_at_ms for chain in self._parts.all_chains)
        return min((at for at in retries if at is not None), default=None)

    @property
    def orphans(self) -> int:
        """Keys that the next checkpoint repairs."""
        return self._commits.orphans

    @property
    def cached(self) -> int:
        """Entries of stores kept decoded, changed ones among them, where clean ones can go."""
        return sum(state.cached for state in self._caches)

    @property
    def crowded(self) -> bool:
        """So many entries are kept that a commit, which lets clean ones go, should come early."""
        return any(state.cached > CROWDED * state.cached_most for state in self._caches)

    @property
    def full(self) -> bool:
        """So many that what is under way should end before there are more."""
        return any(state.cached > FULL * state.cached_most for state in self._caches)

    def share_caches(self, tasks: int, cache_bytes: int = CACHE_BYTES) -> None:
        """So many tasks at one worker share what it keeps decoded: entries, and what they take in memory."""
        self._cached_most = CACHED * cache_bytes // CACHE_BYTES // max(1, tasks)
        self._cache_bytes = cache_bytes // max(1, tasks)
        self._divide_cache()

    def _divide_cache(self) -> None:
        """Each state may hold as many entries of the size that it has met as fit into its part."""
        states = len(self._caches) or 1
        for state in self._caches:
            fitting = entries_within(self._cache_bytes // states, state.entry_bytes)
            state.cached_most = max(LEAST_CACHED, min(self._cached_most // states, fitting))

    def _find_caches(self) -> Iterator[Cache]:
        yield from self._parts.tables.values()
        for state in self._parts.states.values():
            if isinstance(state, Cache) and state.spills:
                yield state

    @property
    def windows_open(self) -> int:
        return sum(len(self._parts.state(node)) for node in self.sub.windows)

    @property
    def windows_closed(self) -> int:
        """Since this task began."""
        return sum(self._parts.state(node).closed for node in self.sub.windows)

    @property
    def operator_counts(self) -> Mapping[str, Counts]:
        """By operator; records are counted where they enter the task, and where an agent finished them."""
        for chain in self._parts.all_chains:
            self._parts.counts(chain.entry).records = chain.records
        for port in self.agents.values():
            self._parts.counts(port.node).done = port.done
        return self._parts.counters

    def counts(self, node: Node) -> Counts:
        return self._parts.counts(node)

    def children(self, node: Node, port: str = "") -> tuple[Node, ...]:
        return self._parts.children(node, port)

    # -- inside -------------------------------------------------------------------------------------

    def _lent(self) -> _Lent:
        return _Lent(self.topology.lease, self._parts.scope())

    def _tell_time(self, now_ms: int) -> None:
        for chain in self._by_arrival:
            chain.stream_time = max(chain.stream_time, now_ms)

    def _run(self, chain: Chain, records: Sequence[RawRecord], now_ms: int) -> None:
        if self.failure is not None or (chain.retry_at_ms is not None and now_ms < chain.retry_at_ms):
            chain.stopped = True
            return
        if not records:
            return
        chain.stopped, chain.retry_at_ms = False, None
        for state in chain.foreseeing:
            state.foresee(records)
        remaining = iter(records)
        while (error := chain.compiled.function(remaining, chain)) is not None:
            record = chain.failed
            if record is None:
                raise error
            chain.reach(record.offset())
            if not self._errors.settle(chain, record, error, now_ms):
                chain.stopped = True
                chain.records += _below(records, chain.position)
                return
            chain.reach(record.offset() + 1)
        chain.reach(records[-1].offset() + 1)
        chain.records += len(records)

    def _admit_inboxes(self) -> None:
        for port in self.agents.values():
            if port.inbox:
                port.admit()

    def _advance(self, now_ms: int) -> None:
        """Bring the watermark up to the inputs, and the states up to it; if that is much, a portion of it."""
        for chains in self._chains.values():
            self._advance_sources(chains)
        watermark = self.clock.advance()
        if self.failure is not None:
            return
        if self._following is None:
            self._following = self._follow(watermark, now_ms)
        if next(self._following, _DONE) is _DONE:
            self._following = None
        self._admit_inboxes()

    def _follow(self, watermark: int, now_ms: int) -> Iterator[None]:
        """Bring the states up to the watermark, upstream first."""
        for node in self.sub.stateful:
            push = self._parts.pushes.get(node.name)  # none: its results left at each update
            state = self._parts.states[node.name]
            self.clock.following = node.name
            for result in state.advance(max(NEVER, watermark - node.input_delay_ms), now_ms):
                if result is None:
                    yield
                elif push is not None:
                    self._push(node, push, result)
                    if self.failure is not None:
                        return
        self.clock.followed_ms = watermark

    def _advance_sources(self, chains: Sequence[Chain]) -> None:
        """The slowest of several streams on one topic, each with its own event time, is its clock."""
        sources = [c for c in chains if c.clock is not None and not c.entry.announced]
        for chain in sources[:1]:
            assert chain.clock is not None
            chain.clock.advance(min(c.stream_time for c in sources))

    def _push(self, node: Node, push: Compiled, computed: Computed) -> None:
        """Send a computed value down the graph. It stems from no single record, so retries follow at once."""
        attempts, (value, key, time, stream_time) = 0, computed
        while True:
            try:
                push.function(value, key, time, stream_time, None, None)
                return
            except Exception as error:
                operator = push.operator_at(error.__traceback__) or node
                attempts += 1
                if self._errors.pause_ms(operator, attempts) is not None:
                    continue
                self._errors.last_resort(operator, error, None, letter_of_computed(value, key, time))
                return

    def _output(self, consumed: int = 0) -> TaskOutput:
        sinks = {}
        for topic, records in self._parts.outlets.items():
            if records:
                sinks[topic] = records[:]
                records.clear()
        dues = [self.retry_at_ms, self.clock.idle_at_ms()]
        dues += [state.due_ms() for state in self._parts.states.values()]
        due = min((at for at in dues if at is not None), default=None)
        replies = self._parts.replies[:]
        self._parts.replies.clear()
        return TaskOutput(sinks, consumed, due, self.failure, replies)


class _Lent:
    """For the time of a `with`, the app's tables are those of this task."""

    __slots__ = ("_before", "_lease", "_scope")

    def __init__(self, lease: Lease, scope: Scope) -> None:
        self._lease = lease
        self._scope = scope
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
