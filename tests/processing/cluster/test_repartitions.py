"""Streams that are moved to meet others, on a broker: right results, and topics that do not grow for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import streamkit as sk
from streamkit.processing.worker import purge
from tests.processing.cluster.members import running
from tests.support.worker_process import Outside, eventually

KEYS = [f"key-{i}" for i in range(20)]


async def test_what_is_under_way_is_read_whatever_the_app_says_of_its_input(
    outside: Outside, name: str
) -> None:
    moved = f"{name}-move-repartition"
    outside.create(moved, 2)
    outside.create(f"{name}-in", 1)
    outside.create(f"{name}-out", 1)
    app = sk.App(name, commit_interval="100ms", auto_offset_reset="latest")
    app.stream(app.topic(f"{name}-in", key=str)).repartition(name="move").to(f"{name}-out")
    outside.send(f"{name}-in", ["before"], str)
    outside.send(moved, KEYS, str)  # by a task that began a moment earlier than those that read them
    async with running(app, outside.bootstrap):
        await asyncio.to_thread(
            eventually,
            lambda: sorted(value for _, value, _ in outside.read(f"{name}-out")) == sorted(KEYS),
        )


@pytest.mark.parametrize("guarantee", [pytest.param("at_least_once", marks=pytest.mark.slow), "exactly_once"])
async def test_streams_of_unequal_topics_are_joined(
    outside: Outside, name: str, guarantee: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "INTERVAL_S", 0.1)
    outside.create(f"{name}-a", 4)
    outside.create(f"{name}-b", 3)
    outside.create(f"{name}-out", 1)

    def make() -> sk.App:
        app = sk.App(name, commit_interval="100ms", guarantee=guarantee)
        a, b = (app.topic(f"{name}-{side}", key=str) for side in "ab")
        pairs = app.stream(a).join(app.stream(b), lambda x, y: x + y, within="1h", name="join")
        pairs.to(f"{name}-out")
        return app

    def results() -> list[str]:
        return sorted(value for _, value, _ in outside.read(f"{name}-out"))

    moved = f"{name}-join-right-repartition"
    outside.send(f"{name}-b", KEYS, str)
    async with running(make(), outside.bootstrap) as first:
        outside.send(f"{name}-a", KEYS, str)
        await asyncio.to_thread(eventually, lambda: results() == sorted(2 * key for key in KEYS))
        assert outside.partitions(moved) == 4
        await asyncio.to_thread(eventually, lambda: outside.starts(moved) == outside.committed(name, moved))
        assert sum(outside.starts(moved)) >= len(KEYS)
        assert len(first.tasks) == 7
    outside.send(f"{name}-b", KEYS, str)
    async with running(make(), outside.bootstrap):
        await asyncio.to_thread(eventually, lambda: results() == sorted(2 * key for key in 2 * KEYS))
