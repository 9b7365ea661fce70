"""SEMANTICS P17: a record between two sessions makes them one; the old entries are retracted and deleted."""

from __future__ import annotations

from typing import Any

import pytest

import streamkit as sk

pytestmark = pytest.mark.usefixtures("each_store")


def build(emit: Any, grace: str = "60s") -> tuple[sk.App, sk.Topic[str, int], str]:
    app = sk.App("bridge")
    topic = app.topic("in", key=str, value=int)
    results = app.stream(topic).window(sk.session("5s", grace=grace)).aggregate(emit=emit, sum=sk.Sum())
    results.map(lambda r: (r["start_ms"], r["end_ms"], r["sum"], r.get("retracted", False))).to("out")
    return app, topic, results.name


def test_one_session_and_the_old_ones_retracted() -> None:
    app, topic, name = build("on_update")
    with app.test() as t:
        for ts, value in ((0, 1), (6, 2), (4, 4)):
            t.send(topic, value, key="k", ts=ts)
        assert t.read("out") == [
            [0, 0, 1, False],
            [6_000, 6_000, 2, False],
            [6_000, 6_000, 2, True],  # the session at 0 goes on under its name: [0, 6]
            [0, 6_000, 7, False],
        ]
        assert [key[:8] for key, _ in t.tasks[0].stores[name].items()] == [bytes(8)]
        changelog = t.records(f"bridge-{name}-changelog")
        latest = {seen.key[:8]: seen.value for seen in changelog}
        assert sum(value is not None for value in latest.values()) == 1, "the others left tombstones"
        t.restart()
        t.send(topic, 8, key="k", ts=7)
        assert t.read("out") == [[0, 7_000, 15, False]]


def test_a_session_that_grows_backwards_is_another_one() -> None:
    app, topic, _ = build("on_update")
    with app.test() as t:
        t.send(topic, 1, key="k", ts=10)
        t.send(topic, 2, key="k", ts=7)
        assert t.read("out") == [
            [10_000, 10_000, 1, False],
            [10_000, 10_000, 1, True],
            [7_000, 10_000, 3, False],
        ]


def test_a_bridge_within_grace_merges_on_close() -> None:
    app, topic, _ = build("on_close", grace="10s")
    with app.test() as t:
        for ts, value in ((0, 1), (6, 2), (15, 0), (4, 4)):  # at 15 the first could still grow: 0 + 5 + 10
            t.send(topic, value, key="k" if value else "other", ts=ts)
        t.advance_to(100)
        assert [r for r in t.read("out") if r[2]] == [[0, 6_000, 7, False]]


def test_with_emit_every_what_was_said_is_taken_back() -> None:
    app, topic, _ = build(sk.every("10s"))
    with app.test() as t:
        for ts, value, key in (
            (1, 0, "x"),
            (16, 1, "k"),
            (22, 2, "k"),
            (30, 0, "x"),
            (19, 4, "k"),
            (41, 0, "x"),
        ):
            t.send(topic, value, key=key, ts=ts)
        out = [r for r in t.read("out") if r[2]]
        assert out == [
            [16_000, 16_000, 1, False],
            [22_000, 22_000, 2, False],
            [22_000, 22_000, 2, True],
            [16_000, 22_000, 7, False],
        ]


@pytest.mark.parametrize("before", [False, True], ids=["then restarts", "restarts before"])
def test_with_emit_every_a_restart_takes_back_what_was_said(before: bool) -> None:
    app, topic, _ = build(sk.every("10s"))
    with app.test() as t:
        for ts, value, key in ((1, 0, "x"), (16, 1, "k"), (22, 2, "k"), (30, 0, "x"), (34, 4, "k")):
            t.send(topic, value, key=key, ts=ts)
        if before:
            t.restart()
        t.send(topic, 8, key="k", ts=19)
        t.send(topic, 16, key="k", ts=33)  # nobody has heard of the session at 34
        if not before:
            t.restart()
        t.advance_to(1_000)
        out = [r for r in t.read("out") if r[2]]
        assert sorted(out) == [
            [16_000, 16_000, 1, False],
            [16_000, 22_000, 11, False],
            [22_000, 22_000, 2, False],
            [22_000, 22_000, 2, True],
            [33_000, 34_000, 20, False],
        ]
        [taken_back] = [seen for seen in t.records("out") if seen.value[3]]
        assert taken_back.timestamp_ms == 27_000, "as when it was said"
