"""What tasks keep decoded is bounded for the worker, not for each of them."""

from __future__ import annotations

import pytest

import streamkit as sk
from streamkit.processing.tasks import task as module


def test_caches_shrink_with_the_number_of_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHED", 100)
    monkeypatch.setattr(module, "LEAST_CACHED", 10)
    app = sk.App("app")
    counts = app.table("counts", key=str, default=int)
    stream = app.stream(app.topic("in", key=str, value=str, partitions=1))
    stream.to_table(name="latest").to("out")

    @app.agent(stream)
    def count(word: str, record: sk.Record[str]) -> None:
        counts[record.key] += 1

    with app.test() as t:
        [task] = t.tasks
        t.send_all("in", [("w", f"key-{n}") for n in range(90)])
        assert task.cached == 180 and not task.crowded
        for tasks, share in [(4, 25), (1_000, 10)]:
            task.share_caches(tasks)
            assert task.crowded
            t.send_all("in", [("w", f"key-{n}") for n in range(share)])
            assert task.cached <= 2 * share and not task.crowded
            t.send_all("in", [("w", f"key-{n}") for n in range(share)])
        assert counts["key-7"] == 5
