"""SEMANTICS P11: a silent key's window closes when another key passes its end + grace."""

from __future__ import annotations

import pytest

import streamkit as sk

pytestmark = pytest.mark.usefixtures("each_store")


def test_quiet_key_closes() -> None:
    app = sk.App("quiet")
    topic = app.topic("in", key=str, value=int)
    app.stream(topic).window(sk.tumbling("10s", grace="5s")).aggregate(n=sk.Count()).to("out")
    with app.test() as t:
        t.send(topic, 1, key="a", ts=1)
        t.send(topic, 1, key="b", ts=14.999)
        assert t.read("out") == []
        t.send(topic, 1, key="b", ts=15)
        assert t.read("out") == [{"key": "a", "start_ms": 0, "end_ms": 10_000, "n": 1}]


def test_through_a_repartition_the_slowest_partition_decides_until_it_is_idle() -> None:
    """P13's rule: a partition that has been read to its end for the idle timeout holds nobody back."""
    app = sk.App("idle", idle_timeout="60s")
    topic = app.topic("in", value=str, partitions=2)
    app.stream(topic).group_by(lambda v: v).window(sk.tumbling("10s")).aggregate(n=sk.Count()).to("out")
    with app.test() as t:
        t.send(topic, "a", ts=1, partition=0)
        t.send(topic, "b", ts=50, partition=0)
        assert t.read("out") == [], "nothing is known of partition 1"
        t.sleep(59)
        assert t.read("out") == []
        t.send(topic, "c", ts=70, partition=0)
        t.sleep(2)
        assert sorted((r["key"], r["start_ms"]) for r in t.read("out")) == [("a", 0), ("b", 50_000)]
