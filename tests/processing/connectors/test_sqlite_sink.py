"""SQLite by upsert: what a table holds after replays, deletes, bad rows and rivals."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

import streamkit as sk
from streamkit.errors import UsageError
from streamkit.processing.connectors.sinks import BadRow
from tests.processing.connectors.outflows import one_task

TOTALS = "create table if not exists totals (product text primary key, total real, tags)"


class Total(msgspec.Struct):
    product: str
    total: float
    tags: list[str] = []


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(query).fetchall()


def totals_app(path: Path, **options: Any) -> sk.App:
    app = sk.App("totals")
    sink = sk.SqliteSink(path, "totals", key="product", setup=TOTALS, max_wait=0, **options)
    app.stream(app.topic("totals", value=Total)).to(sink, on_error=sk.DeadLetter("dead"))
    return app


async def test_rows_are_found_by_their_key(tmp_path: Path) -> None:
    app = totals_app(tmp_path / "db")
    made = [Total("pump", 1.0), Total("hose", 2.0, ["new"]), Total("pump", 3.0)]
    for _ in range(2):  # and once more, as after a crash
        async with one_task(app) as one:
            one.offer(made)
            await one.until_committable(3)
    assert rows(tmp_path / "db", "select * from totals order by total") == [
        ("hose", 2.0, '["new"]'),
        ("pump", 3.0, "[]"),
    ]


async def test_a_row_at_fault_goes_and_the_others_stay(tmp_path: Path) -> None:
    app = sk.App("totals")
    setup = "create table t (id integer primary key, n integer check (n < 100)) strict"
    sink = sk.SqliteSink(tmp_path / "db", "t", key="id", setup=setup, max_wait=0)
    app.stream("numbers").to(sink, on_error=sk.DeadLetter("dead"))
    values: list[Any] = [{"id": n, "n": n} for n in range(6)]
    values[1], values[3], values[4] = {"id": 1, "n": 100}, {"n": 3}, {"id": 4, "nn": 4}
    async with one_task(app) as one:
        one.offer(values)
        await one.until_committable(6)
    assert rows(tmp_path / "db", "select id from t") == [(0,), (2,), (5,)]
    assert sorted(one.letters) == sorted(msgspec.json.encode(values[n]) for n in (1, 3, 4))


async def test_a_null_deletes_and_the_record_key_is_the_column(tmp_path: Path) -> None:
    app = sk.App("board")
    setup = "create table if not exists names (who primary key, value)"
    sink = sk.SqliteSink(tmp_path / "db", "names", key="who", setup=setup, max_wait=0)
    app.table_from(app.topic("names", key=str, value=str)).to(sink)
    async with one_task(app) as one:
        one.offer(["Ann"], key=b"a")
        one.offer(["Bob"], key=b"b", first=1)
        one.offer([None], key=b"a", first=2)
        await one.until_committable(3)
    assert rows(tmp_path / "db", "select * from names") == [("b", "Bob")]


async def test_the_place_of_a_record_as_key_keeps_each_once(tmp_path: Path) -> None:
    setup = (
        'create table if not exists log (topic, partition, "offset", value, '
        'primary key (topic, partition, "offset"))'
    )
    app = sk.App("log")
    key = ("topic", "partition", "offset")
    app.stream(app.topic("lines", value=str)).to(
        sk.SqliteSink(tmp_path / "db", "log", key=key, setup=setup, max_wait=0)
    )
    for _ in range(2):
        async with one_task(app) as one:
            one.offer(["x", "x"])
            await one.until_committable(2)
    assert rows(tmp_path / "db", "select * from log") == [("lines", 0, 0, "x"), ("lines", 0, 1, "x")]


async def test_whoever_else_writes_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamkit.processing.connectors.sqlite.PATIENCE_S", 0.01)
    monkeypatch.setattr("streamkit.processing.worker.outflows.FIRST_PAUSE_S", 0.01)
    with closing(sqlite3.connect(tmp_path / "db", isolation_level=None)) as rival:
        rival.executescript(TOTALS)
        async with one_task(totals_app(tmp_path / "db")) as one:
            await asyncio.sleep(0)
            rival.execute("begin immediate")
            one.offer([Total("pump", 1.0)])
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await one.until_committable(1)
            rival.execute("commit")
            await one.until_committable(1)
    assert (len(rows(tmp_path / "db", "select * from totals")), one.letters) == (1, [])


@pytest.mark.parametrize("setup", [None, "create table totals (product, total)"])
async def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, setup: str | None) -> None:
    sink = sk.SqliteSink(tmp_path / "db", "totals", key="product", setup=setup)
    with pytest.raises(UsageError) as refused:
        await sink.open()
    assert 'primary key ("product")' in refused.value.hint


async def test_values_of_every_kind_have_a_place(tmp_path: Path) -> None:
    @dataclass
    class Kinds:
        key: int
        text: str
        none: None
        flag: bool
        data: bytes

    sink = sk.SqliteSink(
        tmp_path / "db", "kinds", setup="create table kinds (key primary key, text, none, flag, data)"
    )
    await sink.open()
    await sink.write([sk.Row(Kinds(1, "a'\"; drop table kinds", None, True, b"\0"))])
    await sink.close()
    assert rows(tmp_path / "db", "select * from kinds") == [(1, "a'\"; drop table kinds", None, 1, b"\0")]


def test_a_sink_without_a_key_is_refused() -> None:
    with pytest.raises(UsageError, match="no key"):
        sk.SqliteSink("db", "t", key=())


async def test_columns_have_any_name(tmp_path: Path) -> None:
    setup = 'create table odd (key primary key, "a.b", "50%", "x"" = 1; drop table odd; --")'
    sink = sk.SqliteSink(tmp_path / "db", "main.odd", setup=setup)
    await sink.open()
    await sink.write([sk.Row({"key": 1, "a.b": 2, "50%": 3, 'x" = 1; drop table odd; --': 4})])
    await sink.close()
    assert rows(tmp_path / "db", "select * from odd") == [(1, 2, 3, 4)]


async def test_a_row_of_ever_so_many_columns_is_at_fault(tmp_path: Path) -> None:
    sink = sk.SqliteSink(tmp_path / "db", "t", setup="create table t (key primary key)")
    await sink.open()
    with pytest.raises(BadRow, match="columns") as bad:
        await sink.write([sk.Row({"key": 1}), sk.Row({"key": 2, **{f"c{n}": n for n in range(70_000)}})])
    assert bad.value.index == 1
    await sink.close()


async def test_no_row_is_at_fault_where_nothing_can_be_written(tmp_path: Path) -> None:
    sink = sk.SqliteSink(tmp_path / "db", "totals", key="product", setup=TOTALS)
    await sink.open()
    assert sink._connection is not None
    sink._connection.execute("pragma query_only = 1")  # as on a file system that was mounted anew
    with pytest.raises(sk.Unavailable, match="readonly"):
        await sink.write([sk.Row(Total("pump", 1.0))])
    sink._connection.execute("pragma query_only = 0")
    (tmp_path / "db").write_bytes(b"damaged " * 1000)
    with pytest.raises(sk.Unavailable, match=r"malformed|not a database"):
        await sink.write([sk.Row(Total("pump", 1.0))])
    await sink.close()


@pytest.mark.parametrize("path", ["gone/db", "a-file/db", "."])
async def test_a_place_where_no_database_can_be_ends_the_worker(tmp_path: Path, path: str) -> None:
    """Whoever waits for it to come waits for ever."""
    (tmp_path / "a-file").touch()
    sink = sk.SqliteSink(tmp_path / path, "totals", key="product", setup=TOTALS)
    with pytest.raises(UsageError, match="directory") as refused:
        await sink.open()
    assert "SqliteSink" in refused.value.hint
