"""A task that lives many times: it commits, is rolled back or dies, at any step, and goes on from its commit.

What it told counts when it is committed, as under exactly-once. Its input is a sequence of slices, none of
them empty, which are offered as they are, so that one life without a commit in between is the answer to all
others.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import streamkit as sk
from streamkit.processing.state.memory import MemoryStore
from streamkit.processing.state.store import Store
from streamkit.processing.tasks.inflight import Place
from streamkit.processing.tasks.task import Batch, Task
from streamkit.processing.testing import Log, StoredRecord
from streamkit.processing.worker.rocksdb import StateDirectory
from tests.processing.conftest import SpillingStore

Slice = tuple[str, Sequence[tuple[bytes, bytes | None, int]]]  # topic, (key, value, event time in ms)
MakeStore = Callable[[str], Store]


def in_memory(name: str) -> Store:
    return MemoryStore()


def spilling(name: str) -> Store:
    """As if on disk."""
    return SpillingStore()


@contextmanager
def on_disk() -> Iterator[MakeStore]:
    """In RocksDB."""
    numbers = count()
    with TemporaryDirectory() as path, closing(StateDirectory(Path(path), "lives", 0)) as state:
        yield lambda name: state.stores([f"{name}-{next(numbers)}"], 0).popitem()[1]


class Lives:
    """`make_store`: of a name. A worker that dies loses those that do not spill."""

    def __init__(self, app: sk.App, slices: Sequence[Slice], make_store: MakeStore = in_memory) -> None:
        self.plan = app.topology().plan({topic: 1 for topic, _ in slices})
        [self.sub] = self.plan.subtopologies
        self.make_store = make_store
        self.stores: dict[str, Store] = {name: make_store(name) for name in self.sub.stores}
        self.log = Log({})
        self.told: dict[str, list[Any]] = defaultdict(list)
        self.commits: dict[Place, tuple[int, str]] = {}
        self.slices = slices
        self.starts: list[dict[str, int]] = []
        offsets: dict[str, int] = defaultdict(int)
        for topic, records in slices:
            self.starts.append(dict(offsets))
            offsets[topic] += len(records)
        self.now_ms = 0
        self.born()

    def born(self, *, anew: bool = False, in_bulk: bool = False) -> None:
        """`anew`: what is on disk is lost, too. `in_bulk`: its stores are loaded."""
        for name, store in self.stores.items():
            if anew or not store.spills:
                store.close()
                self.stores[name] = self.make_store(name)
        self.task = Task(self.plan, self.sub, 0, self.stores)
        self.task.share_caches(1)
        changelogs: Mapping[str, int] = {}
        for place in self.task.places:
            offset, metadata = self.commits.get(place, (0, None))
            changelogs = self.task.resume(place, metadata, offset).changelogs or changelogs
        for name in self.task.stores:
            topic = self.sub.changelog(name)
            with self.stores[name].loading() if in_bulk else nullcontext():
                self.task.restore(name, self.log.partitions(topic)[0], changelogs.get(topic, 0))
        self.task.start()
        self.uncommitted: dict[str, list[Any]] = defaultdict(list)
        reached = {place[0]: offset for place, (offset, _) in self.commits.items()}
        undone = (n for n in range(len(self.slices)) if not self._is_done(n, reached))
        self.at = next(undone, len(self.slices))
        self.now_ms = self.at * 1_000

    def _is_done(self, number: int, reached: Mapping[str, int]) -> bool:
        topic, records = self.slices[number]
        return reached.get(topic, 0) >= self.starts[number].get(topic, 0) + len(records)

    def step(self) -> bool:
        """A slice, or a portion of what is due. False: nothing is left to do."""
        if self.task.behind:
            self._take(self.task.follow(self.now_ms))
            return True
        if self.at == len(self.slices):
            return False
        topic, records = self.slices[self.at]
        start = self.starts[self.at].get(topic, 0)
        self.at += 1
        self.now_ms = self.at * 1_000
        batch = [
            StoredRecord((topic, 0, start + n), (key, value), ts)
            for n, (key, value, ts) in enumerate(records)
        ]
        self._take(self.task.process(Batch(topic, 0, batch), self.now_ms))
        return True

    def end(self, at_ms: int = 10**12) -> dict[str, list[Any]]:
        """Whatever event time makes; everything told."""
        self._take(self.task.advance_to(at_ms, self.now_ms))
        while self.task.behind:
            self._take(self.task.follow(self.now_ms))
        self.commit()
        return dict(self.told)

    def _take(self, output: Any) -> None:
        assert output.failure is None, output.failure
        for topic, records in output.sinks.items():
            self.uncommitted[topic] += [(value, key, time) for value, key, time, *_ in records]

    def close(self) -> None:
        for store in self.stores.values():
            store.close()

    def commit(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """`meanwhile`: what is done before the commit is acknowledged; not told by it."""
        told, self.uncommitted = self.uncommitted, defaultdict(list)
        checkpoint = self.task.checkpoint(self.now_ms)
        meanwhile()
        for topic, records in checkpoint.changelog.items():
            for record in records:
                self.log.append(topic, record)
        changelogs = map(self.sub.changelog, self.task.stores)
        positions = {topic: len(self.log.partitions(topic)[0]) for topic in changelogs}
        for place, offset in checkpoint.offsets.items():
            self.commits[place] = offset, checkpoint.metadata(place, positions)
        self.task.committed(checkpoint, positions)
        for topic, some in told.items():
            self.told[topic] += some

    def run(self, rng: random.Random, *, deaths: float = 0.1, at_ms: int = 10**12) -> dict[str, list[Any]]:
        """To the end, through commits, deaths and lost disks."""
        while self.step():
            chance = rng.random()
            if chance < 0.3:
                self.commit()
            elif chance < 0.5:
                self.commit(self.step)
            elif chance < 0.5 + deaths:
                self.born()
            elif chance < 0.5 + 1.2 * deaths:
                self.born(anew=True)
        return self.end(at_ms)


def undisturbed(app: sk.App, slices: Sequence[Slice], at_ms: int = 10**12) -> dict[str, list[Any]]:
    """One life, in memory, one commit."""
    life = Lives(app, slices)
    while life.step():
        pass
    return life.end(at_ms)
