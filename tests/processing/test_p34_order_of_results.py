"""SEMANTICS P34: order="input" lets results leave in the order of the input, order="none" as they are ready;
either way a commit passes no record that is not done (P1).
"""

from __future__ import annotations

import asyncio

import pytest

import streamkit as sk
from streamkit.errors import UsageError
from streamkit.processing.tasks.inflight import InFlight, Order
from tests.processing.test_p01_commit_waits_for_records_in_flight import item


@pytest.mark.parametrize(
    ("order", "results"),
    [("input", [5, 1, 3, 2]), ("none", [1, 2, 3, 5])],
)
def test_results_leave_in_their_order(order: Order, results: list[int]) -> None:
    app = sk.App("orders")
    topic = app.topic("in", key=str, value=int)

    @app.agent(topic, sink="out", concurrency=4, order=order)
    async def work(n: int) -> int:
        await asyncio.sleep(n)
        return n

    with app.test() as t:
        t.send_all(topic, [(5, "a"), (1, "a"), (3, "a"), (2, "b")])
        assert t.read("out") == results
        assert t.committed(topic) == 4


@pytest.mark.parametrize("order", ["input", "none"])
def test_a_record_that_fails_holds_nobody_up(order: Order) -> None:
    app = sk.App("orders")
    topic = app.topic("in", value=int)

    @app.agent(topic, sink="out", concurrency=3, order=order, on_error=sk.Skip())
    async def work(n: int) -> int:
        await asyncio.sleep(1)
        if n == 1:
            raise ValueError(n)
        return n

    with app.test() as t:
        t.send_all(topic, [(n, None) for n in range(6)])
        assert t.read("out") == [0, 2, 3, 4, 5]
        assert t.committed(topic) == 6


def test_what_waits_for_its_turn_is_in_flight() -> None:
    flight = InFlight(2, "input")
    for offset in (10, 11, 12):
        flight.admit(item(offset, "k"))
    first, second = flight.take(), flight.take()
    assert first is not None and second is not None
    assert list(flight.done(second, "second")) == []
    assert flight.take() is None, "the second result waits for the first"
    assert flight.lowest(("in", 0)) == 10
    for one, _ in flight.done(first, "first"):
        flight.finish(one)
    assert flight.lowest(("in", 0)) == 12
    assert flight.take() is not None


def test_tables_need_order_per_key() -> None:
    app = sk.App("orders")
    counts = app.table("counts", default=int)

    @app.agent(app.topic("in", key=str), concurrency=2, order="none", tables=[counts])
    async def work(n: int) -> None: ...

    with pytest.raises(UsageError, match="two records of one key"):
        app.topology()
