"""Windows of which most is only stored: the same results in the same order, whatever is let go and when.

What closes is told in portions; a worker may commit between two of them, die, and another goes on.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

import streamkit as sk
from streamkit.processing.state.memory import MemoryStore
from streamkit.processing.state.store import Store
from streamkit.processing.tasks.inflight import Place
from streamkit.processing.tasks.task import Batch, Task
from streamkit.processing.testing import Log, StoredRecord
from streamkit.processing.worker.rocksdb import StateDirectory
from tests.processing.conftest import SpillingStore

PLACE = ("in", 0)
Records = list[tuple[str, int, int]]  # key, number, event time in ms
WINDOWS: dict[str, tuple[Any, Any]] = {
    "tumbling": (sk.tumbling("10s", grace="5s"), "on_close"),
    "tumbling, told every 4 s": (sk.tumbling("10s", grace="5s"), sk.every("4s")),
    "tumbling, told at once": (sk.tumbling("10s", grace="5s"), "on_update"),
    "hopping": (sk.hopping("10s", "4s", grace="5s"), "on_close"),
    "hopping, told at once": (sk.hopping("10s", "4s", grace="5s"), "on_update"),
    "sliding": (sk.sliding("10s", grace="5s"), "on_close"),
    "session": (sk.session("3s", grace="5s"), "on_close"),
    "session, told every 4 s": (sk.session("3s", grace="5s"), sk.every("4s")),
    "session, told at once": (sk.session("3s", grace="5s"), "on_update"),
    "count": (sk.count_window(3), "on_close"),
}


SPELLED = [sk.tumbling("10s"), sk.hopping("10s", "5s"), sk.count_window(3), sk.session("10s")]


class Workers:
    """One task after another over one log; each step of theirs can be the last. Stores that do not spill are
    lost with their worker.
    """

    def __init__(self, window: Any, emit: Any, make_store: Callable[[], Store], **more: Any) -> None:
        self.make_store = make_store
        app = sk.App("large")
        stream = app.stream(app.topic("in", key=str, value=int, partitions=1))
        results = stream.window(window).aggregate(n=sk.Count(), sum=sk.Sum(), all=sk.Last(), emit=emit)
        results.late.to("late")
        results.to("out")
        if more.get("again"):
            results.window(more["again"]).aggregate(sum=sk.Sum("sum")).to("again")
        self.plan = app.topology().plan({})
        self.log = Log({})
        self.out: dict[str, list[Any]] = {"out": [], "late": [], "again": []}
        self.commit_of: tuple[int, str] = (0, "")
        self.input: list[StoredRecord] = []
        self.stores: dict[str, Store] = {name: make_store() for name in self.plan.subtopologies[0].stores}
        self.start()

    def start(self) -> None:
        if not any(store.spills for store in self.stores.values()):
            self.stores = {name: self.make_store() for name in self.stores}
        self.task = Task(self.plan, self.plan.subtopologies[0], 0, self.stores)
        self.task.share_caches(1)
        offset, metadata = self.commit_of
        committed = self.task.resume(PLACE, metadata, offset)
        for name in self.task.stores:
            topic = self.task.sub.changelog(name)
            self.task.restore(name, self.log.partitions(topic)[0], committed.changelogs.get(topic, 0))
        self.task.start()
        self.uncommitted: dict[str, list[Any]] = {"out": [], "late": [], "again": []}

    def add(self, records: Records) -> None:
        for key, number, ts in records:
            data = (key.encode(), b"%d" % number)
            self.input.append(StoredRecord((*PLACE, len(self.input)), data, ts))

    def step(self) -> bool:
        """A slice, or a portion of what is due. False: nothing is left to do."""
        at = self.task.position(PLACE)
        if not self.task.behind and at == len(self.input):
            return False
        self.take(self.task.process(Batch(*PLACE, self.input[at : at + 20]), 0))
        return True

    def close_all(self) -> None:
        self.take(self.task.advance_to(10**9, 0))
        while self.task.behind:
            self.take(self.task.follow(0))
        self.commit()

    def take(self, output: Any) -> None:
        assert output.failure is None
        for topic, records in output.sinks.items():
            self.uncommitted[topic] += [(value, key, time) for value, key, time, *_ in records]

    def commit(self) -> None:
        """As under exactly-once: what was told becomes visible."""
        checkpoint = self.task.checkpoint(0)
        for topic, records in checkpoint.changelog.items():
            for record in records:
                self.log.append(topic, record)
        positions = {topic: len(self.log.partitions(topic)[0]) for topic in self.changelogs}
        place: Place = PLACE
        self.commit_of = checkpoint.offsets[place], checkpoint.metadata(place, positions)
        self.task.committed(checkpoint, positions)
        for topic, told in self.uncommitted.items():
            self.out[topic] += told
            told.clear()

    @property
    def changelogs(self) -> list[str]:
        return [self.task.sub.changelog(name) for name in self.task.stores]


def disordered(seed: int, keys: int = 30, count: int = 400) -> Records:
    rng = random.Random(seed)
    return [
        (f"k{rng.randrange(keys)}", n, round(max(0.0, n * 0.2 + rng.uniform(-12, 1)) * 1000))
        for n in range(count)
    ]


def undisturbed(window: Any, emit: Any, records: Records, **more: Any) -> dict[str, list[Any]]:
    """In memory, one worker, one commit."""
    workers = Workers(window, emit, MemoryStore, **more)
    workers.add(records)
    while workers.step():
        pass
    workers.close_all()
    return workers.out


@pytest.mark.usefixtures("spilling")
@pytest.mark.parametrize("kind", WINDOWS)
def test_p15_the_same_results_in_the_same_order(kind: str) -> None:
    window, emit = WINDOWS[kind]
    records, rng = disordered(1), random.Random(1)
    workers = Workers(window, emit, SpillingStore)
    workers.add(records)
    while workers.step():
        if rng.random() < 0.4:
            workers.commit()
            assert workers.task.cached <= 60
    workers.close_all()
    assert workers.out == undisturbed(window, emit, records)
    assert all(len(store) == 0 for store in workers.stores.values()) or kind == "count"


@pytest.mark.usefixtures("spilling")
@pytest.mark.parametrize("make_store", [SpillingStore, MemoryStore])
@pytest.mark.parametrize("kind", ["tumbling", "hopping", "sliding", "session"])
def test_p18_workers_die_between_portions(kind: str, make_store: Callable[[], Store]) -> None:
    window, emit = WINDOWS[kind]
    records, rng = disordered(2), random.Random(2)
    answer = undisturbed(window, emit, records, again=sk.tumbling("20s"))
    died_behind = 0
    workers = Workers(window, emit, make_store, again=sk.tumbling("20s"))
    workers.add(records)
    while workers.step():
        if rng.random() < 0.5:
            workers.commit()
        if rng.random() < 0.2:
            died_behind += workers.task.behind
            workers.start()
    workers.close_all()
    assert workers.out == answer
    assert answer["again"] and (answer["late"] or kind == "sliding")
    assert died_behind > 3


@pytest.mark.usefixtures("spilling")
@pytest.mark.parametrize("lost", [False, True])
def test_hopping_windows_half_told_on_disk_go_on_in_memory(lost: bool) -> None:
    """The state directory is given up, or lost, between two portions of a window."""
    window, emit = WINDOWS["hopping"]
    records = disordered(3)
    workers = Workers(window, emit, SpillingStore)
    workers.add(records)
    portions = 0
    while workers.step():
        workers.commit()
        portions += workers.task.behind
        if portions == 5:
            workers.make_store = SpillingStore if lost else MemoryStore
            workers.stores = {name: workers.make_store() for name in workers.stores}
            workers.start()
            portions += 1
    workers.close_all()
    assert workers.out == undisturbed(window, emit, records)
    assert all(len(store) == 0 for store in workers.stores.values())


@pytest.mark.usefixtures("spilling")
@pytest.mark.parametrize("kind", ["tumbling", "hopping", "sliding", "session", "count"])
def test_p27_in_rocksdb(kind: str, tmp_path: Path) -> None:
    window, emit = WINDOWS[kind]
    state = StateDirectory(tmp_path, "large", 0)
    names = iter(range(10))
    records = disordered(4)
    workers = Workers(window, emit, lambda: state.stores([f"s{next(names)}"], 0).popitem()[1])
    workers.add(records)
    while workers.step():
        workers.commit()
    workers.close_all()
    assert workers.out == undisturbed(window, emit, records)
    for store in workers.stores.values():
        store.close()
    state.close()


@pytest.mark.usefixtures("spilling")
def test_one_reading_for_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(*WINDOWS["tumbling"], SpillingStore)
    workers.add([(f"k{n}", n, 1_000) for n in range(20)])
    workers.step()
    workers.commit()
    [store] = workers.stores.values()
    readings: list[int] = []
    assert workers.task.cached == 1
    monkeypatch.setattr(store, "get", lambda key: pytest.fail("one by one"))
    many = store.get_many
    monkeypatch.setattr(store, "get_many", lambda keys: readings.append(len(keys)) or many(keys))
    workers.add([(f"k{n}", n, 2_000) for n in range(10, 30)])
    workers.step()
    workers.add([(f"k{n}", n, 3_000) for n in range(10, 30)])
    workers.step()
    assert readings == [19]


@pytest.mark.usefixtures("spilling")
@pytest.mark.parametrize("window", SPELLED)
def test_keys_that_others_write_in_other_words(window: Any) -> None:
    """JSON has many spellings of a key, the store has one."""
    app = sk.App("spelled")
    stream = app.stream(app.topic("in", key=tuple, value=int, partitions=1))
    stream.window(window).aggregate(n=sk.Count(), emit="on_update").to("out")
    plan = app.topology().plan({})
    task = Task(
        plan, plan.subtopologies[0], 0, {name: SpillingStore() for name in plan.subtopologies[0].stores}
    )
    task.share_caches(1)
    task.resume(PLACE, None, 0)
    task.start()
    counts = []
    for offset, key in enumerate((b'["a",1]', b'["b",1]', b'["c",1]', b'["d",1]', b'["a", 1]')):
        out = task.process(Batch(*PLACE, [StoredRecord((*PLACE, offset), (key, b"1"), 5_000 + offset)]), 0)
        counts = [orjson.loads(value)["n"] for value, *_ in out.sinks["out"]]
        task.committed(task.checkpoint(0), {})
    assert set(counts) == {2}
