"""A store that is loaded: with RocksDB's settings for that, and after a crash at a position all the same."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from rocksdict import Rdict

from streamkit.errors import RefusedError
from streamkit.processing.state.store import Change, Store, Stored
from streamkit.processing.worker.rocksdb import LOADING_BUFFER_BYTES, StateDirectory

VALUE = b"v" * 10_000
MEMORY_BYTES = 96 << 20


class Names:
    """Key → nothing."""

    version = "1"

    def load(self, store: Store) -> None: ...

    def changes(self, entries: Mapping[bytes, bytes | None], stored: Stored | None) -> Iterable[Change]:
        return ((key, b"") for key in entries)


def test_a_database_that_is_opened_again_has_the_settings_of_now(tmp_path: Path) -> None:
    """RocksDB remembers those of the last time: blocks would be held in a cache of each store's own."""
    path = tmp_path / "app" / "slot-0" / "s" / "0"
    with closing(StateDirectory(tmp_path, "app", 0, memory_bytes=1 << 20)) as state:
        state.stores(["s"], 0)["s"].close()
    with (
        closing(StateDirectory(tmp_path, "app", 0, memory_bytes=MEMORY_BYTES)) as state,
        closing(state.stores(["s"], 0)["s"]) as store,
    ):
        assert store._db.property_int_value("rocksdb.block-cache-capacity") == MEMORY_BYTES
        with store.loading():
            assert "VectorRepFactory" in _settings(path)
        assert "SkipListFactory" in _settings(path)


@pytest.mark.parametrize("crash", ["load_until_killed", "close_until_killed"])
def test_a_crash_leaves_a_position_and_an_index_of_its_entries(tmp_path: Path, crash: str) -> None:
    """While much is loaded, and between the closing of two families at its end."""
    command = [sys.executable, "-c", f"import {__name__} as test; test.{crash}({str(tmp_path)!r})"]
    process = subprocess.run(command, timeout=60, check=False)
    assert process.returncode == -signal.SIGKILL
    with (
        closing(StateDirectory(tmp_path, "app", 0)) as state,
        closing(state.stores(["s"], 0)["s"]) as store,
    ):
        store.keep_index(Names())
        keys = [key for key, _ in store.items()]
        assert store.position > 0
        assert keys == [b"%08d" % number for number in range(store.position)]
        assert [name for name, _ in store.find(b"", None, len(keys) + 1)] == keys


def close_until_killed(directory: str) -> None:
    """The process dies once the first family is closed."""
    store = StateDirectory(Path(directory), "app", 0).stores(["s"], 0)["s"]
    store.keep_index(Names())
    shut = store._shut

    def shut_one(db: Rdict) -> None:
        shut(db)
        signal.raise_signal(signal.SIGKILL)

    with store.loading():
        for number in range(10):
            store.write([(b"%08d" % number, VALUE)], number + 1)
        store._shut = shut_one  # type: ignore[method-assign]


def test_a_load_that_the_disk_has_no_room_for_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-c", f"import {__name__} as test; test.load_too_much({str(tmp_path)!r})"]
    subprocess.run(command, timeout=60, check=True)
    with (
        closing(StateDirectory(tmp_path, "app", 0)) as state,
        closing(state.stores(["s"], 0)["s"]) as store,
    ):
        store.keep_index(Names())
        assert (store.position, [key for key, _ in store.items()]) == (1, [b"first"])
        assert [name for name, _ in store.find(b"", None, 100)] == [b"first"]


def load_too_much(directory: str) -> None:
    """More than a file may have here."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = StateDirectory(Path(directory), "app", 0).stores(["s"], 0)["s"]
    store.keep_index(Names())
    store.write([(b"first", VALUE)], 1)
    with pytest.raises(RefusedError, match="its files end at 1, not 2"), store.loading():
        store.write([(b"second", os.urandom(1 << 20))], 2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, resource.RLIM_INFINITY))
    store.close()


def test_a_crash_while_a_store_is_cleared_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(path: Path) -> None:
        raise KeyboardInterrupt

    with closing(StateDirectory(tmp_path, "app", 0)) as state:
        store = state.stores(["s"], 0)["s"]
        store.write([(b"k", b"v")], 1)
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr("shutil.rmtree", crash)
            store.clear()
        with closing(state.stores(["s"], 0)["s"]) as again:
            assert (again.position, list(again.items())) == (0, [])


def load_until_killed(directory: str) -> None:
    """Twice what is kept in memory, and a little more."""
    store = StateDirectory(Path(directory), "app", 0).stores(["s"], 0)["s"]
    store.keep_index(Names())
    with store.loading():
        for number in range(2 * LOADING_BUFFER_BYTES // len(VALUE) + 100):
            store.write([(b"%08d" % number, VALUE)], number + 1)
        while not store._db.property_int_value("rocksdb.total-sst-files-size"):
            time.sleep(0.01)
        signal.raise_signal(signal.SIGKILL)


def _settings(path: Path) -> str:
    return (path / "LOG").read_text()
