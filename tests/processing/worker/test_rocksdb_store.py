"""P26, P27, P32 for one store: always at a commit, found again, rebuilt when damaged, never shared."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamkit.errors import RefusedError
from streamkit.processing.state.store import Change, DamagedStoreError
from streamkit.processing.worker.rocksdb import STALE_MS, StateDirectory

NAMES = ["counts"]


def test_a_batch_and_its_position_are_found_again(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path, "app", 0)
    store = state.stores(NAMES, 3)["counts"]
    assert (store.position, store.get(b"a"), list(store.items())) == (0, None, [])
    store.write([(b"a", b"1"), (b"", b"empty key"), (b"b", b"2")], 7)
    store.write([(b"b", None)], 9)
    store.close()
    state.close()
    state = StateDirectory(tmp_path, "app", 0)
    again, other = state.stores(NAMES, 3)["counts"], state.stores(NAMES, 4)["counts"]
    assert (again.position, again.get(b"a"), again.get(b"b")) == (9, b"1", None)
    assert sorted(again.items()) == [(b"", b"empty key"), (b"a", b"1")]
    assert (other.position, list(other.items())) == (0, [])
    again.clear()
    assert (again.position, list(again.items())) == (0, [])
    again.write([(b"c", b"3")], 1)
    assert again.get(b"c") == b"3"


class Clock:
    time_ms = 1_700_000_000_000

    def now_ms(self) -> int:
        return self.time_ms

    def monotonic_ms(self) -> int:
        return self.time_ms

    def monotonic_s(self) -> float:
        return self.time_ms / 1000


def test_p24_what_was_deleted_while_nobody_wrote_does_not_come_back(tmp_path: Path) -> None:
    """The changelog may have lost the tombstones of that time."""
    clock = Clock()
    state = StateDirectory(tmp_path, "app", 0, clock)
    store = state.stores(NAMES, 0)["counts"]
    store.write([(b"a", b"1")], 7)
    store.close()
    clock.time_ms += STALE_MS
    store = state.stores(NAMES, 0)["counts"]
    assert (store.position, store.get(b"a")) == (7, b"1")
    store.close()
    clock.time_ms += 1
    store = state.stores(NAMES, 0)["counts"]
    assert (store.position, store.get(b"a")) == (0, None)
    store.write([(b"b", b"2")], 9)
    store.close()
    assert state.stores(NAMES, 0)["counts"].position == 9


def test_p32_a_second_process_is_refused(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path, "app", 0)
    with pytest.raises(RefusedError, match=r"in use by another worker \(pid \d+\)"):
        StateDirectory(tmp_path, "app", 0)
    StateDirectory(tmp_path, "app", 1).close()
    state.close()
    StateDirectory(tmp_path, "app", 0).close()


@pytest.mark.parametrize("victim", ["MANIFEST-*", "CURRENT", "*.sst"])
def test_p32_a_corrupt_store_is_rebuilt(tmp_path: Path, victim: str) -> None:
    state = StateDirectory(tmp_path, "app", 0)
    store = state.stores(NAMES, 0)["counts"]
    changes: list[Change] = [(b"key-%d" % n, b"v" * 100) for n in range(5_000)]
    store.write(changes, 5_000)
    store.close()
    for file in (tmp_path / "app" / "slot-0" / "counts" / "0").glob(victim):
        file.write_bytes(b"\xff" * file.stat().st_size)
    store = state.stores(NAMES, 0)["counts"]
    if store.position:  # the damage lies where opening does not look
        with pytest.raises(DamagedStoreError):
            list(store.items())
        assert store.damaged
        store.close()
        store = state.stores(NAMES, 0)["counts"]
    assert (store.position, list(store.items()), store.damaged) == (0, [], False)
