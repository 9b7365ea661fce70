"""What a type checker knows after each operator, said by `assert_type`: mypy and pyright agree."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type

import msgspec

import streamkit as sk


class Order(msgspec.Struct):
    product: str
    amount: float


class User(msgspec.Struct):
    name: str
    company: str


class Company(msgspec.Struct):
    title: str


def product(order: Order) -> str:
    return order.product


app = sk.App("typed")
orders = app.topic("orders", key=str, value=Order)
totals = app.table("totals", key=str, default=float)

stream = app.stream(orders)
assert_type(stream, sk.Stream[str, Order])

# one record in, any number out
assert_type(stream.filter(lambda order: order.amount > 0), sk.Stream[str, Order])
assert_type(stream.peek(print), sk.Stream[str, Order])
assert_type(stream.map(lambda order: order.amount), sk.Stream[str, float])
assert_type(stream.map(lambda order, record: (record.key, order.product)), sk.Stream[str, tuple[str, str]])
assert_type(stream.flat_map(lambda order: [order.product, order.product]), sk.Stream[str, str])
assert_type(stream.map(product).map(len), sk.Stream[str, int])

# formats with a schema registry
avro = app.stream(app.topic("avro", key=str, value=sk.Avro(Order)))
assert_type(avro, sk.Stream[str, Order])
assert_type(avro.map(lambda order: order.amount), sk.Stream[str, float])
assert_type(app.topic("json", value=sk.JsonSchema(User)), sk.Topic[bytes | None, User])
assert_type(app.topic("avro-dicts", key=str, value=sk.Avro(schema="...")), sk.Topic[str, Any])

# other keys
assert_type(stream.group_by(lambda order: order.amount), sk.Stream[float, Order])
assert_type(stream.group_by(product).map(lambda order: order.amount), sk.Stream[str, float])

# windows
revenue = stream.group_by(product).window(sk.tumbling("1m")).aggregate(total=sk.Sum("amount"), n=sk.Count())
assert_type(revenue.late, sk.Stream[str, Order])
assert_type(revenue.map(lambda window: int(window["n"])), sk.Stream[str, int])
assert_type(revenue.filter(lambda window: window["n"] > 1), sk.Stream[str, dict[str, Any]])

# joins
clicks = app.stream(app.topic("clicks", key=str, value=int))
users = app.table_from(app.topic("users", key=str, value=User))
companies = app.table_from(app.topic("companies", key=str, value=Company))
assert_type(users, sk.TableStream[str, User])
assert_type(clicks.join(users, lambda click, user: (click, user.name)), sk.Stream[str, tuple[int, str]])
assert_type(
    clicks.join(users, lambda click, user: user.name if user else None, how="left"),
    sk.Stream[str, str | None],
)
priced = clicks.join(stream, lambda click, order: click * order.amount, within="1m")
assert_type(priced.map(lambda price: price), sk.Stream[str, float])
assert_type(priced.late, sk.Stream[str, int])
assert_type(priced.late_right, sk.Stream[str, Order])
assert_type(users.join(users, lambda a, b: a.name + b.name), sk.TableStream[str, str])
assert_type(
    users.join(companies, lambda user, company: company.title, on=lambda user: user.company),
    sk.TableStream[str, str],
)
assert_type(users.changes(), sk.Stream[str, sk.Change[User]])

# tables
assert_type(totals["pump"], float)
assert_type(totals.get("pump"), float | None)


@app.agent(orders)
async def in_stream_style(stream: sk.Stream[Any, Order]) -> AsyncIterator[str]:
    async for order in stream:
        assert_type(order, Order)
        yield order.product


@app.agent(orders)
async def in_record_style(order: Order) -> float | None:
    totals[order.product] += order.amount
    return totals[order.product]


@app.agent(orders)
def splitting(order: Order) -> Iterator[str]:
    yield order.product


@app.agent(orders, sink=[in_record_style, "stored"])
@sk.batch(100, max_wait="1s")
async def in_batches(orders: list[Order], records: list[sk.Record[str]]) -> list[int]:
    return [len(order.product) for order in orders]


@app.agent(orders)
@sk.batch(100)
async def in_silent_batches(orders: list[Order]) -> None: ...


assert_type(in_batches, sk.Agent[Order, int])
assert_type(in_silent_batches, sk.Agent[Order, None])
assert_type(in_stream_style, sk.Agent[Order, str])
assert_type(in_record_style, sk.Agent[Order, float | None])


async def asking() -> None:
    assert_type(await in_record_style.ask(Order("pump", 1.0)), float | None)
    async for length in in_batches.map([Order("pump", 1.0)], key=lambda order: order.product):
        assert_type(length, int)
