"""SEMANTICS P6: a value from a table that is changed in place is persisted, never silently lost."""

from __future__ import annotations

import pytest

import streamkit as sk
from streamkit.errors import RefusedError, UsageError


def test_a_mutated_default_and_a_mutated_value_are_persisted() -> None:
    app = sk.App("carts")
    topic = app.topic("in", key=str, value=str)
    carts = app.table("carts", default=list, key=str)

    @app.agent(topic)
    def add(item: str, record: sk.Record[str]) -> None:
        carts[record.key].append(item)

    with app.test() as t:
        t.send(topic, "apple", key="ann")
        t.send(topic, "pear", key="ann")
        t.restart()
        assert dict(carts) == {"ann": ["apple", "pear"]}


def test_a_value_held_across_commits_is_still_watched() -> None:
    app = sk.App("held")
    topic = app.topic("in", key=str, value=int)
    lists = app.table("lists", default=list, key=str)
    held: list[list[int]] = []

    @app.agent(topic)
    def remember(n: int, record: sk.Record[str]) -> None:
        if not held:
            held.append(lists[record.key])
        held[0].append(n)

    with app.test() as t:
        for n in range(3):
            t.send(topic, n, key="k")
        t.restart()
        assert lists["k"] == [0, 1, 2]


def test_looking_at_a_mutable_default_writes_nothing() -> None:
    app = sk.App("look")
    topic = app.topic("in", key=str, value=int)
    lists = app.table("lists", default=list, key=str)

    @app.agent(topic)
    def look(n: int, record: sk.Record[str]) -> None:
        len(lists[record.key])

    with app.test() as t:
        t.send(topic, 1, key="k")
        assert t.records("look-lists-changelog") == []


def test_a_foreign_key_is_refused() -> None:
    app = sk.App("foreign")
    topic = app.topic("in", key=str, value=int)
    table = app.table("table", default=int, key=str)

    @app.agent(topic)
    def write(n: int) -> None:
        table["elsewhere"] = n

    with app.test() as t, pytest.raises(RefusedError, match="another partition"):
        t.send(topic, 1, key="k")


def test_an_unpartitioned_stream_is_refused_at_start_and_names_group_by() -> None:
    app = sk.App("unkeyed")
    topic = app.topic("in", value=int)
    table = app.table("table", default=int)

    @app.agent(topic)
    async def write(stream: sk.Stream[int]) -> None:
        async for n in stream:
            table[n] += 1

    with pytest.raises(UsageError) as refusal:
        app.test()
    assert "group_by" in refusal.value.hint


def test_concurrent_agents_may_not_write() -> None:
    app = sk.App("concurrent")
    topic = app.topic("in", key=str, value=int)
    table = app.table("table", default=int, key=str)

    @app.agent(topic, concurrency=2)
    async def write(n: int, record: sk.Record[str]) -> None:
        table[record.key] += n

    with app.test() as t, pytest.raises(RefusedError, match="2 records at once"):
        t.send(topic, 1, key="k")
