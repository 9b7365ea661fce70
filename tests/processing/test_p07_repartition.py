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
