"""P14 on a broker: a worker that starts on two full topics sees, for each record, the row that was there."""

from __future__ import annotations

import streamkit as sk
from tests.processing.cluster.members import running, until
from tests.support.worker_process import Outside

KEYS = [f"key-{i}" for i in range(3_000)]


async def test_every_record_finds_its_row(outside: Outside, name: str) -> None:
    app = sk.App(name, commit_interval="100ms")
    rows = app.table_from(app.topic(f"{name}-rows", key=str, partitions=1))
    stream = app.stream(app.topic(f"{name}-stream", key=str, partitions=1))
    misses: list[str] = []
    found: list[str] = []

    def look(value: str, row: str | None) -> str:
        (misses if row is None else found).append(value)
        return value

    stream.join(rows, look, how="left").to(app.topic(f"{name}-out", key=str, partitions=1))
    for side in ("rows", "stream"):
        outside.create(f"{name}-{side}", 1)
        outside.send(f"{name}-{side}", KEYS, key=str)
    async with running(app, outside.bootstrap):
        await until(lambda: len(found) + len(misses) == len(KEYS))
        assert not misses
        outside.send(f"{name}-stream", ["late"], key=lambda _: "nobody")
        await until(lambda: misses == ["late"], "a table that is caught up holds nothing back")
