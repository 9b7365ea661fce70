"""SEMANTICS P22: a row that moves to another parent: its old result is taken back first, for good."""

from __future__ import annotations

import random
from typing import Any, Literal

import msgspec
import pytest

import streamkit as sk
from streamkit.errors import UsageError

pytestmark = pytest.mark.usefixtures("each_store")


class Order(msgspec.Struct):
    customer: str | None
    amount: int


def build(how: Literal["inner", "left"] = "inner") -> sk.App:
    app = sk.App(f"foreign-{how}")
    orders = app.table_from(app.topic("orders", key=int, value=Order, partitions=3))
    customers = app.table_from(app.topic("customers", key=str, value=str, partitions=2))
    joined = orders.join(customers, lambda o, c: f"{c} {o.amount}", on=lambda o: o.customer, how=how)  # type: ignore[call-overload]
    joined.to(app.topic("out", key=int, value=str))
    joined.changes().map(lambda change: (change.old, change.new)).to("changes")
    return app


def test_a_row_that_moves_and_one_that_goes() -> None:
    with build().test() as t:
        t.send("customers", "Ann", key="a")
        t.send("customers", "Bob", key="b")
        t.send("orders", Order("a", 1), key=1)
        t.send("orders", Order("b", 1), key=1)
        t.restart()
        t.send("customers", "Anna", key="a")  # nobody points there now
        t.send("customers", "Bobby", key="b")
        t.send("orders", Order("nobody", 1), key=1)
        t.send("orders", Order("a", 2), key=1)
        t.send("customers", None, key="a")
        t.restart()
        t.send("customers", "Ann", key="a")
        t.send("orders", None, key=1)
        assert t.read("changes") == [
            [None, "Ann 1"], ["Ann 1", "Bob 1"], ["Bob 1", "Bobby 1"], ["Bobby 1", None],
            [None, "Anna 2"], ["Anna 2", None], [None, "Ann 2"], ["Ann 2", None],
        ]  # fmt: skip
        assert {seen.key for seen in t.records("out")} == {1}


def test_a_left_join_keeps_rows_without_a_parent() -> None:
    with build("left").test() as t:
        t.send("orders", Order(None, 1), key=1)
        t.send("orders", Order("a", 1), key=1)
        t.send("customers", "Ann", key="a")
        t.send("orders", Order(None, 1), key=1)
        t.send("orders", None, key=1)
        assert t.read("out") == ["None 1", "None 1", "Ann 1", "None 1", None]


def test_an_answer_for_an_older_row_is_dropped() -> None:
    from streamkit.processing.serde import STR
    from streamkit.processing.state.foreign_keys import Answer, Results
    from streamkit.processing.state.memory import MemoryStore

    results = Results(STR, STR, MemoryStore())
    results.keep("k", gone := Answer(5, None), None, 100)
    assert not results.is_current("k", Answer(4, b"stale")) and results.is_current("k", gone)
    results.advance(100, 0)
    assert not results.is_current("k", Answer(4, b"stale"))
    results.advance(101, 0)
    assert len(results) == 0, "all right tasks are past it"


@pytest.mark.parametrize("seed", range(4))
def test_in_the_end_the_batch_answer(seed: int) -> None:
    rng = random.Random(seed)
    orders: dict[int, Order | None] = {}
    customers: dict[str, str | None] = {}
    with build("left").test() as t:
        for step in range(60):
            if rng.random() < 0.6:
                key = rng.randrange(6)
                orders[key] = None if rng.random() < 0.2 else Order(rng.choice([None, "a", "b", "c"]), step)
                t.send("orders", orders[key], key=key)
            else:
                name = rng.choice("abc")
                customers[name] = None if rng.random() < 0.3 else f"{name}{step}"
                t.send("customers", customers[name], key=name)
            if rng.random() < 0.1:
                t.restart()
        latest: dict[Any, Any] = {seen.key: seen.value for seen in t.records("out")}
    wanted = {k: f"{customers.get(o.customer or '')} {o.amount}" for k, o in orders.items() if o is not None}
    assert {k: v for k, v in latest.items() if v is not None} == wanted


def test_outer_is_refused() -> None:
    app = sk.App("outer")
    a, b = (app.table_from(app.topic(name, key=str, value=str)) for name in "ab")
    with pytest.raises(UsageError, match="foreign key"):
        a.join(b, lambda x, y: x, on=lambda x: x, how="outer")  # type: ignore[call-overload]
