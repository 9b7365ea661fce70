"""`process` with states and timers of which most are only stored: as if they were in memory."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import msgpack

import streamkit as sk
from streamkit.processing.state.stored_processes import StoredProcessState
from tests.processing.conftest import keep_little
from tests.processing.lives import Lives, MakeStore, Slice, in_memory, on_disk, spilling, undisturbed


def reminded() -> sk.App:
    """A value says how much to add, and when (ms) to tell, by which clock; nothing but numbers."""
    app = sk.App("large-process")

    def add(value: list[Any], context: sk.Context[bytes, list[int]]) -> list[Any]:
        number, at_ms, name, clock = value
        context.state = [*(context.state or []), number][-3:]
        if at_ms is None:
            context.cancel_timer(name)
        else:
            context.set_timer(at_ms / 1000, name=name, clock=clock)
        return [number]

    def tell(context: sk.Context[bytes, list[int]]) -> list[Any]:
        told = [context.timer, context.time_ms, context.state]
        if context.timer == "again":
            context.set_timer((context.time_ms + 700) / 1000, name="b")
            context.set_timer(context.time_ms / 1000, name="same")
            context.set_timer(5, name="wall", clock="wall")
        if context.timer == "end":
            context.state = None
        return [told]

    stream = app.stream(app.topic("in", key=bytes, value=list, partitions=1))
    stream.process(add, state=list[int], on_timer=tell).to("out")
    return app


def orders(seed: int, slices: int = 60, keys: int = 6) -> list[Slice]:
    """Many timers fall together, some lie in the past; keys are bytes that are hard to put in order."""
    rng = random.Random(seed)
    names = [bytes(rng.choices(b"\0\xff\1a", k=n)) for n in range(1, keys + 1)]
    found: list[Slice] = []
    for n in range(slices):
        records = []
        for _ in range(rng.randrange(1, 6)):
            clock = rng.choice(["event", "event", "wall"])
            at_ms = rng.choice([None, n * 1_000 + rng.randrange(-5, 20) * 1_000])
            value = orjson.dumps([rng.randrange(100), at_ms, rng.choice(["a", "b", "again", "end"]), clock])
            records.append((rng.choice(names), value, n * 1_000 + rng.randrange(0, 900, 100)))
        found.append(("in", records))
    return found


@pytest.mark.usefixtures("spilling")
def test_the_same_calls_in_the_same_order() -> None:
    for seed in range(4):
        slices = orders(seed)
        answer = undisturbed(reminded(), slices)
        assert len(answer["out"]) > 100
        assert Lives(reminded(), slices).run(random.Random(seed)) == answer
        assert Lives(reminded(), slices, spilling).run(random.Random(seed)) == answer


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1 << 30), keys=st.integers(1, 20))
def test_p26_as_in_memory_through_restarts_and_rollbacks(seed: int, keys: int) -> None:
    """In RocksDB, with all that a worker keeps."""
    slices = orders(seed, slices=20, keys=keys)
    with pytest.MonkeyPatch.context() as patched, on_disk() as make_store:
        keep_little(patched)
        lives = Lives(reminded(), slices, make_store)
        assert lives.run(random.Random(seed)) == undisturbed(reminded(), slices)
        lives.close()


@pytest.mark.usefixtures("spilling")
@pytest.mark.parametrize(("first", "then"), [(spilling, in_memory), (in_memory, spilling)])
def test_the_changelog_is_the_same(first: MakeStore, then: MakeStore) -> None:
    """Half of the input in one kind of store, the other half in another."""
    slices = orders(7)
    lives = Lives(reminded(), slices, first)
    for _ in range(30):
        lives.step()
    lives.commit()
    lives.make_store = then
    lives.born(anew=True)
    assert lives.run(random.Random(7)) == undisturbed(reminded(), slices)


@pytest.mark.usefixtures("spilling")
def test_next_to_nothing_is_in_memory() -> None:
    """A thousand keys with a timer each; what a commit leaves is what was touched since it began."""
    slices: list[Slice] = [
        ("in", [(b"k%04d" % n, orjson.dumps([n, 2_000_000 + n, "a", "event"]), n * 10)]) for n in range(1_000)
    ]
    lives = Lives(reminded(), slices, spilling)
    while lives.step():
        lives.commit()
        assert lives.task.cached <= 2
    [state] = lives.task._parts.states.values()
    assert isinstance(state, StoredProcessState) and len(state.store) == 1_000
    told = [value for value, *_ in lives.end()["out"]][1_000:]
    assert told == [orjson.dumps(["a", 2_000_000 + n, [n]]) for n in range(1_000)]


@pytest.mark.usefixtures("spilling")
def test_timers_that_are_not_due_are_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    slices: list[Slice] = [
        ("in", [(b"k%d" % n, orjson.dumps([n, 10_000 * (n + 1), "a", clock]), n * 1_000)])
        for n in range(20)
        for clock in ("event", "wall")
    ]
    lives = Lives(reminded(), slices, spilling)
    [store] = lives.stores.values()
    found: list[int] = []
    finding = store.find
    monkeypatch.setattr(store, "find", lambda *span: found.append(1) or finding(*span))
    while lives.step():
        lives.commit()
        for _ in range(10):
            lives.task.tick(lives.now_ms)
    assert len(found) < 20


@pytest.mark.usefixtures("spilling")
def test_timers_left_behind_by_a_restore_are_cleared_away() -> None:
    """While much is loaded nothing is read, so names of timers that were moved stay until they are met."""
    moved = [("in", [(b"k", orjson.dumps([n, 10_000 + n * 1_000, "a", "event"]), 0)]) for n in range(9)]
    later = [("in", [(b"other", orjson.dumps([0, None, "a", "event"]), n * 10_000)]) for n in range(1, 4)]
    slices: list[Slice] = [*moved, *later]
    with on_disk() as make_store:
        lives = Lives(reminded(), slices, make_store)
        for _ in moved:
            lives.step()
            lives.commit()
        [name] = lives.stores
        records = lives.log.partitions(lives.sub.changelog(name))[0]
        with lives.stores[name].loading():
            lives.stores[name].clear()
            for at in range(len(records)):
                lives.task.restore(name, records[at : at + 1], len(records))
        assert len(lives.stores[name].find(b"", None, 99)) == len(moved)
        lives.born()
        while lives.step():
            lives.commit()
        assert lives.told == undisturbed(reminded(), slices)
        assert lives.stores[name].find(b"", None, 99) == []
        lives.close()


@pytest.mark.usefixtures("spilling")
def test_p06_a_state_that_somebody_holds_stays() -> None:
    held: list[list[int]] = []

    def add(value: int, context: sk.Context[str, list[int]]) -> None:
        if context.state is None:
            context.state = []
            if context.key == "held":
                held.append(context.state)
        context.state.append(value)

    app = sk.App("holding")
    app.stream(app.topic("in", key=str, value=int, partitions=1)).process(add, state=list[int])
    slices: list[Slice] = [("in", [(key, b"1", n)]) for n, key in enumerate([b"held", b"a", b"b", b"held"])]
    lives = Lives(app, slices, spilling)
    while lives.step():
        lives.commit()
        if lives.at == 2:
            held[0].append(5)
    [store] = lives.stores.values()
    assert orjson.loads(msgpack.decode(store.get(b"held") or b"")[0]) == [1, 5, 1]
