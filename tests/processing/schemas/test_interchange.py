"""What confluent-kafka's serializers write, apps read, typed; and what apps write, theirs read."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import msgspec
import pydantic
import pytest

import streamkit as sk
from streamkit.processing.testing import TopologyDriver
from tests.processing.schemas.confluents import CLICK, ORDER, Move, Theirs, in_memory

AT = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.UTC)


class Order(msgspec.Struct):
    product: str
    amount: float
    at: datetime.datetime
    note: str | None = None


@dataclasses.dataclass
class OrderData:
    product: str
    amount: float
    at: datetime.datetime
    note: str | None = None


class OrderModel(pydantic.BaseModel):
    product: str
    amount: float
    at: datetime.datetime
    note: str | None = None


class Click(msgspec.Struct):
    page: str
    ms: int = 0


def left(t: TopologyDriver, topic: str) -> list[bytes | None]:
    """The bytes of a topic's values."""
    return [record.value() for record in t._log.in_order(topic)]


@pytest.mark.parametrize("cls", [Order, OrderData, OrderModel])
def test_avro_comes_in_typed_and_goes_out_as_others_read_it(cls: type[Any]) -> None:
    theirs = Theirs(in_memory())
    app = sk.App("shop", schema_registry=theirs.client)
    orders = app.topic("orders", value=sk.Avro(cls))
    app.stream(orders).filter(lambda order: order.amount > 1).to(app.topic("big", value=sk.Avro(cls)))
    with app.test() as t:
        for amount in (5.0, 0.5):
            written = {"product": "pump", "amount": amount, "at": AT, "colour": "red"}
            t.send(orders, theirs.avro("orders", written))
        assert t.read("big") == [cls(product="pump", amount=5.0, at=AT)]
        (data,) = left(t, "big")
        assert data is not None
        assert theirs.from_avro("big", data) == {"product": "pump", "amount": 5.0, "at": AT, "note": None}
        assert sorted(t.schema_registry.get_subjects()) == ["big-value", "orders-value"]
        assert t.schema_registry.get_versions("orders-value") == [1], "who reads registers nothing"


def test_avro_by_a_schema_of_somebody_else_is_dicts_or_typed() -> None:
    theirs = Theirs(in_memory())
    app = sk.App("shop", schema_registry=theirs.client)
    orders = app.topic("orders", value=sk.Avro(schema=ORDER))
    app.stream(orders).map(lambda order: {**order, "colour": "blue"}).to(
        app.topic("blue", value=sk.Avro(schema=ORDER))
    )
    app.stream(app.topic("any", value=sk.Avro())).to("seen")
    typed = app.topic("typed", value=sk.Avro(Order, schema=ORDER))
    app.stream(typed).map(lambda order: order.product).to("products")
    order = {"product": "pump", "amount": 5.0, "at": AT, "colour": "red"}
    with app.test() as t:
        t.send(orders, theirs.avro("orders", order))
        (data,) = left(t, "blue")
        assert data is not None
        assert theirs.from_avro("blue", data) == {**order, "colour": "blue"}
        t.send(typed, theirs.avro("typed", order))
        assert t.read("products") == ["pump"]


def test_a_result_that_does_not_fit_its_schema_is_an_error_of_its_record() -> None:
    app = sk.App("shop", on_error=sk.DeadLetter("bad"))
    orders = app.topic("orders", value=dict)
    app.stream(orders).to(app.topic("avro", value=sk.Avro(schema=ORDER)))
    app.stream(orders).to(app.topic("json", value=sk.JsonSchema(schema=CLICK)))
    with app.test() as t:
        t.send(orders, {"product": "pump", "amount": "much", "page": 7})
        t.send(orders, {"product": "pump", "amount": 1.0, "at": 0, "colour": "red", "page": "/"})
        assert len(t.read("avro")) == len(t.read("json")) == 1
        assert len(t.read("bad")) == 2


