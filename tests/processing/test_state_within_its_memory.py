"""Many more records wait, and timers, than memory has room for: a commit comes early, the budget is kept."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping

import pytest

import streamkit as sk
from streamkit.processing.state import stored_joins, stored_processes
from streamkit.processing.state.store import Store
from streamkit.processing.tasks.task import Batch, Task
from streamkit.processing.testing import StoredRecord
from tests.processing.lives import MakeStore, in_memory, on_disk

CACHE_BYTES = 100_000
KEYS, SLICE, PORTION = 2_000, 50, 100
TEXT = "a value of some length, " * 40


def waiting(kind: str) -> sk.App:
    app = sk.App(f"much-{kind}")
    left = app.stream(app.topic("left", key=str, value=str, partitions=1))
    if kind == "join":
        right = app.stream(app.topic("right", key=str, value=str, partitions=1))
        left.join(right, lambda a, b: f"{a} {b}", how="left", within="1h").to("out")
    else:
        left.process(begin, state=str, on_timer=ring).to("out")
    return app


def begin(value: str, context: sk.Context[str, str]) -> None:
    context.state = value
    context.set_timer(3_600)


def ring(context: sk.Context[str, str]) -> list[str]:
    told, context.state = str(context.state), None
    return [told]


def play(kind: str, make_store: MakeStore) -> tuple[int, int]:
    """Bytes of memory at most, and results."""
    plan = waiting(kind).topology().plan({})
    [sub] = plan.subtopologies
    stores: Mapping[str, Store] = {name: make_store(name) for name in sub.stores}
    task, told = Task(plan, sub, 0, stores), 0
    task.share_caches(1, CACHE_BYTES)
    for place in task.places:
        task.resume(place, None, 0)
    task.start()
    tracemalloc.start()
    for at in range(0, KEYS, SLICE):
        records = [
            StoredRecord(("left", 0, n), (b"key-%d" % n, f"{n} {TEXT}".encode()), n)
            for n in range(at, at + SLICE)
        ]
        output = task.process(Batch("left", 0, records), 0)
        if task.crowded:
            task.committed(task.checkpoint(0), {})
        assert not task.full
    output = task.advance_to(10**10, 0)
    told += sum(map(len, output.sinks.values()))
    while task.behind:
        told += sum(map(len, task.follow(0).sinks.values()))
        if task.crowded:
            task.committed(task.checkpoint(0), {})
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    for store in stores.values():
        store.close()
    return most, told


@pytest.mark.parametrize("kind", ["join", "process"])
def test_p19_what_waits_need_not_fit(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (stored_joins, stored_processes):
        monkeypatch.setattr(module, "PORTION", PORTION)
    in_memory_bytes, told_in_memory = play(kind, in_memory)
    with on_disk() as make_store:
        on_disk_bytes, told = play(kind, make_store)
    assert told == told_in_memory == KEYS
    assert on_disk_bytes < in_memory_bytes / 3
