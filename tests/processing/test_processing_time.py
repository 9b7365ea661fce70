"""`time="processing"`: windows by the worker's clock, which goes on without records."""

from __future__ import annotations

import streamkit as sk

SECONDS = 1_700_000_000.0


def counting() -> tuple[sk.App, sk.Topic[str, int]]:
    app = sk.App("arrivals")
    topic = app.topic("in", key=str, value=int)
    counts = app.stream(topic, time="processing").window(sk.tumbling("10s")).aggregate(n=sk.Count())
    counts.map(lambda w: (w["key"], w["start_ms"] // 1000, w["n"])).to("out")
    return app, topic


def test_a_window_closes_when_its_time_is_over_without_another_record() -> None:
    app, topic = counting()
    with app.test() as t:
        t.sleep(SECONDS - t.now_ms / 1000)
        t.send(topic, 1, key="a", ts=5.0)
        t.send(topic, 2, key="a", ts=SECONDS * 2)
        t.sleep(9)
        assert t.read("out") == []
        t.sleep(2)
        assert t.read("out") == [["a", int(SECONDS), 2]]


def test_no_record_is_late_whatever_its_timestamp() -> None:
    app, topic = counting()
    with app.test() as t:
        t.sleep(SECONDS - t.now_ms / 1000)
        t.send(topic, 1, key="a", ts=SECONDS + 1000)
        t.sleep(30)
        t.send(topic, 2, key="a", ts=5.0)
        t.sleep(30)
        assert t.read("out") == [["a", int(SECONDS), 1], ["a", int(SECONDS) + 30, 1]]


def test_a_window_that_closed_stays_closed_over_a_restart() -> None:
    app, topic = counting()
    with app.test() as t:
        t.sleep(SECONDS - t.now_ms / 1000)
        t.send(topic, 1, key="a")
        t.sleep(15)
        t.restart()
        t.send(topic, 2, key="a")
        t.sleep(15)
        assert t.read("out") == [["a", int(SECONDS), 1], ["a", int(SECONDS) + 10, 1]]


def test_windows_behind_a_repartition_close_too() -> None:
    app = sk.App("arrivals")
    topic = app.topic("in", key=str, value=int)
    by_value = app.stream(topic, time="processing").group_by(lambda value: value, key=int)
    by_value.window(sk.tumbling("10s")).aggregate(n=sk.Count()).map(lambda w: w["n"]).to("out")
    with app.test(partitions={"in": 2}) as t:
        t.sleep(SECONDS - t.now_ms / 1000)
        t.send_all(topic, [(7, "a"), (7, "b"), (7, "c")])
        t.sleep(20)
        assert t.read("out") == [3]
