"""SEMANTICS P3 and P4 on the driver: what each error policy does to a record that cannot be processed."""

from __future__ import annotations

from typing import Any

import pytest

import streamkit as sk
from streamkit.processing.error_policy import PREFIX, OnError


def doubling(on_error: OnError, retry: sk.Retry | None = None) -> tuple[sk.App, sk.Topic[bytes | None, int]]:
    app = sk.App("poison")
    topic = app.topic("in", value=int)

    @app.agent(topic, sink="out", on_error=on_error, retry=retry)
    def double(n: int) -> int:
        return 20 // n

    return app, topic


def test_fail_never_commits_past_the_record() -> None:
    app, topic = doubling(sk.Fail())
    with app.test() as t:
        t.send(topic, 2)
        with pytest.raises(ZeroDivisionError):
            t.send(topic, 0)
        t.send(topic, 4)
        assert t.read("out") == [10]
        assert t.committed(topic) == 1


def test_skip_counts_and_goes_on() -> None:
    app, topic = doubling(sk.Skip())
    with app.test() as t:
        for n in (2, 0, 4):
            t.send(topic, n)
        assert t.read("out") == [10, 5]
        assert t.counts("double").skipped == 1
        assert t.committed(topic) == 3


@pytest.mark.parametrize("poison", [b"0", b"{not json"], ids=["raises", "undecodable"])
def test_a_dead_letter_tells_its_story(poison: bytes) -> None:
    app, topic = doubling(sk.DeadLetter("dead"))
    with app.test() as t:
        t.send(topic, 2)
        t.send(topic, poison, key=b"k", headers=[("h", b"1")])
        [letter] = t.records("dead")
        assert (letter.value, letter.key) == (poison, b"k")
        headers = dict(letter.headers)
        assert headers["h"] == b"1"
        assert headers[PREFIX + "topic"] == b"in"
        assert headers[PREFIX + "partition"] == b"0"
        assert headers[PREFIX + "offset"] == b"1"
        assert headers[PREFIX + "error"] in (b"ZeroDivisionError", b"ValidationError")
        assert headers[PREFIX + "message"]
        assert len(headers[PREFIX + "traceback"] or b"") == 16
        assert t.committed(topic) == 2


def test_retry_pauses_in_order_then_the_last_resort() -> None:
    app = sk.App("retry")
    topic = app.topic("in", value=int)
    tries: list[int] = []

    @app.agent(topic, sink="out", retry=sk.Retry(2, initial="1s"), on_error=sk.Skip())
    def flaky(n: int) -> int:
        tries.append(n)
        if n == 0 or (n == 1 and tries.count(1) < 3):
            raise ValueError("not yet")
        return n

    with app.test() as t:
        for n in (1, 0, 2):
            t.send(topic, n)
        assert tries == [1, 1, 1, 0, 0, 0, 2]
        assert t.read("out") == [1, 2]
        assert t.now_ms == 2 * (1000 + 2000), "exponential pauses, in virtual time"


@pytest.mark.parametrize("concurrency", [1, 8])
def test_async_agents_follow_the_same_policies(concurrency: int) -> None:
    app = sk.App("async")
    topic = app.topic("in", value=int)
    tries: list[int] = []

    @app.agent(topic, sink="out", concurrency=concurrency, retry=sk.Retry(1), on_error=sk.DeadLetter("dead"))
    async def divide(n: int) -> int:
        tries.append(n)
        return 20 // n

    with app.test() as t:
        for n in (2, 0, 4):
            t.send(topic, n)
        assert t.read("out") == [10, 5]
        assert tries == [2, 0, 0, 4]
        assert t.records("dead")[0].value == b"0"
        assert t.committed(topic) == 3


def test_a_stream_agent_begins_anew_behind_the_record() -> None:
    app = sk.App("loop")
    topic = app.topic("in", value=int)
    seen: list[int] = []

    @app.agent(topic, on_error=sk.Skip())
    async def loop(stream: sk.Stream[int]) -> None:
        async for n in stream:
            if n == 0:
                raise ValueError("zero")
            seen.append(n)

    with app.test() as t:
        for n in (1, 0, 2):
            t.send(topic, n)
        assert seen == [1, 2]
        assert t.committed(topic) == 3


