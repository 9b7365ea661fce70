"""A restore in bulk: what the store holds is what the changelog says, deletes and overwrites included."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamkit.processing.state.memory import MemoryStore
from streamkit.processing.state.store import Change, Store
from streamkit.processing.worker.rocksdb import RocksStore, StateDirectory


@pytest.fixture(params=["memory", "rocksdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "memory":
        return MemoryStore()
    return StateDirectory(tmp_path, "app", 0).stores(["counts"], 0)["counts"]


def test_a_loaded_store_is_like_one_that_was_written(store: Store) -> None:
    store.write([(b"before", b"1")], 1)
    with store.loading():
        for number in range(50):
            changes: list[Change] = [(b"key-%d" % (number * 100 + n), b"%d" % n) for n in range(100)]
            store.write([*changes, (b"key-%d" % (number * 100 + 50), None)], 2 + number)
        store.write(
            [(b"twice", b"1"), (b"twice", None), (b"twice", b"3"), (b"never", b"1"), (b"never", None)], 60
        )
    assert store.position == 60
    assert (store.get(b"before"), store.get(b"twice"), store.get(b"never")) == (b"1", b"3", None)
    assert (store.get(b"key-4950"), store.get(b"key-4951")) == (None, b"51")
    assert len(list(store.items())) == 50 * 99 + 2


def test_an_interrupted_load_keeps_what_was_written(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path, "app", 0)
    store = state.stores(["counts"], 0)["counts"]
    with pytest.raises(KeyboardInterrupt), store.loading():
        store.write([(b"a", b"1")], 7)
        raise KeyboardInterrupt
    store.close()
    again: RocksStore = state.stores(["counts"], 0)["counts"]
    assert (again.position, again.get(b"a")) == (7, b"1")
