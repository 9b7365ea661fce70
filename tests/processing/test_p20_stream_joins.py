"""SEMANTICS P20: the join table of Kafka Streams' documentation, and nulls only when nothing more can come.

One difference, on purpose: Kafka tells a lonely record after its own window and grace. Here a partner may
itself be out of order by its own window, so the lonely one waits for that too, and never is followed by a
pair.
"""

from __future__ import annotations

import random
from typing import Any, Literal

import pytest

import streamkit as sk
from streamkit.errors import UsageError

pytestmark = pytest.mark.usefixtures("each_store")

How = Literal["inner", "left", "outer"]
ROWS: list[tuple[int, str, str | None, list[str]]] = [
    (1, "L", None, []),
    (2, "R", None, []),
    (3, "L", "A", []),
    (4, "R", "a", ["A-a"]),
    (5, "L", "B", ["B-a"]),
    (6, "R", "b", ["A-b", "B-b"]),
    (7, "L", None, []),
    (8, "R", None, []),
    (9, "L", "C", ["C-a", "C-b"]),
    (10, "R", "c", ["A-c", "B-c", "C-c"]),
    (11, "R", None, []),
    (12, "L", None, []),
    (13, "R", None, []),
    (14, "R", "d", ["A-d", "B-d", "C-d"]),
    (15, "L", "D", ["D-a", "D-b", "D-c", "D-d"]),
]


def build(how: How, within: Any = "15s", grace: str = "0s", **options: Any) -> sk.App:
    app = sk.App(f"join-{how}", **options)
    left, right = (app.stream(app.topic(side, key=str)) for side in ("left", "right"))
    joined = left.join(right, lambda a, b: f"{a}-{b}", within=within, grace=grace, how=how)  # type: ignore[call-overload]
    joined.to("out")
    joined.late.to("late")
    joined.late_right.to("late-right")
    return app


@pytest.mark.parametrize("how", ["inner", "left", "outer"])
@pytest.mark.parametrize("restarting", [False, True])
def test_the_fifteen_rows(how: How, restarting: bool) -> None:
    with build(how).test() as t:
        for ts, side, value, results in ROWS:
            t.send("left" if side == "L" else "right", value, key="k", ts=ts)
            assert t.read("out") == results, ts
            if restarting:
                t.restart()
        for topic in ("left", "right"):
            t.send(topic, "x", key="elsewhere", ts=40)
        assert t.read("out") == ["x-x"], "all of the fifteen had met somebody"


@pytest.mark.parametrize("how", ["inner", "left", "outer"])
def test_a_lonely_record_is_told_once_and_only_after_window_and_grace(how: How) -> None:
    expected = {"inner": [], "left": ["E-None"], "outer": ["E-None", "None-f"]}
    with build(how, within="10s", grace="5s").test() as t:
        t.send("left", "E", key="k", ts=60)
        t.send("right", "f", key="k", ts=80)
        t.advance_to(85)
        assert t.read("out") == [], "a right record of 70 could still come: it is in time until 80 + 5"
        t.restart()
        t.advance_to(85.001)
        assert t.read("out") == expected[how][:1]
        t.restart()
        t.advance_to(200)
        assert t.read("out") == expected[how][1:]
        assert [seen.timestamp_ms for seen in t.records("out")] == [60_000, 80_000][: len(expected[how])]
        assert len(t.tasks[0].stores["left-join"]) == 0


def test_a_null_is_never_followed_by_a_pair() -> None:
    with build("left", within="10s").test() as t:
        t.send("left", "L", key="k", ts=0)
        t.send("left", "x", key="x", ts=20)
        t.send("right", "x", key="x", ts=20)
        t.send("right", "R", key="k", ts=10)  # within its own window still, and L's
        t.advance_to(100)
        assert t.read("out") == ["x-x", "L-R"]


def test_late_records_of_either_side() -> None:
    """P10."""
    with build("inner", within="10s", grace="5s").test() as t:
        for topic in ("left", "right"):
            t.send_all(topic, [("ahead", "x", 100), ("just", "k", 85), ("late", "k", 84.999)])
        assert t.read("late") == ["late"] and t.read("late-right") == ["late"]
        assert t.read("out") == ["ahead-ahead", "just-just"]
        assert t.counts("left-join").late == 2


def test_before_and_after() -> None:
    with build("inner", within=("10s", 0)).test() as t:
        for ts in (0, 5, 10, 11):
            t.send("right", f"{ts}", key="k", ts=ts)
        t.send("left", "L", key="k", ts=10)
        assert t.read("out") == ["L-0", "L-5", "L-10"]
        assert [seen.timestamp_ms for seen in t.records("out")] == [10_000] * 3


def test_a_stream_joined_with_itself() -> None:
    app = sk.App("self")
    stream = app.stream(app.topic("in", key=str, value=int))
    stream.join(stream, lambda a, b: (a, b), within="1s").to("out")
    with app.test() as t:
        t.send("in", 1, key="k", ts=1)
        t.send("in", 2, key="k", ts=2)
        assert sorted(t.read("out")) == [[1, 1], [1, 2], [2, 1], [2, 2]]


@pytest.mark.parametrize("seed", [1, 2])
def test_any_interleaving_gives_the_batch_answer(seed: int) -> None:
    """P15, out-of-order records and late ones included."""
    rng = random.Random(seed)
    sides = {
        side: [(f"{side}{n}", rng.choice("ab"), max(0.0, n + rng.uniform(-18, 2))) for n in range(60)]
        for side in ("left", "right")
    }
    accepted: dict[str, list[tuple[str, str, float]]] = {}
    for side, records in sides.items():
        time = 0.0
        accepted[side] = []
        for value, key, ts in records:
            time = max(time, round(ts * 1000))
            if round(ts * 1000) + 4_000 + 1 + 3_000 > time:
                accepted[side].append((value, key, round(ts * 1000)))
    pairs = [
        (a, b)
        for a, ka, ta in accepted["left"]
        for b, kb, tb in accepted["right"]
        if ka == kb and abs(ta - tb) <= 4000
    ]
    lonely = [(a, None) for a, *_ in accepted["left"] if a not in {p[0] for p in pairs}]
    lonely += [(None, b) for b, *_ in accepted["right"] if b not in {p[1] for p in pairs}]  # type: ignore[misc]
    assert lonely and len(accepted["left"]) < 60
    wanted = sorted(f"{a}-{b}" for a, b in [*pairs, *lonely])
    for schedule in range(4):
        order = random.Random(schedule)
        waiting = {side: list(records) for side, records in sides.items()}
        with build("outer", within="4s", grace="3s").test() as t:
            while any(waiting.values()):
                side = order.choice([s for s in waiting if waiting[s]])
                portion = order.choice((1, 7, 30))
                t.send_all(side, waiting[side][:portion])
                del waiting[side][:portion]
                if order.random() < 0.1:
                    t.restart()
            t.advance_to(1000)
            assert sorted(t.read("out")) == wanted


def test_keys_that_are_written_differently_are_refused() -> None:
    app = sk.App("keys")
    left = app.stream(app.topic("left", key=str, value=str))
    right = app.stream(app.topic("right", key=bytes, value=str))
    with pytest.raises(UsageError, match=r"left-source \(key str\) and right-source \(key bytes\)"):
        left.join(right, lambda a, b: a, within="1s")  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="partitioned by its key"):
        left.join(app.stream("plain"), lambda a, b: a, within="1s")  # type: ignore[call-overload]