def test_partial_outputs_of_a_failed_record_are_withdrawn() -> None:
    app = sk.App("partial")
    topic = app.topic("in", value=int)
    app.stream(topic, on_error=sk.Skip()).flat_map(lambda n: (10 // k for k in (5, n))).to("out")
    with app.test() as t:
        t.send(topic, 0)
        t.send(topic, 1)
        assert t.read("out") == [2, 10]


@pytest.mark.parametrize("position", range(5))
@pytest.mark.parametrize("failing", ["first", "second"])
def test_of_two_chains_one_is_held_up_in_the_middle_of_a_slice(failing: str, position: int) -> None:
    """Both see every record in order and once, whichever of them has to try one again."""
    app = sk.App("held")
    topic = app.topic("in", key=str, value=int)
    counts = {name: app.table(f"of-{name}", default=int, key=str) for name in ("first", "second")}
    seen: dict[str, list[int]] = {"first": [], "second": []}
    attempts: list[int] = []

    def count(name: str, n: int, key: str) -> None:
        if name == failing and n == position and len(attempts) < 2:
            attempts.append(n)
            raise ValueError(n)
        seen[name].append(n)
        counts[name][key] += 1

    @app.agent(topic, retry=sk.Retry(attempts=3), tables=counts.values())
    def first(n: int, record: sk.Record[str]) -> None:
        count("first", n, record.key)

    @app.agent(topic, retry=sk.Retry(attempts=3), tables=counts.values())
    def second(n: int, record: sk.Record[str]) -> None:
        count("second", n, record.key)

    with app.test() as t:
        t.send_all(topic, [(n, "k") for n in range(5)])
        assert seen == {"first": list(range(5)), "second": list(range(5))}
        t.restart()
        assert [dict(table) for table in counts.values()] == [{"k": 5}, {"k": 5}]
        assert seen["first"] == list(range(5)), "everything was committed"


def test_partial_outputs_of_a_windows_result_are_withdrawn_before_each_retry() -> None:
    app, tries = sk.App("w", on_error=sk.Retry(2)), list[int]()

    def second_time(result: dict[str, Any]) -> dict[str, Any]:
        tries.append(result["n"])
        if len(tries) == 1:
            raise OSError("not yet")
        return result

    counts = app.stream(app.topic("in", key=str)).window(sk.tumbling("1s")).aggregate(n=sk.Count())
    counts.to("first")
    counts.map(second_time).to("second")
    with app.test() as t:
        t.send("in", 1, key="k", ts=0)
        t.advance_to(10)
        assert [[r["n"] for r in t.read(topic)] for topic in ("first", "second")] == [[1], [1]]


def test_partial_outputs_of_an_agents_result_are_withdrawn() -> None:
    app = sk.App("a", on_error=sk.DeadLetter("dead"))

    @app.agent(app.topic("in", value=int), sink=["first", app.topic("second", value=str)])
    async def odd(n: int) -> Any:
        return "odd" if n % 2 else n

    with app.test() as t:
        for n in (1, 2):
            t.send("in", n)
        assert (t.read("first"), t.read("second"), t.read("dead")) == (["odd"], ["odd"], [b"2"])


def refused(_: Any) -> Any:
    raise ValueError("no")


@pytest.mark.parametrize("policy", [sk.Skip(), sk.DeadLetter("dead")])
@pytest.mark.parametrize("value", [lambda n: {n: n}, lambda n: n * 10**30])
def test_the_policy_judges_results_of_windows_whatever_they_hold(value: Any, policy: OnError) -> None:
    """A letter shows them as well as it can: its own encoding must not end the worker."""
    app = sk.App("poison", on_error=policy)
    topic = app.topic("in", key=str, value=int)
    latest = (
        app.stream(topic)
        .map(value)
        .window(sk.tumbling("1m"))
        .aggregate(last=sk.Reduce(function=lambda _, b: b))
    )
    latest.map(refused).to("out")
    with app.test() as t:
        t.send(topic, 5, key="k", ts=0)
        t.send(topic, 5, key="k", ts=600)
        if isinstance(policy, sk.DeadLetter):
            assert [letter.key for letter in t.records("dead")] == [b"k"]
        assert t.committed(topic) == 2


@pytest.mark.parametrize("policy", [sk.Skip(), sk.DeadLetter("dead")])
def test_a_result_that_an_agent_fails_on_is_written_as_what_it_is(policy: OnError) -> None:
    """Not as what the agent would have made of it."""
    app = sk.App("poison", on_error=policy)
    topic = app.topic("in", key=str, value=int)
    counted = app.stream(topic).window(sk.tumbling("1m")).aggregate(n=sk.Count())

    @app.agent(counted, sink="out")
    async def tell(result: Any) -> str:
        raise ValueError("no")

    with app.test() as t:
        t.send(topic, 5, key="k", ts=0)
        t.send(topic, 5, key="k", ts=600)
        if isinstance(policy, sk.DeadLetter):
            [letter] = t.records("dead")
            assert b'"n":1' in (letter.value or b"")
        assert t.counts("tell").failed == 0
