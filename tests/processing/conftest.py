"""Stores for whole apps under test: `each_store` runs a test over memory, then over stores that spill."""

from __future__ import annotations

import pytest

from streamkit.processing.state import (
    buckets,
    sessions,
    stored_joins,
    stored_panes,
    stored_processes,
    stored_results,
    stored_seen,
    stored_sessions,
    stored_sliding,
    timeline,
    windows,
)
from streamkit.processing.state.memory import MemoryStore
from streamkit.processing.tasks import assembly, task


class SpillingStore(MemoryStore):
    """One that is treated as if it were on disk."""

    spills = True


@pytest.fixture
def spilling(monkeypatch: pytest.MonkeyPatch) -> None:
    """States keep next to nothing between commits, and tasks pause as often as they may."""
    monkeypatch.setattr(assembly, "MemoryStore", SpillingStore)
    keep_little(monkeypatch)


def keep_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the store spills."""
    for name in ("CACHED", "LEAST_CACHED"):
        monkeypatch.setattr(task, name, 2)
    monkeypatch.setattr(timeline, "ENTRIES_AHEAD", 2)
    windowed = (buckets, sessions, stored_panes, stored_seen, stored_sessions, stored_sliding, windows)
    for module in (*windowed, stored_joins, stored_processes, stored_results):
        monkeypatch.setattr(module, "PORTION", 2)


@pytest.fixture(params=["in memory", "spilling"])
def each_store(request: pytest.FixtureRequest) -> None:
    if request.param == "spilling":
        request.getfixturevalue("spilling")
