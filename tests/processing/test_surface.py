"""Every part of the programming interface does what it says, on the driver."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest

import streamkit as sk


class Point(msgspec.Struct):
    x: int


@dataclass
class Spot:
    x: int


class Place(TypedDict):
    x: int


class Model(pydantic.BaseModel):
    x: int


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (Point, Point(1)),
        (Spot, Spot(1)),
        (Place, {"x": 1}),
        (Model, Model(x=1)),
        (bytes, b"raw"),
        (str, "text"),
        (dict, {"x": [1, None]}),
        (sk.Serde("hex", lambda n: b"%x" % n, lambda data: int(data, 16)), 255),
    ],
)
def test_serdes_by_type(type_: Any, value: Any) -> None:
    app = sk.App("serde")
    topic = app.topic("in", value=type_)
    app.stream(topic).to("out")
    with app.test() as t:
        t.send(topic, value)
        assert t.read("out") == [value]


def test_branch_and_merge() -> None:
    app = sk.App("arms")
    topic = app.topic("in", value=int)
    small, big = app.stream(topic).branch(lambda n: n < 10, lambda n: n < 100)
    small.map(lambda n: -n).merge(big.map_values(lambda n: n + 1)).to("out")
    with app.test() as t:
        for n in (5, 50, 500):
            t.send(topic, n)
        assert t.read("out") == [-5, 51]


def test_timers_and_send_from_user_code() -> None:
    app = sk.App("ticks")
    topic = app.topic("in", value=int)
    ticks = app.topic("ticks", value=int)
    seen: list[int] = []

    @app.agent(topic)
    async def forward(n: int) -> None:
        await ticks.send(n * 100)

    @app.timer("5s")
    async def tick() -> None:
        seen.append(len(seen))
        await ticks.send(seen[-1])

    with app.test() as t:
        t.send(topic, 7)
        t.sleep(16)
        assert t.read(ticks) == [700, 0, 1, 2]


def test_a_stream_agent_yields_to_its_sink_and_sees_records() -> None:
    app = sk.App("yields")
    topic = app.topic("in", key=str, value=int)

    @app.agent(topic, sink="out")
    async def double(stream: sk.Stream[int]) -> AsyncIterator[str]:
        async for n, record in stream.records():
            yield f"{record.key}@{record.partition}/{record.offset}={2 * n}"

    with app.test() as t:
        t.send(topic, 4, key="k", ts=9, headers=[("h", b"1")])
        [out] = t.records("out")
        assert (out.value, out.key, out.timestamp_ms) == ("k@0/0=8", "k", 9000)
        assert out.headers == [("h", b"1")]


def test_tables_read_outside_tasks_and_two_partitions_never_mix() -> None:
    app = sk.App("parts")
    topic = app.topic("in", value=str, partitions=2)
    counts = app.table("counts", default=int)

    @app.agent(topic.by(lambda word: word))
    async def count(stream: sk.Stream[str]) -> None:
        async for word in stream:
            counts[word] += 1

    with app.test() as t:
        for word in ["a", "b", "c", "a", "b", "a"]:
            t.send(topic, word)
        assert dict(counts) == {"a": 3, "b": 2, "c": 1}
        assert counts["missing"] == 0 and "missing" not in counts


def test_names_are_stable_when_stateless_operators_come_in() -> None:
    def names(extra: bool) -> list[str]:
        app = sk.App("names")
        stream = app.stream(app.topic("in"))
        if extra:
            stream = stream.filter(bool).peek(print)
        stream.group_by(lambda v: v["k"]).window(sk.tumbling("1s")).aggregate(n=sk.Count()).to("out")
        return [topic["name"] for topic in app.explain().json()["topics"] if topic["internal"]]

    assert names(False) == names(True) == ["names-in-group-by-repartition", "names-in-window-changelog"]


def test_internal_topics_never_lose_records_by_age() -> None:
    app = sk.App("config")
    app.stream(app.topic("in")).group_by(str).window(sk.tumbling("1s")).aggregate(n=sk.Count())
    explanation = app.explain()
    configs = [topic["config"] for topic in explanation.json()["topics"] if topic["internal"]]
    assert [config["cleanup.policy"] for config in configs] == ["delete", "compact"]
    assert all(config["retention.ms"] == "-1" for config in configs)
    assert "config-in-group-by-repartition" in str(explanation)


def test_an_unknown_type_is_refused_where_it_would_be_lost() -> None:
    app = sk.App("untyped")
    app.stream(app.topic("in", value=int)).map(lambda n: [Point(n)][0]).group_by(lambda p: p.x)
    with app.test() as t, pytest.raises(TypeError, match="declare the type"):
        t.send("in", 1)


def test_milliseconds_taken_for_seconds_are_refused() -> None:
    app = sk.App("units")
    stream = app.stream(app.topic("in", key=str, value=int), time=lambda n: n)
    stream.window(sk.tumbling("1s")).aggregate(n=sk.Count())
    with app.test() as t, pytest.raises(ValueError, match="looks like milliseconds"):
        t.send("in", 1_357_034_400_000, key="k")


def test_pop_and_setdefault_of_a_table_with_a_default() -> None:
    app = sk.App("pops")
    topic = app.topic("in", key=str, value=str)
    counts = app.table("counts", default=int, key=str)
    seen: list[Any] = []

    @app.agent(topic)
    def act(verb: str, record: sk.Record[str]) -> None:
        key = record.key
        seen.append(counts.pop(key, None) if verb == "pop" else counts.setdefault(key, 5))

    with app.test() as t:
        for verb in ("pop", "setdefault", "setdefault", "pop", "pop"):
            t.send(topic, verb, key="k")
        assert seen == [None, 5, 5, 5, None]
        assert dict(counts) == {}


def test_a_time_that_is_text_is_refused_in_words() -> None:
    app = sk.App("shop")
    orders = app.topic("orders", key=str, value=dict)
    app.stream(orders, time=lambda order: order["at"]).window(sk.tumbling("1m")).aggregate(n=sk.Count())
    with (
        app.test() as t,
        pytest.raises(TypeError, match="seconds since 1970 or an aware datetime, got '2024"),
    ):
        t.send(orders, {"at": "2024-01-01T00:00:00Z"}, key="ann")


@pytest.mark.parametrize(
    ("comes_as", "leaves_as", "key", "told"),
    [
        (None, int, "5", "the key b'5' is bytes, and the topic out declares key=int"),
        (None, str, "ann", "the key b'ann' is bytes, and the topic out declares key=str"),
        (str, int, "5", "the key '5' is str, and the topic out declares key=int"),
        (int, str, 5, "the key 5 is int, and the topic out declares key=str"),
        (int, bytes, 5, "the key 5 is int, and the topic out declares key=bytes"),
    ],
)
def test_a_key_of_another_type_is_not_written(comes_as: Any, leaves_as: Any, key: Any, told: str) -> None:
    app = sk.App("keys")
    incoming = app.topic("in", key=comes_as, value=dict)
    app.stream(incoming).to(app.topic("out", key=leaves_as, value=dict))
    with app.test() as t:
        t.send(incoming, {})
        with pytest.raises(TypeError, match=re.escape(told)):
            t.send(incoming, {}, key=key)
        assert [seen.key for seen in t.records("out")] == [None]


def test_a_key_of_the_right_type_is_written_whoever_made_it() -> None:
    app = sk.App("keys")
    incoming = app.topic("in", value=dict)
    by_n = app.stream(incoming).group_by(lambda value: value["n"])
    by_n.to(app.topic("numbers", key=int, value=dict))
    by_n.to(app.topic("numbers-too", value=dict))
    with app.test() as t:
        t.send(incoming, {"n": 5})
        assert [seen.key for seen in t.records("numbers")] == [5]
        assert [seen.key for seen in t.records("numbers-too")] == [b"5"]
