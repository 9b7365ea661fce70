"""Warm copies: the stores of tasks that others run, kept up to date from their changelogs.

When a task comes to a worker that has a copy, its restore reads what the copy lacks, which is what was
written in the last second. A copy is kept by the rules of a restore: it takes what is committed and nothing
else, so what its task has written and not yet committed waits beside it. The committed positions stand in the
group's commits, which anybody may read.

    roster ──► which copies (`roster.copies`) ──► follow their changelogs ──► waiting
                                     commits ──► how far ──► waiting ──► stores

The stores of a task that leaves this worker stay as a copy until the roster says who keeps one. A copy is a
convenience: what goes wrong with it is logged, and tried again.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack

import structlog

from streamkit.errors import StreamkitError
from streamkit.processing.record import RawRecord
from streamkit.processing.state import changelog
from streamkit.processing.state.memory import MemoryStore
from streamkit.processing.state.store import Store
from streamkit.processing.tasks.checkpoint import CommitMetadata
from streamkit.processing.tasks.inflight import Place
from streamkit.processing.topology import Plan, Subtopology
from streamkit.processing.worker.restore import MANY, ChangelogReader, usable_from
from streamkit.processing.worker.roster import Roster, copies
from streamkit.processing.worker.source import Partition
from streamkit.telemetry.instruments import Family, Gauge

LOOK_S = 0.5
TaskName = tuple[int, int]  # subtopology, partition

log = structlog.get_logger("worker.standby")


class Copy:
    """One store of a task that somebody else runs.

    Invariant: the store holds what is committed below its position; `waiting` are later records, in order.
    """

    def __init__(self, name: str, place: Place, store: Store) -> None:
        self.name = name
        self.place = place
        self.store = store
        self.committed: int | None = None  # not heard yet
        self.waiting: list[RawRecord] = []
        self._loading = ExitStack()

    def load(self) -> None:
        """Much is to come."""
        self._loading.enter_context(self.store.loading())

    def loaded(self) -> None:
        self._loading.close()

    def heard(self, records: Sequence[RawRecord]) -> None:
        self.waiting += records
        self.advance()

    def advance(self) -> None:
        """Take what is committed."""
        end = self.committed or 0
        ready = bisect_left(self.waiting, end, key=lambda record: record.offset())
        if ready:
            changelog.apply(self.store, self.waiting[:ready], end)
            del self.waiting[:ready]

    @property
    def remaining(self) -> int:
        """Records that are committed and not in the store; compaction and markers count too."""
        return max(0, (self.committed or 0) - self.store.position)

    def close(self) -> None:
        self.loaded()
        self.store.close()


class Standbys:
    """The copies of one worker."""

    def __init__(
        self,
        plan: Plan,
        replicas: int,
        roster: Roster,
        reader: ChangelogReader,
        make_stores: Callable[[int, int], Mapping[str, Store]] | None,
    ) -> None:
        self._plan = plan
        self._replicas = replicas
        self._roster = roster
        self._reader = reader
        self._make_stores = make_stores
        self._kept: dict[TaskName, list[Copy]] = {}
        self._by_place: dict[Place, Copy] = {}
        self._following: asyncio.Task[None] | None = None
        self._followed: frozenset[Place] = frozenset()
        self._remaining: Family[Gauge] | None = None
        self._closed = False

    async def run(
        self,
        me: Callable[[], Awaitable[str]],
        is_running: Callable[[TaskName], bool],
        remaining: Family[Gauge],
    ) -> None:
        """Until cancelled. `me`: our id in the group; `is_running`: is a task at work here, or closing?"""
        self._remaining = remaining
        while True:
            try:
                await self._choose(await me(), is_running)
                await self._hear_commits()
                await self._follow_all()
            except (StreamkitError, OSError) as error:
                log.warning("standby copies have to wait", error=str(error))
            await asyncio.sleep(LOOK_S)

    def take(self, name: TaskName) -> Mapping[str, Store] | None:
        """The stores of a task that is ours from now on, if there is a copy."""
        kept = self._kept.pop(name, None)
        if kept is None:
            return None
        self._forget(kept)
        for copy in kept:
            copy.loaded()
        return {copy.name: copy.store for copy in kept}

    def adopt(self, name: TaskName, stores: Mapping[str, Store]) -> bool:
        """The task leaves: keep its stores. False: they are not wanted any more."""
        unwanted = self._closed or name in self._kept or not stores
        if unwanted or any(store.damaged for store in stores.values()):
            return False
        self._keep(name, stores)
        return True

    async def close(self) -> None:
        self._closed = True
        await self._stop_following()
        for name in list(self._kept):
            self._drop(name)

    # -- which ----------------------------------------------------------------------------------------

    async def _choose(self, me: str, is_running: Callable[[TaskName], bool]) -> None:
        peers = await self._roster.peers()
        if peers is None or all(peer.member != me for peer in peers):
            return
        mine = copies(peers, self._replicas, self._stateful)[me]
        wanted = {(self._sub(place).index, place[1]) for place in mine}
        for name in self._kept.keys() - wanted:
            self._drop(name)
        for name in wanted - self._kept.keys():
            if not is_running(name):
                self._keep(name, self._stores_of(name))

    def _stateful(self, place: Partition) -> bool:
        """Another version of the app may read topics that this one knows nothing of."""
        return self._plan.reads(place[0]) and bool(self._sub(place).stores)

    def _sub(self, place: Partition) -> Subtopology:
        return self._plan.subtopology_reading(place[0])

    def _stores_of(self, name: TaskName) -> Mapping[str, Store]:
        if self._make_stores is not None:
            return self._make_stores(*name)
        return {store: MemoryStore() for store in self._plan.subtopologies[name[0]].stores}

    def _keep(self, name: TaskName, stores: Mapping[str, Store]) -> None:
        sub = self._plan.subtopologies[name[0]]
        for node in sub.stateful:
            if stores[node.name].spills and (index := node.make_index()) is not None:
                stores[node.name].keep_index(index)
        kept = [Copy(store, (sub.changelog(store), name[1]), stores[store]) for store in sub.stores]
        self._kept[name] = kept
        self._by_place |= {copy.place: copy for copy in kept}

    def _drop(self, name: TaskName) -> None:
        kept = self._kept.pop(name)
        self._forget(kept)
        for copy in kept:
            copy.close()

    def _forget(self, kept: Sequence[Copy]) -> None:
        for copy in kept:
            del self._by_place[copy.place]
            if self._remaining is not None:
                self._remaining.forget(copy.name, str(copy.place[1]))

    # -- how far --------------------------------------------------------------------------------------

    async def _hear_commits(self) -> None:
        """Ask how far each task has committed, and let its copies catch up with that."""
        asked = dict(self._by_place)
        places = [place for name in self._kept for place in self._sources(name)]
        positions = await self._roster.committed(places) if places else []
        if positions is None:
            return
        for copy in asked.values():
            copy.committed = copy.committed or 0
        for position in positions:
            for topic, end in CommitMetadata.decode(position.metadata).changelogs.items():
                if heard := asked.get((topic, position.partition)):
                    heard.committed = max(heard.committed or 0, end)
        for place, copy in self._by_place.items():
            copy.advance()
            if self._remaining is not None:
                self._remaining.labels(copy.name, str(place[1])).value = copy.remaining

    def _sources(self, name: TaskName) -> Iterator[Partition]:
        index, number = name
        for topic in self._plan.subtopologies[index].topics:
            if number < self._plan.partition_counts[topic]:
                yield topic, number

    async def _follow_all(self) -> None:
        """See to it that the changelogs of the present copies are followed, and no others."""
        heard = frozenset(place for place, copy in self._by_place.items() if copy.committed is not None)
        running = self._following is not None and not self._following.done()
        if heard == self._followed and (running or not heard):
            return
        await self._stop_following()
        if heard:
            self._followed = heard
            self._following = asyncio.create_task(self._follow({p: self._by_place[p] for p in heard}))

    async def _follow(self, kept: Mapping[Place, Copy]) -> None:
        """Read changelogs from where the stores are."""
        spans = await self._reader.spans({place: copy.committed or 0 for place, copy in kept.items()})
        starts = {}
        for place, copy in kept.items():
            if self._by_place.get(place) is not copy:
                continue  # taken meanwhile
            copy.waiting.clear()
            first, end = spans[place]
            starts[place] = usable_from(copy.store, place, first, copy.committed or 0)
            if end - starts[place] >= MANY:
                copy.load()

        def apply(place: Place, records: Sequence[RawRecord]) -> None:
            if self._by_place.get(place) is kept[place]:
                kept[place].heard(records)

        def caught_up() -> None:
            whole = [copy for place, copy in kept.items() if self._by_place.get(place) is copy]
            for copy in whole:
                copy.loaded()
            log.info("standby copies caught up", stores=sorted(f"{c.name}-{c.place[1]}" for c in whole))

        await self._reader.follow(starts, apply, caught_up)

    async def _stop_following(self) -> None:
        following, self._following, self._followed = self._following, None, frozenset()
        if following is None:
            return
        following.cancel()
        await asyncio.wait([following])  # who is cancelled here is told so, unlike by `await following`
        if not following.cancelled() and (error := following.exception()) is not None:
            log.warning("standby copies are read anew", error=str(error))  # whatever it was
        for copy in self._by_place.values():
            copy.loaded()
