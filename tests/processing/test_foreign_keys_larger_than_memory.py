"""Results and subscriptions of which most are only stored: as if they were in memory."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.processing.serde import STR, value_serde
from streamkit.processing.state.foreign_keys import (
    Answer,
    Results,
    Subscription,
    Subscriptions,
    decode_answer,
    encode,
)
from streamkit.processing.state.memory import MemoryStore
from streamkit.processing.state.rows import Rows
from streamkit.processing.state.store import Store
from streamkit.processing.state.stored_results import GoneIndex, StoredResults
from tests.processing.conftest import SpillingStore
from tests.processing.lives import on_disk

INT = value_serde(int)


class Tables:
    """A table on disk, and one in memory that never dies; it is taken back to the last commit by a copy."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.model = Results(STR, INT, MemoryStore())
        self.watermark_ms = self.committed_ms = 0
        self.begin()
        self.remember()

    def begin(self) -> None:
        self.table = StoredResults(STR, INT, self.store)
        self.table.cached_most = 1
        self.table.load(self.committed_ms)

    def remember(self) -> None:
        self.committed = (dict(self.model._known), list(self.model._gone))
        self.committed_ms = self.watermark_ms

    def roll_back(self) -> None:
        self.begin()
        self.model._known, self.model._gone = dict(self.committed[0]), list(self.committed[1])
        self.watermark_ms = self.committed_ms

    def answer(self, key: str, version: int, result: int | None, time_ms: int) -> None:
        answer = Answer(version, None if result is None else INT.encode(result))
        assert self.table.is_current(key, answer) == self.model.is_current(key, answer)
        assert self.table.get(key) == self.model.get(key)
        if self.model.is_current(key, answer):
            for table in (self.table, self.model):
                table.keep(key, answer, table.result(answer), time_ms)

    def advance(self, watermark_ms: int) -> None:
        """What an older answer is kept away by, is forgotten at the same watermark."""
        self.watermark_ms = max(self.watermark_ms, watermark_ms)
        for table in (self.table, self.model):
            for _ in table.advance(self.watermark_ms, 0):
                pass

    def commit(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        changes = self.table.changes()
        self.remember()
        meanwhile()
        self.store.write(changes, self.store.position + 1)
        self.table.written()


def play(store: Store, rng: random.Random, steps: int) -> None:
    tables, now = Tables(store), 0

    def step() -> None:
        nonlocal now
        now += rng.randrange(4)
        key, result = f"k{rng.randrange(6)}", rng.choice([None, None, 1, 2])
        tables.answer(key, max(0, now - rng.randrange(12)), result, now)
        if rng.random() < 0.3:
            tables.advance(now - rng.randrange(10))

    for _ in range(steps):
        step()
        chance = rng.random()
        if chance < 0.25:
            tables.commit()
        elif chance < 0.4:
            tables.commit(step)
        elif chance < 0.5:
            tables.roll_back()
    for key in (f"k{n}" for n in range(6)):
        assert tables.table.get(key) == tables.model.get(key)
    tables.advance(now + 1)
    tables.commit()
    tables.commit()
    assert all(decode_answer(value).result is not None for _, value in store.items())
    if store.find(b"", None, 1):
        tables.begin()
        tables.advance(now + 2)
        tables.table.keep("end", Answer(1, b"1"), 1, now)
        tables.commit()
        assert store.find(b"", None, 9) == []


@pytest.mark.usefixtures("spilling")
def test_results_as_in_memory() -> None:
    for seed in range(20):
        play(SpillingStore(), random.Random(seed), 60)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1 << 30))
def test_p26_results_in_rocksdb(seed: int) -> None:
    with on_disk() as make_store:
        store = make_store("results")
        play(store, random.Random(seed), 80)
        store.close()


def test_p24_when_a_result_went_stands_in_no_changelog() -> None:
    """After a restore it is forgotten once the watermark moves."""
    before = StoredResults(STR, INT, SpillingStore())
    before.load(5)
    before.keep("a", Answer(3, None), None, 9)
    changes, restored = before.changes(), SpillingStore()
    after = StoredResults(STR, INT, restored)
    restored.write(changes, 1)
    after.load(5)
    for watermark_ms, forgotten in ((5, False), (6, True)):
        assert not list(after.advance(watermark_ms, 0))
        assert after.is_current("a", Answer(2, b"1")) == forgotten


def test_a_copy_keeps_no_names_of_what_its_task_forgot() -> None:
    copy = SpillingStore()
    copy.keep_index(GoneIndex())
    for number in range(5):
        copy.write([(b"k%d" % number, encode(Answer(number, None)))], 2 * number + 1)
        assert len(copy.find(b"", None, 9)) == 1
        copy.write([(b"k%d" % number, None)], 2 * number + 2)
    assert copy.find(b"", None, 9) == []


class Pointing:
    """Subscriptions on disk and in memory."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.both = _subscriptions(SpillingStore()), _subscriptions(MemoryStore())
        self.rows = Rows(STR, STR, MemoryStore())

    def step(self) -> None:
        rng = self.rng
        parent, left = f"p{rng.randrange(5)}", b"l%d" % rng.randrange(5)
        said = Subscription(left, rng.randrange(9), rng.choice([None, b"x"]), True, True)
        if rng.random() < 0.5:
            told = [some.subscribed(parent.encode(), said, self.rows) for some in self.both]
        else:
            told = [some.changed(parent, "row") for some in self.both]
        assert told[0] == told[1]

    def commit(self) -> None:
        changes = [some.changes() for some in self.both]
        assert changes[0] == changes[1]
        if self.rng.random() < 0.5:
            self.step()
        for some, changed in zip(self.both, changes, strict=True):
            some.store.write(changed, some.store.position + 1)
            some.written()
        assert self.both[0].cached <= 1


def _subscriptions(store: Store) -> Subscriptions:
    state = Subscriptions(lambda left, right: f"{left} {right}", STR, STR, store)
    state.encode_result = STR.encode
    state.cached_most = 0
    return state


def test_subscriptions_as_in_memory() -> None:
    """Those that change while a commit waits for its acknowledgements, too."""
    for seed in range(10):
        pointing = Pointing(random.Random(seed))
        for _ in range(100):
            pointing.step()
            if pointing.rng.random() < 0.4:
                pointing.commit()
