"""SEMANTICS P7: re-keyed records keep their order per key, timestamps and headers; null keys are dropped."""

from __future__ import annotations

from typing import Any

import streamkit as sk


def test_order_timestamps_and_headers_survive() -> None:
    app = sk.App("rekey")
    topic = app.topic("in", value=dict[str, Any])
    grouped = app.stream(topic).group_by(lambda v: v["k"], partitions=4)
    grouped.to("out")
    with app.test() as t:
        for n in range(40):
            key = None if n % 10 == 9 else f"key {n % 3}"
            t.send(topic, {"k": key, "n": n}, ts=100 - n, headers=[("n", str(n).encode())])
        out = t.records("out")
        assert len(out) == 36
        for key in {r.key for r in out}:
            numbers = [r.value["n"] for r in out if r.key == key]
            assert numbers == sorted(numbers)
        for record in out:
            n = record.value["n"]
            assert record.timestamp_ms == (100 - n) * 1000
            assert record.headers == [("n", str(n).encode())]
        assert t.counts(grouped.name).null_keys == 4


def test_two_chained_group_bys() -> None:
    app = sk.App("chain")
    topic = app.topic("in", value=dict[str, Any], partitions=2)
    seen: list[tuple[Any, int]] = []
    (
        app.stream(topic)
        .group_by(lambda v: v["a"])
        .map(lambda v: v | {"n": v["n"] + 1})
        .group_by(lambda v: v["b"], key=int, value=dict[str, int], partitions=3)
        .peek(lambda v, record: seen.append((record.key, v["n"])))
    )
    with app.test() as t:
        for n in range(6):
            t.send(topic, {"a": n % 2, "b": n % 3, "n": n})
        assert sorted(seen) == sorted((n % 3, n + 1) for n in range(6))


def test_repartition_moves_records_and_changes_nothing() -> None:
    app = sk.App("moved")
    topic = app.topic("in", key=str, value=int, partitions=2)
    moved = app.stream(topic).map(lambda n: n + 1 if n else None).repartition(5, name="wide")
    moved.to("out")
    assert {t.name: t.partitions for t in app.topology().plan({}).topics if t.internal} == {
        "moved-wide-repartition": 5
    }
    with app.test(partitions={"out": 5}) as t:
        for n in range(40):
            t.send(topic, n, key=f"key {n % 7}", ts=100 - n, headers=[("n", str(n).encode())])
        out = t.records("out")
        assert {r.partition for r in out} == {r.partition for r in t.records("moved-wide-repartition")}
        assert len({r.partition for r in out}) > 2
        for record in out:
            n = int(dict(record.headers)["n"] or b"")
            assert (record.key, record.timestamp_ms) == (f"key {n % 7}", (100 - n) * 1000)
            assert record.value == (n + 1 if n else None)
            assert len(record.headers) == 1
        for key in {r.key for r in out}:
            numbers = [int(dict(r.headers)["n"] or b"") for r in out if r.key == key]
            assert numbers == sorted(numbers)


def test_repartition_spreads_records_without_keys() -> None:
    app = sk.App("spread")
    topic = app.topic("in", value=int)
    seen: list[tuple[int, int]] = []
    app.stream(topic).repartition(4).peek(lambda n, record: seen.append((n, record.partition)))
    with app.test() as t:
        t.send_all(topic, [(n, None) for n in range(8)])
        assert sorted(n for n, _ in seen) == list(range(8))
        assert len({partition for _, partition in seen}) == 4


def test_a_record_is_late_by_the_clock_of_its_source_behind_a_repartition_too() -> None:
    app = sk.App("clocks")
    a, b = (app.topic(name, key=str, value=int, partitions=2) for name in "ab")
    both = app.stream(a).merge(app.stream(b)).repartition(3)
    counted = both.window(sk.tumbling("1s")).aggregate(n=sk.Count())
    counted.late.to("late")
    with app.test() as t:
        t.send(a, 1, key="k", ts=1000)
        t.send(b, 2, key="k", ts=1)  # a is far ahead, in another partition's time
        t.send(a, 3, key="k", ts=2)
        assert t.read("late") == [3]
