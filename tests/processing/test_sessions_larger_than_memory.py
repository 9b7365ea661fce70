"""Sessions, sliding windows and `deduplicate`, of which most is only stored: the same results in the same
order, whatever is let go, whenever a worker dies or is rolled back.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamkit as sk
from streamkit.processing.state.memory import MemoryStore
from streamkit.processing.state.store import Store
from tests.processing.conftest import SpillingStore, keep_little
from tests.processing.lives import Lives, Slice, in_memory, on_disk, undisturbed


def windowed(window: Any, emit: Any) -> Callable[[], sk.App]:
    def build() -> sk.App:
        app = sk.App("large-windows")
        stream = app.stream(app.topic("in", key=str, value=int, partitions=1))
        results = stream.window(window).aggregate(emit=emit, n=sk.Count(), sum=sk.Sum(), all=sk.Collect())
        results.to("out")
        results.late.to("late")
        return app

    return build


def once(by: Callable[[Any], Any] | None) -> Callable[[], sk.App]:
    def build() -> sk.App:
        app = sk.App("large-once")
        stream = app.stream(app.topic("in", key=str, value=int, partitions=1))
        stream.deduplicate("5s", by=by).to("out")
        return app

    return build


APPS: dict[str, Callable[[], sk.App]] = {
    "sliding": windowed(sk.sliding("4s", grace="2s"), "on_close"),
    "sessions": windowed(sk.session("1s", grace="2s"), "on_close"),
    "sessions at once": windowed(sk.session("1s", grace="2s"), "on_update"),
    "sessions every 3 s": windowed(sk.session("1s", grace="2s"), sk.every("3s")),
    "once by key": once(None),
    "once by value": once(lambda v: v % 7),
}


def disordered(seed: int, slices: int = 60, keys: int = 6) -> list[Slice]:
    """Event times before 1970, too; keys that begin with others, and with what separates names."""
    rng, number = random.Random(seed), iter(range(10_000))
    names = [b"a", b"ab", b"a\0", b"a\0b", b"", *(b"k%d" % n for n in range(keys))][:keys]
    found: list[Slice] = []
    for n in range(slices):
        now = -20_000 + n * 900
        records = [
            (rng.choice(names), b"%d" % next(number), now + rng.randrange(-7_000, 1_000, 250))
            for _ in range(rng.randrange(1, 6))
        ]
        found.append(("in", records))
    return found


@pytest.mark.usefixtures("spilling")
@pytest.mark.parametrize("kind", APPS)
def test_p15_the_same_results_in_the_same_order(kind: str) -> None:
    for seed in range(3):
        slices = disordered(seed)
        lives = Lives(APPS[kind](), slices, lambda _: SpillingStore())
        answer = undisturbed(APPS[kind](), slices)
        assert lives.run(random.Random(seed), deaths=0 if "every" in kind else 0.1) == answer
        assert answer["out"] and (answer.get("late") or "once" in kind)
        assert [len(store) for store in lives.stores.values()] == [0]


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 1 << 30), kind=st.sampled_from(sorted(APPS)), keys=st.integers(1, 20))
def test_p26_as_in_memory_through_restarts_and_rollbacks(seed: int, kind: str, keys: int) -> None:
    """In RocksDB, with all that a worker keeps."""
    slices = disordered(seed, slices=20, keys=keys)
    with pytest.MonkeyPatch.context() as patched, on_disk() as make_store:
        keep_little(patched)
        lives = Lives(APPS[kind](), slices, make_store)
        deaths = 0 if "every" in kind else 0.1
        assert lives.run(random.Random(seed), deaths=deaths) == undisturbed(APPS[kind](), slices)
        lives.close()


def same_changelog(kind: str, slices: list[Slice], make_store: Callable[[str], Store]) -> list[Any]:
    lives = Lives(APPS[kind](), slices, make_store)
    while lives.step():
        while lives.task.behind:
            lives.step()
        lives.commit()
    [store] = lives.task.stores
    topic = lives.sub.changelog(store)
    return [{r.key(): r.value() for r in lives.log.partitions(topic)[0]}, dict(lives.stores[store].items())]


@pytest.mark.usefixtures("spilling")
@pytest.mark.parametrize("kind", APPS)
def test_changelogs_say_the_same(kind: str) -> None:
    """Those of memory are read on disk, and the other way round."""
    slices = disordered(5)
    stored = same_changelog(kind, slices, lambda _: SpillingStore())
    assert stored == same_changelog(kind, slices, in_memory)
    assert stored[1]


@pytest.mark.usefixtures("spilling")
@pytest.mark.parametrize("onto", ["disk", "another disk", "memory"])
@pytest.mark.parametrize("kind", ["sliding", "sessions", "once by value"])
def test_p27_another_place_for_the_state(kind: str, onto: str) -> None:
    """Half told, too: what was told before the commit is not told again."""
    slices = disordered(7)
    begun: Callable[[str], Store] = in_memory if onto == "disk" else lambda _: SpillingStore()
    lives = Lives(APPS[kind](), slices, begun)
    behind = 0
    while lives.at < len(slices) and behind < 5:
        lives.step()
        behind += lives.task.behind
        if lives.at > 30:
            lives.commit()
    lives.make_store = in_memory if onto == "memory" else lambda _: SpillingStore()
    lives.born(anew=True)
    assert isinstance(lives.stores.popitem()[1], MemoryStore if onto == "memory" else SpillingStore)
    lives.stores = dict(lives.task.stores)
    assert lives.run(random.Random(7)) == undisturbed(APPS[kind](), slices)


@pytest.mark.usefixtures("spilling")
@pytest.mark.parametrize("kind", ["sliding", "sessions", "once by key"])
def test_p19_next_to_nothing_is_in_memory(kind: str) -> None:
    """A thousand keys are open; what a commit leaves in memory is what was touched since it began."""
    slices: list[Slice] = [("in", [(b"k%d" % n, b"1", n)]) for n in range(1_000)]
    slices += [("in", [(b"k%d" % n, b"2", 1_000) for n in (999, 700, 0, 995)])]
    with on_disk() as make_store:
        lives = Lives(APPS[kind](), slices, make_store)
        [state] = lives.task._parts.states.values()
        while lives.step():
            lives.commit()
            assert lives.task.cached <= 4
            assert sum(len(kept) for kept in vars(state).values() if isinstance(kept, dict | list)) <= 20
        assert len(state.store) >= 1_000  # type: ignore[arg-type]
        assert len(lives.end()["out"]) == (1_004 if kind == "sliding" else 1_000)
        lives.close()


@pytest.mark.usefixtures("spilling")
@pytest.mark.parametrize("kind", APPS)
def test_p27_a_changelog_that_is_loaded(kind: str) -> None:
    """In bulk, rows that were written over among them."""
    slices = disordered(9)
    with on_disk() as make_store:
        lives = Lives(APPS[kind](), slices, in_memory)
        for _ in range(40):
            lives.step()
            lives.commit()
        lives.make_store = make_store
        lives.born(anew=True, in_bulk=True)
        answer = lives.run(random.Random(9), deaths=0)
        assert answer == undisturbed(APPS[kind](), slices) or "every" in kind
        assert [list(store.items()) for store in lives.stores.values()] == [[]]
        lives.close()


@pytest.mark.usefixtures("spilling")
@pytest.mark.parametrize("kind", ["sliding", "sessions", "once by value"])
def test_expiry_reads_what_is_over_and_little_more(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand keys wait while one moves on: what is read does not grow with those that wait."""
    read: list[int] = []
    for method in ("find", "range"):
        whole = getattr(SpillingStore, method)

        def counted(store: Any, *span: Any, whole: Any = whole) -> Any:
            found = whole(store, *span)
            read.append(len(found))
            return found

        monkeypatch.setattr(SpillingStore, method, counted)
    monkeypatch.setattr(SpillingStore, "items", lambda store: pytest.fail("all of it"))
    slices: list[Slice] = [("in", [(b"k%d" % n, b"%d" % n, 0) for n in range(1_000)])]
    slices += [("in", [(b"mover", b"0", 20 * n)]) for n in range(45)]
    lives = Lives(APPS[kind](), slices, lambda _: SpillingStore())
    lives.step()
    while lives.task.behind:
        lives.step()
    lives.commit()
    read.clear()
    while lives.step():
        lives.commit()
    assert sum(read) <= 45 * 50
