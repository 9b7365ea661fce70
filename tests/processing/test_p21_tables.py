"""SEMANTICS P21 and the table joins of Kafka Streams' documentation."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest

import streamkit as sk
from streamkit.errors import UsageError

Rows = list[tuple[int, str, str | None, str, str, str]]
SKIP = ""  # nothing is said; "null" is a tombstone
ROWS: Rows = [
    # ts, side, value, inner, left, outer
    (1, "L", None, SKIP, SKIP, SKIP),
    (2, "R", None, SKIP, SKIP, SKIP),
    (3, "L", "A", SKIP, "A-None", "A-None"),
    (4, "R", "a", "A-a", "A-a", "A-a"),
    (5, "L", "B", "B-a", "B-a", "B-a"),
    (6, "R", "b", "B-b", "B-b", "B-b"),
    (7, "L", None, "null", "null", "None-b"),
    (8, "R", None, SKIP, SKIP, "null"),
    (9, "L", "C", SKIP, "C-None", "C-None"),
    (10, "R", "c", "C-c", "C-c", "C-c"),
    (11, "R", None, "null", "C-None", "C-None"),
    (12, "L", None, SKIP, "null", "null"),
    (13, "R", None, SKIP, SKIP, SKIP),
    (14, "R", "d", SKIP, SKIP, "None-d"),
    (15, "L", "D", "D-d", "D-d", "D-d"),
]


class Row(msgspec.Struct):
    name: str


@pytest.mark.parametrize("how", ["inner", "left", "outer"])
@pytest.mark.parametrize("restarting", [False, True])
def test_table_with_table(how: Literal["inner", "left", "outer"], restarting: bool) -> None:
    app = sk.App(f"tables-{how}")
    left = app.table_from(app.topic("left", key=str, value=str))
    right = app.table_from(app.topic("right", key=str, value=str))
    joined = left.join(right, lambda a, b: f"{a}-{b}", how=how)  # type: ignore[call-overload]
    joined.to("out")
    with app.test() as t:
        for ts, side, value, *results in ROWS:
            t.send("left" if side == "L" else "right", value, key="k", ts=ts)
            wanted = results[("inner", "left", "outer").index(how)]
            expected: list[Any] = [None if wanted == "null" else wanted] if wanted != SKIP else []
            assert t.read("out") == expected, ts
            if restarting:
                t.restart()


@pytest.mark.parametrize("how", ["inner", "left"])
def test_stream_with_table(how: Literal["inner", "left"]) -> None:
    app = sk.App(f"lookup-{how}")
    stream = app.stream(app.topic("left", key=str))
    table = app.table_from(app.topic("right", key=str, value=str))
    joined = stream.join(table, lambda a, b: f"{a}-{b}", how=how)  # type: ignore[call-overload]
    joined.to("out")
    wanted = {3: "A-None", 5: "B-a", 9: "C-None", 15: "D-d"}
    with app.test() as t:
        for ts, side, value, *_ in ROWS:
            t.send("left" if side == "L" else "right", value, key="k", ts=ts)
            expected = [wanted[ts]] if ts in wanted and (how == "left" or "None" not in wanted[ts]) else []
            assert t.read("out") == expected, ts


def test_after_a_tombstone_records_miss_restored_or_not() -> None:
    app = sk.App("gone")
    users = app.table_from(app.topic("users", key=str, value=Row))
    clicks = app.stream(app.topic("clicks", key=str, value=int))
    clicks.join(users, lambda click, user: (click, user.name)).to("out")
    with app.test() as t:
        t.send("users", Row("ann"), key="a", ts=1)
        t.send("clicks", 1, key="a", ts=2)
        t.send("users", None, key="a", ts=3)
        t.send("clicks", 2, key="a", ts=4)
        t.restart()
        t.send("clicks", 3, key="a", ts=5)
        assert t.read("out") == [[1, "ann"]]
        t.send("users", Row("ann again"), key="a", ts=6)
        t.restart()
        t.send("clicks", 4, key="a", ts=7)
        assert t.read("out") == [[4, "ann again"]]


def test_a_versioned_table_is_read_as_of_the_record() -> None:
    app = sk.App("versions")
    prices = app.table_from(app.topic("prices", key=str, value=int), history="100s")
    orders = app.stream(app.topic("orders", key=str, value=str))
    orders.join(prices, lambda order, price: (order, price), how="left").to("out")
    with app.test() as t:
        for ts, price in ((10, 1), (20, 2), (30, None), (40, 4), (15, 15)):  # the last is out of order
            t.send("prices", price, key="p", ts=ts)
        t.restart()
        for ts in (9, 10, 14, 15, 19, 20, 30, 40, 500):
            t.send("orders", f"{ts}", key="p", ts=ts)
        seen = [price for _, price in t.read("out")]
        assert seen == [None, 1, 1, 15, 15, 2, None, 4, 4]
        t.send("prices", 5, key="p", ts=141)  # 40 is the version that was valid at 41
        t.send("orders", "old", key="p", ts=39)
        t.send("orders", "kept", key="p", ts=42)
        assert t.read("out") == [["old", None], ["kept", 4]]


@pytest.mark.parametrize("restarting", [False, True])
def test_a_deleted_row_is_not_brought_back_by_one_that_came_before_the_delete(restarting: bool) -> None:
    app = sk.App("versions")
    prices = app.table_from(app.topic("prices", key=str, value=int), history="100s")
    orders = app.stream(app.topic("orders", key=str, value=str))
    orders.join(prices, lambda order, price: price, how="left").map(lambda price: [price]).to("out")
    prices.changes().map(lambda change: change.new).to("changes")
    with app.test() as t:
        t.send("prices", None, key="p", ts=50)
        if restarting:
            t.restart()
        t.send("prices", 30, key="p", ts=30)
        for ts in (29, 40, 50, 60):
            t.send("orders", "", key="p", ts=ts)
        assert t.read("out") == [[None], [30], [None], [None]]
        assert t.read("changes") == [], "it is of the past"


def test_changes_as_a_stream() -> None:
    app = sk.App("changes")
    users = app.table_from(app.topic("users", key=str, value=Row))
    users.changes().map(lambda change: [r and r.name for r in (change.old, change.new)]).to("out")
    with app.test() as t:
        for row in (None, Row("a"), Row("b"), None, None):
            t.send("users", row, key="k")
        assert t.read("out") == [[None, "a"], ["a", "b"], ["b", None]]


def test_tables_of_tables_are_read_through() -> None:
    app = sk.App("deep")
    a, b, c = (app.table_from(app.topic(name, key=str, value=str)) for name in "abc")
    stream = app.stream(app.topic("s", key=str, value=str))
    ab = a.join(b, lambda x, y: x + y)
    abc = ab.join(c, lambda x, y: x + y)
    abc.to("rows")
    stream.join(abc, lambda x, y: x + y).to("out")
    with app.test() as t:
        for name in "abc":
            t.send(name, name, key="k")
        t.send("s", "s", key="k")
        t.send("b", "B", key="k")
        t.send("a", None, key="k")
        t.send("s", "s", key="k")
        assert t.read("rows") == ["abc", "aBc", None]
        assert t.read("out") == ["sabc"]


def test_windows_as_a_table() -> None:
    app = sk.App("windowed")
    stream = app.stream(app.topic("in", key=str, value=int))
    latest = stream.window(sk.tumbling("10s")).aggregate(emit="on_update", n=sk.Count()).to_table()
    stream.join(latest, lambda value, window: (value, window["n"])).to("out")
    with app.test() as t:
        for value in (1, 2, 3):
            t.send("in", value, key="k", ts=value)
        assert t.read("out") == [[1, 1], [2, 2], [3, 3]]


def test_a_lookup_does_not_wait_for_the_table_s_clock() -> None:
    """P14: a table that says nothing new holds no window open."""
    app = sk.App("clocks")
    users = app.table_from(app.topic("users", key=str, value=Row))
    clicks = app.stream(app.topic("clicks", key=str, value=int))
    joined = clicks.join(users, lambda click, user: click, how="left")
    joined.window(sk.tumbling("10s")).aggregate(n=sk.Count()).to("out")
    with app.test() as t:
        t.send("clicks", 1, key="k", ts=1)
        t.send("clicks", 1, key="k", ts=11)
        assert [r["n"] for r in t.read("out")] == [1]


def test_what_a_table_join_does_not_know_is_refused() -> None:
    app = sk.App("refused")
    table = app.table_from(app.topic("t", key=str, value=str))
    stream = app.stream(app.topic("s", key=str, value=str))
    with pytest.raises(UsageError, match="within="):
        stream.join(table, lambda a, b: a, within="1s")  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="within="):
        stream.join(stream, lambda a, b: a)  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="a table needs a stream that is partitioned"):
        app.table_from("plain")
