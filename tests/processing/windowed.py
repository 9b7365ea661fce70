"""Batch answers for windows of each kind: one partition, one key at a time, in plain Python."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import streamkit as sk

Records = list[tuple[str, int, int]]  # key, number, event time in ms
SIZE, EVERY, GRACE, GAP = 10_000, 4_000, 5_000, 3_000
KINDS = {
    "tumbling": sk.tumbling("10s", grace="5s"),
    "hopping": sk.hopping("10s", "4s", grace="5s"),
    "sliding": sk.sliding("10s", grace="5s"),
    "session": sk.session("3s", grace="5s"),
}


def disordered(seed: int, count: int = 150) -> Records:
    """Records up to 25 s out of order."""
    rng = random.Random(seed)
    return [
        (rng.choice("abc"), n, round(max(0.0, n * 0.9 + rng.uniform(-25, 3)) * 1000)) for n in range(count)
    ]


def build(kind: str, **aggregations: Any) -> tuple[sk.App, sk.Topic[str, int], Any]:
    app = sk.App(f"each-{kind}")
    topic = app.topic("in", key=str, value=int, partitions=1)
    aggregations = aggregations or {"n": sk.Count(), "sum": sk.Sum(), "most": sk.Max()}
    results = app.stream(topic).window(KINDS[kind]).aggregate(**aggregations)
    results.to("out")
    results.late.to("late")
    return app, topic, results


def answer(kind: str, records: Records) -> tuple[dict[tuple[str, int], list[int]], list[int]]:
    """(window → numbers, numbers that were late); a window is (key, start)."""
    if kind == "session":
        return _sessions(records)
    windows: dict[tuple[str, int], list[int]] = defaultdict(list)
    late, own = [], set()
    stream_time = 0
    for key, number, ts in records:
        stream_time = max(stream_time, ts)
        accepted = [start for start in _starts(kind, ts) if start + SIZE + GRACE > stream_time]
        for start in accepted:
            windows[key, start].append(number)
        if not accepted:
            late.append(number)
        if kind == "sliding" and ts + 1 - SIZE in accepted:
            own.add((key, ts + 1 - SIZE))
    return {w: n for w, n in windows.items() if kind != "sliding" or w in own}, late


def _starts(kind: str, ts: int) -> Iterator[int]:
    if kind == "tumbling":
        yield ts - ts % SIZE
    elif kind == "hopping":
        yield from range((ts - SIZE) // EVERY * EVERY + EVERY, ts + 1, EVERY)
    else:
        yield from range(ts + 1 - SIZE, ts + 1)


def _sessions(records: Records) -> tuple[dict[tuple[str, int], list[int]], list[int]]:
    done: list[tuple[str, int, int, list[int]]] = []
    late, stream_time = [], 0
    for key, number, ts in records:
        stream_time = max(stream_time, ts)
        near = [
            s
            for s in done
            if s[0] == key and s[1] - GAP <= ts <= s[2] + GAP and s[2] + GAP + 1 + GRACE > stream_time
        ]
        first, last = min([ts, *(s[1] for s in near)]), max([ts, *(s[2] for s in near)])
        if last + GAP + 1 + GRACE <= stream_time:
            late.append(number)
            continue
        done = [s for s in done if s not in near]
        done.append((key, first, last, [number, *(n for s in near for n in s[3])]))
    return {(key, first): numbers for key, first, _, numbers in done}, late
