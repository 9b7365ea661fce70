"""A task at its two edges: what it takes up from the last commit, and what it gives to the next.

    resume, restore, start     clocks from the commit's metadata, states from changelogs, open to user code
    checkpoint, committed      changes of all states as changelog records, offsets, clocks; then the stores

One checkpoint at a time: `committed` ends it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from streamkit.errors import StreamkitError
from streamkit.processing.record import RawRecord
from streamkit.processing.serde import script_name
from streamkit.processing.state import changelog
from streamkit.processing.state.operator_state import OperatorState
from streamkit.processing.state.store import Change
from streamkit.processing.table import Table, TableState
from streamkit.processing.tasks.assembly import Assembly
from streamkit.processing.tasks.checkpoint import Checkpoint, CommitMetadata, check_fingerprints, fingerprint
from streamkit.processing.tasks.fuse import SinkRecord
from streamkit.processing.tasks.inflight import Place
from streamkit.processing.tasks.watermark import NEVER, Input, Mark, mark_headers
from streamkit.processing.topology import Border


class Commits:
    """The commits of one task."""

    def __init__(self, assembly: Assembly) -> None:
        self.pending: Checkpoint | None = None
        self.watermarks_sent: dict[str, Mark] = {}
        self._assembly = assembly
        self._orphans: dict[str, set[bytes]] = {name: set() for name in assembly.stores}

    # -- from the last ------------------------------------------------------------------------------

    def resume(self, place: Place, metadata: str | None, offset: int | None) -> CommitMetadata:
        """Take up the clocks of a committed offset; returns what was committed with it."""
        committed = CommitMetadata.decode(metadata)
        check_fingerprints(committed, self._accepted)
        for chain in self._assembly.chains[place[0]]:
            chain.stream_time = committed.times.get(chain.entry.name, NEVER)
            chain.position = -1 if offset is None else offset
            if chain.clock is not None and chain.entry.announced:
                _resume_upstreams(chain.clock, committed.upstreams)
        return committed

    def restore(self, store: str, records: Sequence[RawRecord], end: int) -> int:
        """Replay changelog records below the committed position `end`; returns how many were applied.

        The keys of those past it are repaired by the next checkpoint (see `changelog`).
        """
        self._orphans[store] |= changelog.orphans(records, end)
        return changelog.apply(self._assembly.stores[store], records, end)

    def start(self) -> None:
        """State is restored: open it to user code."""
        parts = self._assembly
        reached = parts.clock.watermark_ms
        for node in parts.sub.stateful:
            if node.name == parts.clock.following:
                reached = parts.clock.followed_ms
            parts.states[node.name].load(max(NEVER, reached - node.input_delay_ms))
        for table in parts.sub.tables:
            parts.tables[table.name].load()
        for chain in parts.all_chains:
            for state in chain.expiring:
                state.reach(chain.stream_time)
        for table in parts.sub.tables:
            table.hold(parts.tables[table.name])

    @property
    def orphans(self) -> int:
        """Keys that the next checkpoint repairs."""
        return sum(map(len, self._orphans.values()))

    # -- to the next --------------------------------------------------------------------------------

    def checkpoint(self, offsets: dict[Place, int], places: Sequence[Place], now_ms: int) -> Checkpoint:
        """Freeze what is to be committed with these offsets."""
        parts, changes = self._assembly, {}
        states: dict[str, TableState | OperatorState] = {**parts.tables, **parts.states}
        for name, state in states.items():
            changed = _changes(name, state)
            changed += changelog.repairs(parts.stores[name], self._orphans[name], changed)
            self._orphans[name].clear()
            changes[parts.sub.changelog(name)] = changelog.to_records(changed, parts.partition, now_ms)
        self.pending = Checkpoint(
            sinks=self._watermark_records(now_ms),
            changelog={topic: records for topic, records in changes.items() if records},
            offsets=offsets,
            clocks={place: self._clock_of(place) for place in places},
        )
        return self.pending

    def outdoing(self, topic: str, newest: Mapping[bytes, bytes | None], now_ms: int) -> list[SinkRecord]:
        """Rows of a changelog that put what the checkpoint under way says behind the newest of each key."""
        assert self.pending is not None
        parts = self._assembly
        store = next(store for name, store in parts.stores.items() if parts.sub.changelog(name) == topic)
        changes = [(key, value) for value, key, *_ in self.pending.changelog[topic] if key is not None]
        return changelog.to_records(changelog.outdoing(newest, store, changes), parts.partition, now_ms)

    def committed(self, checkpoint: Checkpoint, positions: Mapping[str, int]) -> None:
        """The offsets are committed: the stores take the changes, up to the changelogs' acknowledged ends."""
        assert checkpoint is self.pending
        self.pending, parts = None, self._assembly
        for name, store in parts.stores.items():
            topic = parts.sub.changelog(name)
            records = checkpoint.changelog.get(topic)
            if records:
                changes = [(key, value) for value, key, *_ in records if key is not None]
                store.write(changes, positions.get(topic, store.position))
        for table in parts.tables.values():
            table.written()
        for state in parts.states.values():
            state.written()

    # -- inside ---------------------------------------------------------------------------------------

    def _watermark_records(self, now_ms: int) -> dict[str, list[SinkRecord]]:
        """How far this task has come, for every partition of its repartition topics; nothing if unchanged."""
        parts = self._assembly
        records: dict[str, list[SinkRecord]] = {}
        for node in parts.sub.nodes:
            if not (isinstance(node, Border) and node.announced):
                continue
            watermark = max(NEVER, parts.clock.followed_ms - node.input_delay_ms)
            mark = Mark(parts.partition, watermark, parts.clock.idle)
            unheard = watermark == NEVER and not mark.idle
            if unheard or self.watermarks_sent.get(node.topic) == mark:
                continue
            self.watermarks_sent[node.topic] = mark
            partitions = range(parts.plan.partition_counts[node.topic])
            records[node.topic] = [(None, None, now_ms, mark_headers(mark), p) for p in partitions]
        return records

    def _clock_of(self, place: Place) -> CommitMetadata:
        chains, clock = self._assembly.chains[place[0]], self._assembly.clock
        return CommitMetadata(
            times={c.entry.name: c.stream_time for c in chains if c.stream_time != NEVER},
            upstreams=[mark for c in chains[:1] if c.clock is not None for mark in c.clock.upstreams],
            watermark_ms=None if clock.watermark_ms == NEVER else clock.watermark_ms,
            behind=None if clock.followed_ms == clock.watermark_ms else (clock.following, clock.followed_ms),
            stores=self._fingerprints,
            ancestries=self._ancestries,
        )

    @cached_property
    def _ancestries(self) -> dict[str, str]:
        sub = self._assembly.sub
        return {store: sub.topology.ancestries[store] for store in sub.stores}

    @cached_property
    def _fingerprints(self) -> dict[str, str]:
        sub = self._assembly.sub
        tables = {table.name: fingerprint(*_kinds(table)) for table in sub.tables}
        operators = {node.name: fingerprint(node.key_serde.name, node.state_name) for node in sub.stateful}
        return tables | operators

    @cached_property
    def _accepted(self) -> dict[str, set[str]]:
        """By store: its fingerprint, and what former versions of the package made of the same declaration."""
        sub = self._assembly.sub
        accepted = {store: {known} for store, known in self._fingerprints.items()}
        for table in sub.tables:
            accepted[table.name].add(fingerprint(*map(_as_main, _kinds(table))))
        for node in sub.stateful:
            key = node.key_serde.name
            accepted[node.name].add(fingerprint(key, node.former_state_name))
            accepted[node.name].add(fingerprint(_as_main(key), _as_main(node.former_state_name)))
        return accepted


def _as_main(kind: str) -> str:
    """How former versions called the classes of a script that was run."""
    return kind.replace(f":{script_name()}.", ":__main__.")


def _changes(name: str, state: TableState | OperatorState) -> list[Change]:
    try:
        return state.changes()
    except StreamkitError:
        raise
    except Exception as error:  # an encoder's, about a value that user code has put there
        raise StreamkitError(
            f"the state {name} holds what cannot be written: {type(error).__name__}: {error}",
            hint="declare what it holds: app.table(..., value=T), process(..., state=T)",
        ) from error


def _kinds(table: Table[Any, Any]) -> list[str]:
    return [table.key.name, table.value.name, *(["stamped"] if table.ttl_ms is not None else [])]


def _resume_upstreams(clock: Input, marks: list[Mark]) -> None:
    for mark in marks:
        if mark.upstream < 0:  # one mark for all
            for upstream in range(len(clock.upstreams)):
                clock.heard(Mark(upstream, mark.time_ms, False))
        elif mark.upstream < len(clock.upstreams):
            clock.heard(mark)
