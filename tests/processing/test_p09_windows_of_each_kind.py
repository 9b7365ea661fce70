"""SEMANTICS P9, P10, P12, P15 for each kind of window: the batch answer, however the input is cut, restarts
included.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

import streamkit as sk
from streamkit.errors import UsageError
from tests.processing.windowed import KINDS, Records, answer, build, disordered


def run(kind: str, records: Records, schedule: int, **aggregations: Any) -> tuple[list[Any], list[int]]:
    app, topic, _ = build(kind, **aggregations)
    rng = random.Random(schedule)
    with app.test() as t:
        waiting = list(records)
        while waiting:
            portion = rng.choice((1, 3, 40))
            t.send_all(topic, [(n, key, ts / 1000) for key, n, ts in waiting[:portion]])
            del waiting[:portion]
            if rng.random() < 0.2:
                t.restart()
        t.advance_to(1000)
        assert t.tasks[0].windows_open == 0
        return t.read("out"), t.read("late")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_batch_answer(kind: str, seed: int) -> None:
    records = disordered(seed)
    windows, late = answer(kind, records)
    assert late and windows
    for schedule in range(3):
        results, too_late = run(kind, records, schedule)
        assert too_late == late
        found = {(r["key"], r["start_ms"]): (r["n"], r["sum"], r["most"]) for r in results}
        assert len(found) == len(results), "each window once"
        assert found == {window: (len(n), sum(n), max(n)) for window, n in windows.items()}


@pytest.mark.usefixtures("spilling")
@pytest.mark.parametrize("kind", ["tumbling", "hopping"])
def test_the_batch_answer_where_stores_spill(kind: str) -> None:
    test_the_batch_answer(kind, 1)


def test_an_aggregation_that_cannot_be_merged_gives_the_same_hopping_windows() -> None:
    records = disordered(4)
    windows, _ = answer("hopping", records)
    results, _ = run("hopping", records, 1, all=sk.Collect())
    assert {(r["key"], r["start_ms"]): r["all"] for r in results} == windows


def test_hopping_windows_are_aligned_and_as_many_as_fit() -> None:
    app = sk.App("hops")
    topic = app.topic("in", key=str, value=int)
    app.stream(topic).window(sk.hopping("10s", "5s")).aggregate(n=sk.Count()).to("out")
    with app.test() as t:
        t.send(topic, 1, key="k", ts=7)
        t.advance_to(60)
        assert [(r["start_ms"], r["end_ms"]) for r in t.read("out")] == [(0, 10_000), (5_000, 15_000)]
        assert [seen.timestamp_ms for seen in t.records("out")] == [9_999, 14_999]


def test_a_sliding_window_is_the_time_up_to_each_record() -> None:
    app = sk.App("slides")
    topic = app.topic("in", key=str, value=int)
    app.stream(topic).window(sk.sliding("10s")).aggregate(sum=sk.Sum()).to("out")
    with app.test() as t:
        for ts, value in ((1, 1), (5, 2), (10.999, 4), (11, 8), (30, 16)):
            t.send(topic, value, key="k", ts=ts)
        t.advance_to(60)
        assert [(r["end_ms"], r["sum"]) for r in t.read("out")] == [
            (1_001, 1), (5_001, 3), (11_000, 7), (11_001, 14), (30_001, 16),
        ]  # fmt: skip


def test_a_count_window_is_n_records_in_order_of_arrival() -> None:
    app = sk.App("counts")
    topic = app.topic("in", key=str, value=int)
    app.stream(topic).window(sk.count_window(3)).aggregate(all=sk.Collect()).to("out")
    with app.test() as t:
        for number, ts in enumerate((5, 100, 2, 7, 8, 9, 1)):
            t.send(topic, number, key="k", ts=ts)
            t.restart()
        t.send(topic, 9, key="other", ts=1)
        assert t.read("out") == [
            {"key": "k", "start_ms": 2_000, "end_ms": 100_000, "all": [0, 1, 2]},
            {"key": "k", "start_ms": 7_000, "end_ms": 9_000, "all": [3, 4, 5]},
        ]


def test_a_count_window_tells_each_update() -> None:
    app = sk.App("counts-update")
    topic = app.topic("in", key=str, value=int)
    app.stream(topic).window(sk.count_window(2)).aggregate(emit="on_update", sum=sk.Sum()).to("out")
    with app.test() as t:
        for number in (1, 2, 3):
            t.send(topic, number, key="k", ts=1)
        assert [r["sum"] for r in t.read("out")] == [1, 3, 3]


def test_the_whole_stream_is_one_window_without_a_key() -> None:
    app = sk.App("whole")
    topic = app.topic("in", value=int, partitions=3)
    app.stream(topic).window_all(sk.tumbling("10s")).aggregate(n=sk.Count(), sum=sk.Sum()).to("out")
    with app.test() as t:
        for number in range(6):
            t.send(topic, number, ts=number, partition=number % 3)
        t.advance_to(60)
        assert t.read("out") == [{"key": "all", "start_ms": 0, "end_ms": 10_000, "n": 6, "sum": 15}]


def test_results_every_interval_and_on_close() -> None:
    app = sk.App("every")
    topic = app.topic("in", key=str, value=int)
    stream = app.stream(topic)
    for kind in ("tumbling", "hopping", "session"):
        results = stream.window(KINDS[kind]).aggregate(emit=sk.every("5s"), n=sk.Count())
        results.map(lambda r: (r["start_ms"], r["n"])).to(kind)
    with app.test() as t:
        for ts in (1, 2, 6, 7, 11, 12, 60):
            t.send(topic, 1, key="k", ts=ts)
        assert t.read("tumbling") == [[0, 3], [0, 4], [10_000, 1], [60_000, 1], [0, 4], [10_000, 2]]
        hops = t.read("hopping")
        assert hops[:4] == [[-8_000, 1], [-4_000, 2], [0, 3], [4_000, 1]]
        assert hops[-4:] == [[0, 4], [4_000, 4], [8_000, 2], [12_000, 1]]
        sessions = [[1_000, 2], [6_000, 1], [6_000, 2], [11_000, 1], [1_000, 2]]
        assert t.read("session") == [*sessions, [60_000, 1], [6_000, 2], [11_000, 2]]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: sk.hopping("1s", "2s"),
        lambda: sk.count_window(0),
        lambda: sk.session("0s"),
    ],
)
def test_impossible_windows_are_refused(wrong: Any) -> None:
    with pytest.raises(UsageError):
        wrong()


def test_emissions_that_a_kind_does_not_know_are_refused() -> None:
    app = sk.App("refused")
    stream = app.stream(app.topic("in", key=str, value=int))
    with pytest.raises(UsageError, match="on close"):
        stream.window(sk.sliding("1s")).aggregate(emit="on_update", n=sk.Count())
    with pytest.raises(UsageError, match="on_close"):
        stream.window(sk.count_window(2)).aggregate(emit=sk.every("1s"), n=sk.Count())
    custom = sk.Aggregate(start=int, add=lambda total, x: total + x)
    with pytest.raises(UsageError, match="one accumulator of two"):
        stream.window(sk.session("1s")).aggregate(n=custom)
