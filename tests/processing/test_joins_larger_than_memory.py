"""Stream joins of which most is only stored: the same results in the same order, whatever is let go."""

from __future__ import annotations

import random
from itertools import count
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamkit as sk
from streamkit.processing.state.stored_joins import StoredJoinBuffers
from tests.processing.conftest import keep_little
from tests.processing.lives import Lives, MakeStore, Slice, in_memory, on_disk, spilling, undisturbed

How = Literal["inner", "left", "outer"]


def joined(how: How) -> sk.App:
    app = sk.App("large-join")
    left, right = (
        app.stream(app.topic(name, key=str, value=int, partitions=1)) for name in ("left", "right")
    )
    pairs = left.join(right, lambda a, b: [a, b], how=how, within="3s", grace="2s")
    pairs.to("out")
    pairs.late.to("late")
    return app


def disordered(seed: int, slices: int = 60, keys: int = 4, start_ms: int = -20_000) -> list[Slice]:
    """Event times before 1970, too."""
    rng, number = random.Random(seed), count()
    found: list[Slice] = []
    for n in range(slices):
        now = start_ms + n * 1_000
        records = [
            (b"k%d" % rng.randrange(keys), b"%d" % next(number), now + rng.randrange(-6_000, 1_000, 500))
            for _ in range(rng.randrange(1, 6))
        ]
        found.append((rng.choice(["left", "right"]), records))
    return found


@pytest.mark.usefixtures("spilling")
@pytest.mark.parametrize("how", ["inner", "left", "outer"])
def test_the_same_results_in_the_same_order(how: How) -> None:
    for seed in range(3):
        slices = disordered(seed)
        answer = undisturbed(joined(how), slices)
        lives = Lives(joined(how), slices, spilling)
        assert lives.run(random.Random(seed)) == answer
        assert answer["out"] and answer["late"]
        assert [len(store) for store in lives.stores.values()] == [0]


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1 << 30), how=st.sampled_from(["inner", "left", "outer"]), keys=st.integers(1, 20))
def test_p26_as_in_memory_through_restarts_and_rollbacks(seed: int, how: How, keys: int) -> None:
    """In RocksDB, with all that a worker keeps."""
    slices = disordered(seed, slices=20, keys=keys)
    with pytest.MonkeyPatch.context() as patched, on_disk() as make_store:
        keep_little(patched)
        lives = Lives(joined(how), slices, make_store)
        assert lives.run(random.Random(seed)) == undisturbed(joined(how), slices)
        lives.close()


@pytest.mark.usefixtures("spilling")
def test_p19_next_to_nothing_is_in_memory() -> None:
    """A thousand keys wait; what a commit leaves in memory is what was touched since it began."""
    slices: list[Slice] = [("left", [(b"k%d" % n, b"1", n * 10)]) for n in range(1_000)]
    slices.append(("right", [(b"k%d" % n, b"2", 9_990) for n in (999, 700, 0, 995)]))
    lives = Lives(joined("left"), slices, spilling)
    while lives.step():
        lives.commit()
        assert lives.task.cached == 0
    [(_, state)] = lives.task._parts.states.items()
    assert isinstance(state, StoredJoinBuffers) and len(state.store) > 700
    assert [value for value, *_ in lives.told["out"]].count(b"[1,2]") == 3


@pytest.mark.usefixtures("spilling")
@pytest.mark.parametrize(
    ("first", "then"), [(spilling, in_memory), (in_memory, spilling), (spilling, spilling)]
)
def test_the_changelog_is_the_same(first: MakeStore, then: MakeStore) -> None:
    """Half of the input in one kind of store, the other half in another."""
    slices = disordered(7)
    lives = Lives(joined("outer"), slices, first)
    for _ in range(30):
        lives.step()
    lives.commit()
    lives.make_store = then
    lives.born(anew=True)
    assert lives.run(random.Random(7)) == undisturbed(joined("outer"), slices)


@pytest.mark.usefixtures("spilling")
def test_what_left_is_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    slices: list[Slice] = [("left", [(b"k", b"1", n * 1_000)]) for n in range(50)]
    lives = Lives(joined("left"), slices, spilling)
    [store] = lives.stores.values()
    found: list[int] = []
    reading = store.range
    monkeypatch.setattr(store, "range", lambda *span: found.append(1) or reading(*span))
    while lives.step():
        lives.commit()
        lives.task.tick(0)
        lives.task.tick(0)
    assert len(found) <= 4 * len(slices), "ticks read nothing"


def test_nothing_is_looked_for_where_nothing_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is looked up once. As time goes on its partners to be are those in memory."""
    slices: list[Slice] = [(side, [(b"k", b"1", n * 100)]) for n in range(100) for side in ("left", "right")]
    lives = Lives(joined("left"), slices, spilling)
    for _ in range(20):
        lives.step()
    lives.commit()
    lives.born()
    [store] = lives.stores.values()
    found: list[int] = []
    finding = store.find
    monkeypatch.setattr(store, "find", lambda *span: found.append(1) or finding(*span))
    while lives.step():
        pass
    assert len(found) <= 2
    assert lives.end() == undisturbed(joined("left"), slices)
