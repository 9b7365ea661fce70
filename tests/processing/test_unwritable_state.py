"""A state that holds what nobody can write says which state it is."""

from __future__ import annotations

import pytest

import streamkit as sk
from streamkit.errors import StreamkitError


def test_a_table_that_holds_what_cannot_be_written() -> None:
    app = sk.App("shop")
    orders = app.topic("orders", key=str, value=dict)
    seen = app.table("seen", key=str, default=dict)

    @app.agent(orders)
    def see(order: dict[str, int], record: sk.Record[str]) -> None:
        seen[record.key]["at"] = object()

    with (
        app.test() as t,
        pytest.raises(StreamkitError, match="the state seen holds what cannot be written") as e,
    ):
        t.send(orders, {}, key="ann")
    assert "app.table(..., value=T)" in e.value.hint
