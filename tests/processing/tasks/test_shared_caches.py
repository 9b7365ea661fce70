"""What tasks keep decoded is bounded for the worker, not for each of them."""

from __future__ import annotations

import pytest

import streamkit as sk
from streamkit.errors import UsageError
from streamkit.processing.tasks import task as module


def test_caches_shrink_with_the_number_of_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHED", 100)
    monkeypatch.setattr(module, "LEAST_CACHED", 5)
    app = sk.App("app")
    counts = app.table("counts", key=str, default=int)
    stream = app.stream(app.topic("in", key=str, value=str, partitions=1))
    stream.to_table(name="latest").to("out")

    @app.agent(stream)
    def count(word: str, record: sk.Record[str]) -> None:
        counts[record.key] += 1

    with app.test() as t:
        [task] = t.tasks
        t.send_all("in", [("w", f"key-{n}") for n in range(45)])
        assert task.cached == 90 and not task.crowded
        for tasks, share in [(4, 12), (1_000, 5)]:
            task.share_caches(tasks)
            assert task.crowded and task.full == (share == 12)
            t.send_all("in", [("w", f"key-{n}") for n in range(share)])
            assert task.cached <= 2 * share and not task.crowded
            t.send_all("in", [("w", f"key-{n}") for n in range(share)])
        assert counts["key-4"] == 5


def test_of_large_entries_fewer_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST_CACHED", 10)
    app = sk.App("app")
    app.stream(app.topic("in", key=str, value=str, partitions=1)).to_table(name="latest").to("out")
    with app.test() as t:
        [task] = t.tasks
        task.share_caches(1, 1 << 20)
        t.send_all("in", [("x" * 10, f"key-{n}") for n in range(200)])
        assert task.cached == 200  # within 100,000 entries for 256 MiB
        t.send_all("in", [("x" * 10_000, f"key-{n}") for n in range(200, 220)])
        t.send_all("in", [("x" * 10_000, f"key-{n}") for n in range(40)])
        assert task.cached <= 34 and not task.full  # 30,300 bytes each


def test_sizes() -> None:
    assert sk.App("app", state_memory="1.5GiB").state_memory_bytes == 3 << 29
    assert sk.App("app").state_memory_bytes == 512 << 20
    for wrong in ("1 MiB", "lots", 4096):
        with pytest.raises(UsageError):
            sk.App("app", state_memory=wrong)
