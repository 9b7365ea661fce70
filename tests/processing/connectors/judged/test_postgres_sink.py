"""PostgreSQL by upsert, judged by a real one: replays, deletes, bad rows, and a server that goes away."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import hashlib
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
import psycopg
import pytest

import streamkit as sk
from streamkit.errors import UsageError
from tests.processing.connectors.outflows import one_task
from tests.support.postgres_process import PostgresProcess, programs

pytestmark = [
    pytest.mark.connectors,
    pytest.mark.skipif(programs() is None, reason="no PostgreSQL here"),
]

TOTALS = """
create table if not exists totals (product text primary key, total numeric check (total < 100), tags jsonb)
"""


class Total(msgspec.Struct):
    product: str
    total: float
    tags: list[str] = []


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresProcess]:
    process = PostgresProcess()
    try:
        yield process.start()
    finally:
        process.close()


@pytest.fixture(autouse=True)
def empty(server: PostgresProcess) -> None:
    rows(server, "drop table if exists totals, board, kinds, log")


def rows(server: PostgresProcess, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(server.url, autocommit=True) as connection:
        cursor = connection.execute(query)
        return cursor.fetchall() if cursor.description else []


def totals_app(server: PostgresProcess) -> sk.App:
    app = sk.App("totals")
    sink = sk.PostgresSink(server.url, "public.totals", key="product", setup=TOTALS, max_wait=0)
    app.stream(app.topic("totals", value=Total)).to(sink, on_error=sk.DeadLetter("dead"))
    return app


async def test_rows_are_found_by_their_key(server: PostgresProcess) -> None:
    made = [Total("pump", 1.0), Total("hose", 2.0, ["new"]), Total("pump", 3.0)]
    for _ in range(2):  # and once more, as after a crash
        async with one_task(totals_app(server)) as one:
            one.offer(made)
            await one.until_committable(3)
    assert rows(server, "select product, total, tags from totals order by total") == [
        ("hose", 2, ["new"]),
        ("pump", 3, []),
    ]


async def test_a_row_at_fault_goes_and_the_others_stay(server: PostgresProcess) -> None:
    values: list[Any] = [Total(f"p{n}", n) for n in range(8)]
    values[2], values[5] = Total("p2", 1000), Total("p\0", 5)
    async with one_task(totals_app(server)) as one:
        one.offer(values)
        await one.until_committable(8)
    assert [total for (total,) in rows(server, "select total from totals order by 1")] == [0, 1, 3, 4, 6, 7]
    assert one.letters == [msgspec.json.encode(values[2]), msgspec.json.encode(values[5])]


async def test_a_null_deletes_and_the_record_key_is_the_column(server: PostgresProcess) -> None:
    app = sk.App("board")
    setup = "create table if not exists board (who text primary key, value text)"
    sink = sk.PostgresSink(server.url, "board", key="who", setup=setup, max_wait=0)
    app.table_from(app.topic("names", key=str, value=str)).to(sink)
    async with one_task(app) as one:
        one.offer(["Ann"], key=b"a")
        one.offer(["Bob"], key=b"b", first=1)
        one.offer([None], key=b"a", first=2)
        await one.until_committable(3)
    assert rows(server, "select * from board") == [("b", "Bob")]


async def test_the_place_of_a_record_as_key_keeps_each_once(server: PostgresProcess) -> None:
    setup = (
        'create table if not exists log (topic text, partition int, "offset" bigint, value text, '
        'primary key (topic, partition, "offset"))'
    )
    app, key = sk.App("log"), ("topic", "partition", "offset")
    app.stream(app.topic("lines", value=str)).to(
        sk.PostgresSink(server.url, "log", key=key, setup=setup, max_wait=0)
    )
    for _ in range(2):
        async with one_task(app) as one:
            one.offer(["x", "x"])
            await one.until_committable(2)
    assert rows(server, "select * from log") == [("lines", 0, 0, "x"), ("lines", 0, 1, "x")]


async def test_a_server_that_goes_away_is_waited_for(
    server: PostgresProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamkit.processing.worker.outflows.FIRST_PAUSE_S", 0.01)
    async with one_task(totals_app(server)) as one:
        one.offer([Total("pump", 1.0)])
        await one.until_committable(1)
        server.kill()
        one.offer([Total("hose", 2.0)], first=1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await one.until_committable(2)
        await asyncio.to_thread(server.start)
        await one.until_committable(2)
    assert (len(rows(server, "select * from totals")), one.letters) == (2, [])


async def test_a_deadlock_is_offered_again(server: PostgresProcess) -> None:
    rows(server, TOTALS)
    sinks = [sk.PostgresSink(server.url, "totals", key="product") for _ in range(2)]
    names = [[f"p{n}" for n in range(200)], [f"p{n}" for n in reversed(range(200))]]

    async def write(sink: sk.PostgresSink, products: list[str]) -> None:
        await sink.open()
        for _ in range(5):
            while True:
                try:
                    await sink.write([sk.Row(Total(product, 1)) for product in products])
                    break
                except sk.Unavailable:
                    continue
        await sink.close()

    await asyncio.gather(*(write(*one) for one in zip(sinks, names, strict=True)))
    assert rows(server, "select count(*) from totals") == [(200,)]


@pytest.mark.parametrize("setup", [None, "create table board (product text)"])
async def test_a_table_that_does_not_fit_is_refused(server: PostgresProcess, setup: str | None) -> None:
    with pytest.raises(UsageError) as refused:
        await sk.PostgresSink(server.url, "board", key="product", setup=setup).open()
    assert 'primary key ("product")' in refused.value.hint


async def test_values_of_every_kind_have_a_place(server: PostgresProcess) -> None:
    class Kinds(msgspec.Struct):
        id: uuid.UUID
        at: datetime.datetime
        amount: decimal.Decimal
        data: bytes
        text: str
        none: None
        flag: bool
        nested: dict[str, int]

    types = "id uuid primary key, at timestamptz, amount numeric, data bytea, text text, none int, flag bool"
    at = datetime.datetime(2026, 11, 23, tzinfo=datetime.UTC)
    value = Kinds(uuid.UUID(int=1), at, decimal.Decimal("1.10"), b"\0", "a'; drop", None, True, {"n": 1})
    sink = sk.PostgresSink(server.url, "kinds", key="id", setup=f"create table kinds ({types}, nested jsonb)")
    await sink.open()
    await sink.write([sk.Row(value)])
    await sink.close()
    assert rows(server, "select * from kinds") == [tuple(getattr(value, f) for f in value.__struct_fields__)]


async def test_a_row_beyond_the_limits_is_at_fault_and_the_others_stay(server: PostgresProcess) -> None:
    random_text = "".join(hashlib.sha256(b"%d" % n).hexdigest() for n in range(200))  # does not compress
    async with one_task(totals_app(server)) as one:
        one.offer([Total("pump", 1.0), Total(random_text, 2.0), Total("hose", 3.0)])
        await one.until_committable(3)
    assert rows(server, "select product from totals order by 1") == [("hose",), ("pump",)]
    assert len(one.letters) == 1


async def test_columns_have_any_name(server: PostgresProcess) -> None:
    setup = 'create table if not exists kinds (key int primary key, "a.b" int, "50%s" int)'
    sink = sk.PostgresSink(server.url, "kinds", setup=setup)
    await sink.open()
    await sink.write([sk.Row({"key": 1, "a.b": 2, "50%s": 3})])
    await sink.close()
    assert rows(server, "select * from kinds") == [(1, 2, 3)]


async def test_a_server_that_only_reads_is_no_fault_of_a_row(server: PostgresProcess) -> None:
    setup = "create table if not exists kinds (key int primary key)"
    sink = sk.PostgresSink(server.url, "kinds", setup=setup)
    await sink.open()
    await sink._connection.execute("set default_transaction_read_only = on")  # as after a failover
    with pytest.raises(sk.Unavailable, match="read-only"):
        await sink.write([sk.Row({"key": 1})])
    await sink.write([sk.Row({"key": 1})])  # over a new connection
    await sink.close()
    assert rows(server, "select * from kinds") == [(1,)]


async def test_a_connection_string_that_cannot_be_read_is_not_told() -> None:
    sink = sk.PostgresSink("postgres:/ann:secret@db/shop", "t")
    with pytest.raises(UsageError, match="cannot be read") as refused:
        await sink.open()
    assert "secret" not in str(refused.value) + refused.value.hint
