"""Entries of a table with a ttl expire by stream time: alike in every run, for every reader, and for good."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamkit as sk
from streamkit.errors import UsageError
from streamkit.processing.serde import JSON, STR
from streamkit.processing.state import expiring
from streamkit.processing.state.expiring import ExpiringState
from streamkit.processing.state.memory import MemoryStore
from streamkit.processing.state.store import Store
from streamkit.processing.testing import TopologyDriver
from streamkit.processing.worker.rocksdb import StateDirectory

CHANGELOG = "app-visits-changelog"


def counting() -> sk.App:
    """Counts visits; a key that was silent for ten seconds begins anew."""
    app = sk.App("app")
    visits = app.table("visits", key=str, default=int, ttl="10s")

    @app.agent(app.topic("in", key=str, value=str, partitions=1), sink="out")
    def count(page: str, record: sk.Record[str]) -> int:
        visits[record.key] += 1
        return visits[record.key]

    return app


def tombstones(t: TopologyDriver) -> list[str]:
    return [record.key for record in t.records(CHANGELOG) if record.value is None]


def test_an_entry_lives_until_the_ttl_is_over() -> None:
    with counting().test() as t:
        for key, ts in [("a", 0), ("a", 9.999), ("b", 10), ("a", 19.998), ("a", 29.998)]:
            t.send("in", "/", key=key, ts=ts)
        assert t.read("out") == [1, 2, 1, 3, 1]  # the last came exactly ten seconds later


def test_p11_another_key_moves_time_on() -> None:
    with counting().test() as t:
        t.send("in", "/", key="a", ts=0)
        t.send("in", "/", key="b", ts=100)
        assert tombstones(t) == [b"a"]
        t.send("in", "/", key="a", ts=50)  # late, but its entry had gone
        assert t.read("out") == [1, 1, 1]


def test_wall_time_expires_nothing() -> None:
    with counting().test() as t:
        t.send("in", "/", key="a", ts=0)
        t.sleep(1_000)
        assert tombstones(t) == []
        t.send("in", "/", key="a", ts=5)
        assert t.read("out") == [1, 2]


def test_p12_p24_what_expired_does_not_come_back_with_a_restart() -> None:
    with counting().test() as t:
        t.send("in", "/", key="a", ts=0)
        t.send("in", "/", key="b", ts=100)
        t.restart()
        t.send("in", "/", key="a", ts=1)  # stream time stands at 100 after the restart, too
        t.send("in", "/", key="b", ts=101)
        t.restart()
        t.send("in", "/", key="a", ts=102)
        assert t.read("out") == [1, 1, 1, 2, 2]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 60)), min_size=1, max_size=40),
    st.lists(st.booleans(), min_size=40, max_size=40),
)
def test_p15_neither_slices_nor_restarts_change_a_result(
    records: list[tuple[str, int]], cuts: list[bool]
) -> None:
    with counting().test() as t:
        t.send_all("in", [("/", key, ts) for key, ts in records])
        wanted = t.read("out")
    with counting().test() as t:
        for (key, ts), cut in zip(records, cuts, strict=False):
            t.send("in", "/", key=key, ts=ts)
            if cut:
                t.restart()
        assert t.read("out") == wanted
    live, now, expected = dict[str, tuple[int, int]](), 0, []
    for key, ts in records:
        now = max(now, ts)
        since, count = live.get(key, (now, 0))
        live[key] = now, (count if since + 10 > now else 0) + 1
        expected.append(live[key][1])
    assert wanted == expected


def test_a_value_changed_in_place_is_written_and_so_lives_on() -> None:
    app = sk.App("app")
    carts = app.table("visits", key=str, default=list, ttl="10s")

    @app.agent(app.topic("in", key=str, value=str, partitions=1), sink="out")
    async def add(item: str, record: sk.Record[str]) -> list[str]:
        if item != "look":
            carts[record.key].append(item)
        return list(carts[record.key])

    with app.test() as t:
        for item, ts in [("x", 0), ("y", 8), ("look", 16), ("look", 18)]:
            t.send("in", item, key="k", ts=ts)
        assert t.read("out") == [["x"], ["x", "y"], ["x", "y"], []]  # a look is no write


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=30),
    st.lists(st.booleans(), min_size=30, max_size=30),
)
def test_when_commits_happen_does_not_matter_to_values_changed_in_place(
    steps: list[tuple[bool, int]], commits: list[bool]
) -> None:
    def run(*, commit: list[bool]) -> list[int]:
        state, now, seen = ExpiringState(STR, JSON, list, MemoryStore(), 6), 0, []
        state.load()
        for number, (adds, pause) in enumerate(steps):
            now += pause
            state.reach(now)
            value = state.get_or_default("k")
            seen.append(len(value))
            if adds:
                value.append(number)
            del value
            if commit[number]:
                state.store.write(state.changes(), number)
                state.written()
        return seen

    assert run(commit=commits) == run(commit=[True] * 30) == run(commit=[False] * 30)


def test_p19_a_scan_finds_all_that_expired(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In stretches, while entries are written: none that lives is deleted, none that is over stays."""
    monkeypatch.setattr(expiring, "STRETCH", 7)
    on_disk: Store = StateDirectory(tmp_path, "app", 0).stores(["t"], 0)["t"]
    for store in (MemoryStore(), on_disk):
        state = ExpiringState(STR, STR, None, store, 10)
        state.load()

        def commit(state: ExpiringState = state, store: Store = store) -> None:
            store.write(state.changes(), store.position + 1)
            state.written()

        state.reach(0)
        for number in range(100):
            state.put(f"old-{number}", "x")
        commit()
        for now in range(1, 60):
            state.reach(now)
            state.put(f"new-{now}", "x")
            state.put("old-7", "again")
            commit()
        kept = {name.decode() for name, _ in store.items()}
        assert {f"new-{now}" for now in range(50, 60)} | {"old-7"} <= kept
        assert {key for key, _ in state.items()} == {f"new-{now}" for now in range(50, 60)} | {"old-7"}
        assert len(kept) < 40, "what is over goes within a few commits"
        assert state.row("new-59") == "x" and state.row("new-49") is None


def test_a_ttl_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError):
        sk.App("app").table("t", ttl=0)
