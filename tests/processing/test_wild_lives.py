"""A task whose state moves about: on disk, in memory, loaded in bulk, taken over from a standby copy.

It keeps next to nothing decoded, commits, dies and is rolled back at any step, and tells what an undisturbed
one tells.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest

import streamkit as sk
from streamkit.processing.state import changelog
from streamkit.processing.state.memory import MemoryStore
from streamkit.processing.state.store import Change, Store
from streamkit.processing.tasks.checkpoint import CommitMetadata
from tests.processing.conftest import SpillingStore
from tests.processing.lives import Lives, Slice, on_disk, undisturbed

END_MS = 10**14
KEYS = (b"a", b"ab", b"a\0", b"a\0b", b"", b"\0", b"\xff", b"\xff\xff", b"a\0\xff", b"told", "ü".encode())


class LoadedStore(SpillingStore):
    """One that is not read while it is loaded, as those on disk are not."""

    def __init__(self) -> None:
        super().__init__()
        self._is_loading = False

    @contextmanager
    def loading(self) -> Iterator[None]:
        self._is_loading = True
        yield
        self._is_loading = False

    def write(self, changes: Any, position: int) -> None:
        latest: dict[bytes, bytes | None] = dict(changes)
        stored = None if self._is_loading else self.get_many
        names: list[Change] = [] if self._index is None else list(self._index.changes(latest, stored))
        for entries, changed in ((self._names, names), (self._entries, latest.items())):
            for key, value in changed:
                entries.pop(key, None)
                if value is not None:
                    entries[key] = value
        self.position = position


class WildLives(Lives):
    """Besides its stores there are those of a copy."""

    def __init__(
        self, app: sk.App, slices: list[Slice], make_store: Callable[[str], Store], rng: Any
    ) -> None:
        self.rng = rng
        self.copy: dict[str, Store] = {}
        super().__init__(app, slices, make_store)

    def born(self, *, anew: bool = False, in_bulk: bool = False) -> None:
        if anew and self.rng.random() < 0.5:
            self._follow(self.copy)
            self.stores, self.copy = self.copy, self.stores
        if anew or not self.copy:
            for store in self.copy.values():
                store.close()
            self.copy = self._fresh()
        if anew and self.rng.random() < 0.4:
            self.stores, self.copy = self.copy, self.stores
            for store in self.stores.values():
                with store.loading():
                    self._follow(self.stores)
            for store in self.copy.values():
                store.close()
            self.copy = self._fresh()
        super().born(in_bulk=in_bulk)
        if self.rng.random() < 0.5:
            self._follow(self.copy)

    def close(self) -> None:
        super().close()
        for store in self.copy.values():
            store.close()

    def _fresh(self) -> dict[str, Store]:
        stores = {name: self.make_store(name) for name in self.sub.stores}
        for node in self.sub.stateful:
            if stores[node.name].spills and (index := node.make_index()) is not None:
                stores[node.name].keep_index(index)
        return stores

    def _follow(self, stores: dict[str, Store]) -> None:
        """What is committed, a few rows at a time."""
        ends: dict[str, int] = {}
        for _, metadata in self.commits.values():
            ends |= CommitMetadata.decode(metadata).changelogs
        for name, store in stores.items():
            topic = self.sub.changelog(name)
            end, rows = ends.get(topic, 0), self.log.partitions(topic)[0]
            for start in range(store.position, end, 3):
                changelog.apply(store, rows[start : start + 3], end)


def windowed(window: Any, emit: Any = "on_close") -> Callable[[], sk.App]:
    def build() -> sk.App:
        app = sk.App("wild")
        stream = app.stream(app.topic("in", key=bytes, value=int, partitions=1))
        results = stream.window(window).aggregate(emit=emit, n=sk.Count(), all=sk.Collect())
        results.to("out")
        results.late.to("late")
        return app

    return build


def once() -> sk.App:
    app = sk.App("wild")
    stream = app.stream(app.topic("in", key=bytes, value=int, partitions=1))
    stream.deduplicate("5s", by=lambda v: v % 7).to("out")
    return app


def joined() -> sk.App:
    app = sk.App("wild")
    left, right = (
        app.stream(app.topic(name, key=bytes, value=int, partitions=1)) for name in ("in", "right")
    )
    pairs = left.join(right, lambda a, b: [a, b], how="outer", within="3s", grace="2s")
    pairs.to("out")
    pairs.late.to("late")
    return app


def reminded() -> sk.App:
    app = sk.App("wild")

    def remind(value: int, context: sk.Context[bytes, list[int]]) -> list[Any]:
        context.state = None if value % 11 == 0 else [*(context.state or []), value][-3:]
        name = ("a", "b", "", "ü\0")[value % 4]
        if value % 5:
            context.set_timer((context.time_ms + value * 500 % 9_000 - 2_000) / 1000, name=name)
        else:
            context.cancel_timer(name)
        return [value]

    def tell(context: sk.Context[bytes, list[int]]) -> list[Any]:
        if context.timer == "a":
            context.set_timer(context.time_ms / 1000, name="b")
        return [[context.timer, context.time_ms, context.state]]

    stream = app.stream(app.topic("in", key=bytes, value=int, partitions=1))
    stream.process(remind, state=list[int], on_timer=tell).to("out")
    return app


APPS: dict[str, Callable[[], sk.App]] = {
    "tumbling": windowed(sk.tumbling("4s", grace="2s")),
    "hopping": windowed(sk.hopping("4s", "1500ms", grace="2s")),
    "sliding": windowed(sk.sliding("4s", grace="2s")),
    "sessions": windowed(sk.session("1s", grace="2s")),
    "sessions at once": windowed(sk.session("1s"), "on_update"),
    "once": once,
    "join": joined,
    "process": reminded,
}


def disordered(rng: random.Random, topics: list[str]) -> list[Slice]:
    """Event times before 1970 or of today, that jump now and then; equal ones, too."""
    keys, now = rng.sample(KEYS, rng.randrange(1, len(KEYS))), rng.choice([-20_000, 0, 1_700_000_000_000])
    late_ms, grid_ms, number = rng.choice([1, 1_000, 7_000]), rng.choice([1, 250, 1_000]), count()
    found: list[Slice] = []
    for _ in range(20):
        now += rng.choice([300, 900, 2_500, 2_500, 60_000])
        times = (
            now + rng.randrange(-late_ms, 1_000) // grid_ms * grid_ms for _ in range(rng.randrange(1, 8))
        )
        found.append((rng.choice(topics), [(rng.choice(keys), b"%d" % next(number), ms) for ms in times]))
    return found


def lived(kind: str, seed: int, make_store: Callable[[str], Store]) -> None:
    rng = random.Random(seed)
    slices = disordered(rng, ["in", "right"] if kind == "join" else ["in"])
    slices += [("right", [(b"a", b"0", slices[-1][1][0][2])])] if kind == "join" else []
    lives = WildLives(APPS[kind](), slices, make_store, rng)
    told = lives.run(rng, deaths=0.3, at_ms=END_MS)
    assert told == undisturbed(APPS[kind](), slices, END_MS), seed
    lives.close()


@pytest.mark.usefixtures("spilling")
@pytest.mark.parametrize("kind", APPS)
def test_p26_as_if_nothing_had_happened(kind: str) -> None:
    for seed in range(2):
        lived(kind, seed, lambda _: LoadedStore())
    rng = random.Random(3)
    lived(kind, 3, lambda _: MemoryStore() if rng.random() < 0.4 else LoadedStore())


@pytest.mark.usefixtures("spilling")
@pytest.mark.parametrize("kind", ["sessions", "join"])
def test_p26_in_rocksdb(kind: str) -> None:
    with on_disk() as make_store:
        lived(kind, 4, make_store)
