"""SEMANTICS P23: a global table is whole before the first stream record, whichever partition a row is in."""

from __future__ import annotations

from typing import Any

import pytest

import streamkit as sk
from streamkit.errors import UsageError
from tests.processing.cluster.members import running, until, until_outside
from tests.support.broker_process import BrokerProcess
from tests.support.worker_process import Outside

KEYS = [f"key-{i}" for i in range(2_000)]


def build(name: str) -> tuple[sk.App, sk.GlobalTable[str, Any]]:
    app = sk.App(name, commit_interval="100ms")
    rows = app.global_table(app.topic(f"{name}-rows", key=str, partitions=3))
    stream = app.stream(app.topic(f"{name}-stream", partitions=2))
    joined = stream.join(rows, lambda value, row: [value, row], on=lambda value: value, how="left")
    joined.to(app.topic(f"{name}-out", partitions=1))
    return app, rows


def test_any_key_from_any_partition_deleted_and_after_a_restart() -> None:
    app, rows = build("global")
    with app.test() as t:
        for key in "abc":
            t.send("global-rows", f"row {key}", key=key)
        t.send("global-rows", None, key="b")
        for number, key in enumerate("abc"):
            t.send("global-stream", key, partition=number % 2)
        t.restart()
        t.send("global-stream", "c")
        assert t.read("global-out") == [["a", "row a"], ["b", None], ["c", "row c"], ["c", "row c"]]
        assert dict(rows) == {"a": "row a", "c": "row c"}


def test_what_it_does_not_know_is_refused() -> None:
    app, rows = build("refused")
    with pytest.raises(UsageError, match="needs on="):
        app.stream("x").join(rows, lambda a, b: a)  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="belongs to the app"):
        sk.App("other").global_table(rows.topic)  # type: ignore[arg-type]


async def test_a_worker_reads_it_first_and_follows_it(broker: BrokerProcess, name: str) -> None:
    outside = Outside(broker.bootstrap)
    outside.create(f"{name}-rows", 3)
    outside.create(f"{name}-stream", 2)
    outside.send(f"{name}-rows", KEYS, key=str)
    outside.send(f"{name}-stream", KEYS)
    app, rows = build(name)
    async with running(app, broker.bootstrap):
        await until_outside(lambda: sum(outside.committed(name, f"{name}-stream")) == len(KEYS))
        outside.send(f"{name}-rows", ["new"], key=lambda _: "key-0")
        await until(lambda: rows["key-0"] == "new")
    out = [value for _, value, _ in outside.read(f"{name}-out")]
    assert len(out) == len(KEYS) and all(value == row for value, row in out)
