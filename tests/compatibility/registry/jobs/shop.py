"""A job whose topics have schemas: what comes in each format goes out in it, a little changed."""

from __future__ import annotations

import os
from typing import Any

import msgspec

import streamkit as sk
from tests.processing.schemas.confluents import Move


class Order(msgspec.Struct):
    product: str
    amount: float
    note: str | None = None


class Click(msgspec.Struct):
    page: str
    ms: int = 0


NAME = os.environ["NAME"]
app = sk.App(NAME)  # the registry is in the environment

orders = app.topic(f"{NAME}-orders", key=str, value=sk.Avro(Order))
clicks = app.topic(f"{NAME}-clicks", value=sk.JsonSchema(Click))
moves = app.topic(f"{NAME}-moves", value=sk.Protobuf(Move))


def more(order: Order) -> Order:
    return msgspec.structs.replace(order, amount=order.amount * 2)


def later(click: Click) -> Click:
    return msgspec.structs.replace(click, ms=click.ms + 1)


def further(move: Any) -> Any:
    return Move(unit=move.unit, x=move.x + 1)


app.stream(orders).map(more).to(app.topic(f"{NAME}-orders-out", key=str, value=sk.Avro(Order)))
app.stream(clicks).map(later).to(app.topic(f"{NAME}-clicks-out", value=sk.JsonSchema(Click)))
app.stream(moves).map(further).to(app.topic(f"{NAME}-moves-out", value=sk.Protobuf(Move)))
