"""Whoever forgets the keys of their records is told so, once."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

import streamkit as sk
from streamkit.processing.worker.keyless import Keyless


def windowed(orders: sk.Stream[str, Any], app: sk.App) -> None:
    orders.window(sk.tumbling("1m")).aggregate(n=sk.Count())


def processed(orders: sk.Stream[str, Any], app: sk.App) -> None:
    orders.process(lambda value, context: None)


def joined(orders: sk.Stream[str, Any], app: sk.App) -> None:
    orders.join(app.stream(app.topic("paid", key=str, value=dict)), lambda a, b: a, within="1s")


def looked_up(orders: sk.Stream[str, Any], app: sk.App) -> None:
    orders.join(app.table_from(app.topic("rows", key=str, value=dict)), lambda order, row: order)


def grouped(orders: sk.Stream[str, Any], app: sk.App) -> None:
    orders.group_by(lambda order: None)


@pytest.mark.parametrize(
    ("build", "told"),
    [(windowed, 1), (processed, 1), (joined, 1), (looked_up, 1), (grouped, 0)],
)
def test_records_without_a_key_are_told_of_once(build: Any, told: int) -> None:
    app = sk.App("shop")
    orders = app.topic("orders", key=str, value=dict)
    build(app.stream(orders), app)
    keyless = Keyless()
    with app.test() as t, capture_logs() as said:
        t.send(orders, {"n": 1}, key="ann")
        keyless.look(t.tasks)
        assert said == []
        for _ in range(2):
            t.send(orders, {"n": 1})
            keyless.look(t.tasks)
    assert len(said) == told
    if told:
        assert said[0]["event"] == "records without a key are passed over"
        assert (said[0]["log_level"], said[0]["records"]) == ("warning", 1)
        assert "orders-0" in said[0]["reads"]
