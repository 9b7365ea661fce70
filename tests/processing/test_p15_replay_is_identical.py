"""SEMANTICS P15: one input gives one output, however fast each partition was read; repartitions included."""

from __future__ import annotations

import random
from typing import Any

import pytest

import streamkit as sk


def build() -> tuple[sk.App, sk.Topic[Any, Any]]:
    app = sk.App("replay")
    topic = app.topic("in", partitions=3)
    counts = (
        app.stream(topic)
        .group_by(lambda v: v["k"])
        .window(sk.tumbling("10s", grace="5s"))
        .aggregate(n=sk.Count(), ids=sk.Collect("id"))
    )
    counts.map(lambda r: r | {"ids": sorted(r["ids"])}).to("out")
    counts.late.to("late")
    return app, topic


def input_records(seed: int) -> list[list[tuple[dict[str, Any], float]]]:
    rng = random.Random(seed)
    return [
        [({"k": rng.randrange(5), "id": p * 1000 + i}, max(0.0, i + rng.uniform(-25, 3))) for i in range(120)]
        for p in range(3)
    ]


def replay(seed: int, schedule: int) -> tuple[list[Any], list[int]]:
    """Feed the partitions in an order and in portions that `schedule` decides."""
    app, topic = build()
    rng = random.Random(schedule)
    with app.test() as t:
        waiting = [list(records) for records in input_records(seed)]
        while any(waiting):
            partition = rng.choice([p for p in range(3) if waiting[p]])
            portion = rng.choice((1, 5, 60))
            batch, waiting[partition] = waiting[partition][:portion], waiting[partition][portion:]
            t.send_all(topic, [(value, None, ts) for value, ts in batch], partition=partition)
        t.advance_to(10_000)
        results = sorted(t.read("out"), key=lambda r: (r["start_ms"], r["key"]))
        return results, sorted(v["id"] for v in t.read("late"))


def expected(seed: int) -> tuple[list[Any], list[int]]:
    """The batch answer: lateness by each partition's own clock, in plain Python."""
    windows: dict[tuple[int, int], list[int]] = {}
    late = []
    for records in input_records(seed):
        stream_time = 0
        for value, ts in records:
            ms = round(ts * 1000)
            stream_time = max(stream_time, ms)
            start = ms - ms % 10_000
            if start + 15_000 <= stream_time:
                late.append(value["id"])
            else:
                windows.setdefault((start, value["k"]), []).append(value["id"])
    results = [
        {"key": k, "start_ms": s, "end_ms": s + 10_000, "n": len(ids), "ids": sorted(ids)}
        for (s, k), ids in sorted(windows.items())
    ]
    return results, sorted(late)


@pytest.mark.parametrize("seed", [1, 2])
def test_any_schedule_gives_the_batch_answer(seed: int) -> None:
    answer = expected(seed)
    assert answer[1], "the input has late records"
    for schedule in range(6):
        assert replay(seed, schedule) == answer


@pytest.mark.usefixtures("spilling")
def test_and_so_it_does_where_stores_spill() -> None:
    for schedule in range(2):
        assert replay(1, schedule) == expected(1)