def test_a_small_table_of_every_key_may_have_a_schema() -> None:
    app = sk.App("fx")
    rates = app.global_table(app.topic("rates", key=sk.Avro(str), value=sk.Avro(float)))
    app.stream(app.topic("payments", value=float)).join(
        rates, lambda amount, rate: amount * rate, on=lambda _: "GBP"
    ).to("eur")
    with app.test() as t:
        t.send("rates", 0.5, key="GBP")
        t.send("payments", 10.0)
        assert t.read("eur") == [5.0]


def test_json_schema_both_ways() -> None:
    theirs = Theirs(in_memory())
    app = sk.App("clicks", schema_registry=theirs.client)
    clicks = app.topic("clicks", value=sk.JsonSchema(Click))
    plain = app.topic("plain", value=sk.JsonSchema(schema=CLICK), key=sk.JsonSchema(int))
    app.stream(clicks).map(lambda click: {"page": click.page, "ms": click.ms + 1}).group_by(
        lambda click: click["ms"]
    ).to(plain)
    app.stream(plain).to(app.topic("typed", value=sk.JsonSchema(Click)))
    with app.test() as t:
        t.send(clicks, theirs.json("clicks", {"page": "/", "ms": 1}))
        assert [(r.key, r.value) for r in t.records(plain)] == [(2, {"page": "/", "ms": 2})]
        (data,) = left(t, "typed")
        assert data is not None
        assert theirs.from_json("typed", data) == {"page": "/", "ms": 2}


def test_protobuf_both_ways() -> None:
    theirs = Theirs(in_memory())
    app = sk.App("game", schema_registry=theirs.client)
    moves = app.topic("moves", value=sk.Protobuf(Move))

    def further(move: Any) -> Any:
        return Move(unit=move.unit, x=move.x + 1)

    app.stream(moves).map(further).to(app.topic("further", value=sk.Protobuf(Move)))
    with app.test() as t:
        t.send(moves, theirs.protobuf("moves", Move(unit="knight", x=3)))
        (data,) = left(t, "further")
        assert data is not None
        assert data[5:7] == b"\x02\x02", "the second message of its file"
        assert theirs.from_protobuf("further", data, Move) == Move(unit="knight", x=4)
        assert t.read("further") == [Move(unit="knight", x=4)]


def test_what_the_app_keeps_needs_no_registry() -> None:
    """Tables, windows and repartition topics of every format, over a restart."""
    theirs = Theirs(in_memory())
    app = sk.App("kept", schema_registry=theirs.client)
    orders = app.topic("orders", key=sk.Avro(str), value=sk.Avro(schema=ORDER))
    moves = app.topic("moves", key=str, value=sk.Protobuf(Move))
    latest = app.table("latest", key=str, value=sk.Protobuf(Move))
    app.table_from(orders).to("rows")
    app.stream(orders).group_by(lambda order: order["product"]).window(sk.tumbling("1m")).aggregate(
        total=sk.Sum(lambda order: order["amount"])
    ).map(lambda window: window["total"]).to("totals")

    @app.agent(moves, tables=[latest], sink="jumps")
    def jump(move: Any, record: sk.Record[str]) -> int:
        before = latest.get(record.key)
        latest[record.key] = move
        return int(move.x - (before.x if before else 0))

    order = {"product": "pump", "amount": 5.0, "at": AT, "colour": "red"}
    with app.test() as t:
        t.send(orders, order, key="ann", ts=1)
        t.send(moves, Move(unit="a", x=3), key="a")
        t.restart()
        t.send(moves, Move(unit="a", x=10), key="a")
        t.send(orders, order, key="bob", ts=2)
        t.advance_to(1000)
        assert t.read("totals") == [10.0]
        assert t.read("jumps") == [3, 7]
        subjects = t.schema_registry.get_subjects()
        assert sorted(subjects) == ["moves-value", "orders-key", "orders-value"], "those that the test wrote"
