"""An index beside the entries: written with them by whoever writes them, found again, never behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from streamkit.processing.state.memory import MemoryStore
from streamkit.processing.state.store import Change, Index, Store, Stored
from streamkit.processing.worker.rocksdb import StateDirectory


class ByValue:
    """Value → key."""

    def __init__(self, version: str = "1") -> None:
        self.version = version
        self.loads = 0

    def load(self, store: Store) -> None:
        self.loads += 1

    def changes(self, entries: Mapping[bytes, bytes | None], stored: Stored | None) -> Iterable[Change]:
        keys = list(entries)
        for key, before in zip(keys, stored(keys) if stored else [None] * len(keys), strict=True):
            if before is not None:
                yield before + key, None
            if (after := entries[key]) is not None:
                yield after + key, key


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDirectory]:
    with closing(StateDirectory(tmp_path, "app", 0)) as state:
        yield state


def _store(state: StateDirectory, index: Index | None) -> Store:
    store: Store = state.stores(["s"], 0)["s"]
    if index is not None:
        store.keep_index(index)
    return store


@pytest.mark.parametrize("kind", ["memory", "rocksdb"])
def test_names_follow_the_entries(kind: str, state: StateDirectory) -> None:
    store = MemoryStore() if kind == "memory" else _store(state, None)
    store.keep_index(ByValue())
    store.write([(b"a", b"3"), (b"b", b"1"), (b"a", b"2")], 3)
    assert store.find(b"", None, 9) == [(b"1b", b"b"), (b"2a", b"a")]
    store.write([(b"b", b"4"), (b"a", None)], 5)
    assert store.find(b"", None, 9) == [(b"4b", b"b")]
    store.write([(b"%d" % n, b"x") for n in range(5)], 9)
    assert [key for _, key in store.find(b"x1", b"x4", 2)] == [b"1", b"2"]
    assert list(store.range(b"", None, 9))[-1] == (b"b", b"4")
    store.clear()
    assert store.find(b"", None, 9) == []
    store.write([(b"a", b"1")], 1)
    assert store.find(b"", b"2", 9) == [(b"1a", b"a")]


def test_found_again(state: StateDirectory) -> None:
    with closing(_store(state, ByValue())) as store:
        store.write([(b"a", b"1")], 3)
    with closing(_store(state, index := ByValue())) as store:
        assert (store.position, store.find(b"", None, 9), index.loads) == (3, [(b"1a", b"a")], 1)
        store.keep_index(other := ByValue())
        store.write([(b"a", b"2")], 4)
        assert (store.find(b"", None, 9), other.loads) == ([(b"2a", b"a")], 1)


@pytest.mark.parametrize("later", [ByValue("2"), ByValue("1")])
def test_a_store_without_it_begins_anew(state: StateDirectory, later: ByValue) -> None:
    """It was written by a version that had another index, or none."""
    with closing(_store(state, ByValue("1"))) as store:
        store.write([(b"a", b"1")], 3)
    if later.version == "1":
        with closing(_store(state, None)) as store:
            store.write([(b"b", b"2")], 4)
    with closing(_store(state, later)) as store:
        assert (store.position, list(store.items()), store.find(b"", None, 9)) == (0, [], [])


def test_while_much_is_loaded_nothing_is_read(state: StateDirectory) -> None:
    with closing(_store(state, ByValue())) as store:
        with store.loading():
            store.write([(b"a", b"1"), (b"b", b"1")], 3)
            store.write([(b"a", b"2")], 4)
        assert [name for name, _ in store.find(b"", None, 9)] == [b"1a", b"1b", b"2a"]
        with store.loading():
            store.clear()
            store.write([(b"c", b"1")], 1)
        assert store.find(b"", None, 9) == [(b"1c", b"c")]
