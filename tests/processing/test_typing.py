"""The types flow: mypy knows what comes out of each operator, and objects where they do not fit."""

from __future__ import annotations

from pathlib import Path

from mypy import api

PROGRAM = """
from __future__ import annotations
from collections.abc import AsyncIterator
import msgspec
import streamkit as sk

class Order(msgspec.Struct):
    product: str
    amount: float

app = sk.App("shop")
orders = app.topic("orders", value=Order, key=str)
stream = app.stream(orders, time=lambda o: o.amount)
reveal_type(stream.map(lambda o: o.amount))
reveal_type(stream.map(lambda o, r: (r.key, o.product)))
reveal_type(stream.flat_map(lambda o: [o.product]).filter(lambda p: p.islower()))
reveal_type(stream.group_by(lambda o: o.amount))
results = stream.window(sk.tumbling("1m")).aggregate(n=sk.Count())
reveal_type(results)
reveal_type(results.late)
totals = app.table("totals", default=float, key=str)
reveal_type(totals["a"])
class User(msgspec.Struct):
    name: str

users = app.table_from(app.topic("users", key=str, value=User))
clicks = app.stream(app.topic("clicks", key=str, value=int))
reveal_type(clicks.join(users, lambda click, user: (click, user.name)))
reveal_type(clicks.join(users, lambda click, user: user and user.name, how="left"))
joined = clicks.join(stream, lambda click, order: order.amount + click, within="1m")
reveal_type(joined)
reveal_type(joined.late)
reveal_type(joined.late_right)
reveal_type(users.join(users, lambda a, b: a.name))
reveal_type(users.changes())
reveal_type(stream.window(sk.session("1m")).aggregate(top=sk.TopN("amount"), s=sk.Std(lambda o: o.amount)))

@app.agent(orders)
async def audit(stream: sk.Stream[Order]) -> None:
    async for order in stream:
        reveal_type(order.amount)

@app.agent(orders)
async def price(order: Order) -> float | None:
    return order.amount

@app.agent(orders, sink=[price, print])
async def each(stream: sk.Stream[Order]) -> AsyncIterator[Order]:
    async for order in stream:
        yield order

@app.agent()
def count(order: Order, record: sk.Record[str]) -> int:
    return 1

async def ask() -> None:
    reveal_type(await price.ask(Order("pump", 1.0)))
    async for reply in each.map([Order("pump", 1.0)]):
        reveal_type(reply)

reveal_type(audit)
reveal_type(price)
reveal_type(each)
reveal_type(count)
stream.map(lambda o: o.missing)
"""

REVEALED = (
    "Stream[str, float]",
    "Stream[str, tuple[str, str]]",
    "Stream[str, str]",
    "Stream[float, program.Order]",
    "WindowResults[str, program.Order]",
    "Stream[str, program.Order]",
    "float",
    "Stream[str, tuple[int, str]]",
    "Stream[str, program.User | None | str]",
    "JoinResults[str, int, program.Order, float]",
    "Stream[str, int]",
    "Stream[str, program.Order]",
    "TableStream[str, str]",
    "Stream[str, streamkit.processing.operators.tables.Change[program.User]]",
    "WindowResults[str, program.Order]",
    "float",
    "float | None",
    "program.Order",
    "Agent[program.Order, None]",
    "Agent[program.Order, float | None]",
    "Agent[program.Order, program.Order]",
    "Agent[program.Order, int]",
)


def test_types_flow(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    out, errors, _ = api.run(
        ["--cache-dir", str(tmp_path / "cache"), "--follow-imports=silent", str(program)]
    )
    assert not errors
    notes = [line for line in out.splitlines() if "Revealed type" in line]
    assert len(notes) == len(REVEALED), out
    for note, wanted in zip(notes, REVEALED, strict=True):
        assert wanted in note.replace("streamkit.processing.stream.", "").replace(
            "streamkit.processing.table_stream.", ""
        ).replace("builtins.", ""), note
    problems = [line for line in out.splitlines() if "error:" in line]
    assert all("missing" in line for line in problems) and problems, out
