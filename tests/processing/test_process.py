"""`process`: state by key, timers of both clocks, restored; a failed call leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

import streamkit as sk
from streamkit.errors import UsageError

pytestmark = pytest.mark.usefixtures("each_store")


class Cart(msgspec.Struct):
    items: list[str]


def build(**options: Any) -> tuple[sk.App, sk.Topic[str, str]]:
    """Collects items until a minute of silence, or until checkout."""
    app = sk.App("carts", **options)
    topic = app.topic("items", key=str, value=str)

    def add(item: str, context: sk.Context[str, Cart]) -> Iterator[str]:
        cart = context.state or Cart([])
        if item == "checkout":
            yield f"{context.key}: {'+'.join(cart.items)}"
            context.state = None
            context.cancel_timer("silence")
            return
        context.state = Cart([*cart.items, item])
        context.set_timer(context.time_ms / 1000 + 60, name="silence")
        if item == "bad":
            raise ValueError(item)

    def forget(context: sk.Context[str, Cart]) -> list[str]:
        assert context.state is not None and context.timer == "silence"
        left, context.state = context.state, None
        return [f"{context.key} left {len(left.items)}"]

    app.stream(topic).process(add, state=Cart, on_timer=forget, name="carts").to("out")
    return app, topic


@pytest.mark.parametrize("restarting", [False, True])
def test_state_and_event_timers(restarting: bool) -> None:
    app, topic = build()
    with app.test() as t:
        for item, key, ts in (("a", "x", 0), ("b", "x", 30), ("c", "y", 31), ("checkout", "x", 40)):
            t.send(topic, item, key=key, ts=ts)
            if restarting:
                t.restart()
        assert t.read("out") == ["x: a+b"]
        t.advance_to(90.999)
        assert t.read("out") == []
        t.advance_to(91)
        assert t.read("out") == ["y left 1"]
        assert t.records("out")[-1].timestamp_ms == 91_000
        assert len(t.tasks[0].stores["carts"]) == 0, "neither state nor timers are left"


def test_a_failed_call_leaves_nothing_behind() -> None:
    app, topic = build(on_error=sk.Skip())
    with app.test() as t:
        for item in ("a", "bad", "b", "checkout"):
            t.send(topic, item, key="x", ts=1)
        assert t.read("out") == ["x: a+b"]
        assert t.counts("carts").skipped == 1


def test_wall_timers() -> None:
    app = sk.App("wall")
    topic = app.topic("in", key=str, value=int)

    def start(n: int, context: sk.Context[str, int]) -> None:
        context.set_timer(n, clock="wall")

    def ring(context: sk.Context[str, int]) -> list[str]:
        context.state = (context.state or 0) + 1
        if context.state < 3:
            context.set_timer(context.time_ms / 1000 + 5, clock="wall")
        return [f"{context.key} {context.state}"]

    app.stream(topic).process(start, state=int, on_timer=ring).to("out")
    with app.test() as t:
        t.send(topic, 10, key="k", ts=0)
        t.sleep(9)
        assert t.read("out") == []
        t.restart()
        t.sleep(1)
        assert t.read("out") == ["k 1"]
        t.sleep(5)
        t.sleep(60)
        assert t.read("out") == ["k 2", "k 3"]


def test_state_changed_in_place_is_persisted() -> None:
    """P6."""
    app = sk.App("in-place")
    topic = app.topic("in", key=str, value=int)

    def collect(n: int, context: sk.Context[str, list[int]]) -> list[list[int]]:
        if context.state is None:
            context.state = []
        context.state.append(n)
        return [context.state]

    app.stream(topic).process(collect, state=list[int]).to("out")
    with app.test() as t:
        for n in (1, 2, 3):
            t.send(topic, n, key="k")
            t.restart()
        assert t.read("out")[-1] == [1, 2, 3]


def test_a_stream_without_a_key_is_refused() -> None:
    app = sk.App("keyless")
    with pytest.raises(UsageError, match="partitioned by its key"):
        app.stream("in").process(lambda value, context: [value])


@pytest.mark.parametrize("restarting", [False, True])
def test_deduplicate(restarting: bool) -> None:
    app = sk.App("once")
    topic = app.topic("in", key=str)
    once = app.stream(topic).deduplicate("10s", by=lambda v: v["id"], name="once")
    once.map(lambda v: v["n"]).to("out")
    with app.test() as t:
        seen = [("a", 1, 0), ("a", 2, 9.999), ("b", 3, 3), ("a", 4, 10), ("a", 5, 12)]
        for id_, n, ts in [*seen, ("a", 6, 30), ("a", 7, 29)]:
            t.send(topic, {"id": id_, "n": n}, key="k", ts=ts)
            if restarting:
                t.restart()
        t.send(topic, {"id": "a", "n": 8}, key="other", ts=30)
        assert t.read("out") == [1, 3, 4, 6, 8]
        if not restarting:
            assert t.counts("once").duplicates == 3
        t.advance_to(100)
        assert len(t.tasks[0].stores["once"]) == 0


def test_a_timer_that_nothing_would_hear_is_refused() -> None:
    def watch(value: int, context: sk.Context[str, int]) -> None:
        context.set_timer(30)

    app = sk.App("watch")
    readings = app.topic("readings", key=str, value=int)
    app.stream(readings).process(watch, state=int, name="watch")
    with (
        app.test() as t,
        pytest.raises(UsageError, match="watch sets a timer, and watch has nothing") as said,
    ):
        t.send(readings, 1, key="k")
    assert "on_timer=" in said.value.hint


@pytest.mark.parametrize("result", ["hot", b"hot", {"alert": "hot"}])
def test_one_result_is_not_taken_for_several(result: object) -> None:
    app = sk.App("watch")
    readings = app.topic("readings", key=str, value=int)
    app.stream(readings).process(lambda value, context: result, name="watch").to("alerts")  # type: ignore[arg-type,return-value]
    with app.test() as t:
        with pytest.raises(UsageError, match=f"watch passes on each .* got one {type(result).__name__}"):
            t.send(readings, 1, key="k")
        assert t.read("alerts") == []
