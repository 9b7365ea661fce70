"""SEMANTICS P33: at most N in flight, input order per key, a time-out follows the policy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamkit as sk
from streamkit.errors import UsageError
from streamkit.processing.tasks.inflight import KEY, VALUE, InFlight
from tests.processing.test_p01_commit_waits_for_records_in_flight import item


@settings(max_examples=200)
@given(
    keys=st.lists(st.sampled_from(["a", "b", "c", None]), max_size=20),
    capacity=st.integers(1, 4),
    choose=st.randoms(use_true_random=False),
)
def test_no_more_than_the_capacity_is_in_flight_and_a_key_keeps_its_order(
    keys: list[str | None], capacity: int, choose: object
) -> None:
    flight = InFlight(capacity)
    for offset, key in enumerate(keys):
        flight.admit(item(offset, key))
    running, finished = [], []
    while len(flight):
        while (taken := flight.take()) is not None:
            running.append(taken)
        assert 0 < len(running) <= capacity
        held = [one[KEY] for one in running if one[KEY] is not None]
        assert len(held) == len(set(held))
        chosen = running.pop(choose.randrange(len(running)))  # type: ignore[attr-defined]
        assert [one for one, _ in flight.done(chosen, None)] == [chosen]
        flight.finish(chosen)
        finished.append(chosen)
    for key in ("a", "b", "c"):
        of_key = [one[VALUE] for one in finished if one[KEY] == key]
        assert of_key == sorted(of_key)


def test_a_call_that_takes_too_long_is_an_error_and_follows_the_policy() -> None:
    app = sk.App("slow")
    topic = app.topic("in", key=str, value=int)

    @app.agent(
        topic, sink="out", concurrency=2, timeout="2s", retry=sk.Retry(1), on_error=sk.DeadLetter("dead")
    )
    async def work(n: int) -> int:
        await asyncio.sleep(n)
        return n

    with app.test() as t:
        t.send_all(topic, [(1, "a"), (60, "b"), (1, "b")])
        assert t.read("out") == [1, 1]
        (letter,) = t.records("dead")
        headers = dict(letter.headers)
        assert headers["streamkit.dlq.error"] == b"TimeoutError"
        assert headers["streamkit.dlq.message"] == b"no answer within timeout=2 s"
        assert t.committed(topic) == 3


def test_a_time_out_is_for_calls() -> None:
    app = sk.App("plain")
    with pytest.raises(UsageError, match="timeout="):

        @app.agent(app.topic("in"), timeout="1s")
        def work(n: int) -> int:
            return n


@pytest.mark.parametrize("shape", ["record", "stream"])
def test_a_json_object_is_a_key_whatever_the_order_of_its_fields(shape: str) -> None:
    app = sk.App("objects")
    topic = app.topic("in", key=dict, value=int)
    running: list[int] = []

    @app.agent(topic if shape == "record" else app.topic("no", value=int), sink="out", concurrency=4)
    async def single(n: int) -> int:
        assert not running, "records of one key one after the other"
        running.append(n)
        await asyncio.sleep(1)
        running.clear()
        return n

    @app.agent(topic if shape == "stream" else app.topic("none", value=int), sink="out", concurrency=4)
    async def loop(stream: sk.Stream[int]) -> AsyncIterator[int]:
        async for n in stream:
            await asyncio.sleep(1 / (n + 1))
            yield n

    with app.test() as t:
        t.send_all(topic, [(n, b'{"a":1,"b":2}' if n % 2 else b'{"b": 2, "a": 1}') for n in range(6)])
        assert t.read("out") == list(range(6))
        assert t.committed(topic) == 6
