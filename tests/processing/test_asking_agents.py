"""Agents answer: `ask`, `cast` and `map`, whatever their shape, and what happens when they cannot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

import streamkit as sk
from streamkit.errors import RefusedError, UsageError
from streamkit.processing.error_policy import OnError
from streamkit.processing.replies import (
    TOKEN_BYTES,
    Asked,
    answer_of,
    error_reply,
    reply_topic,
    request_headers,
    without_request,
)


class Price(msgspec.Struct):
    amount: float


def plain(n: int) -> Price | None:
    return None if n == -1 else Price(100 / n)


async def record(n: int) -> Price | None:
    await asyncio.sleep(n % 3)
    return plain(n)


async def stream(numbers: sk.Stream[int]) -> AsyncIterator[Price]:
    async for n in numbers:
        price = plain(n)
        if price is not None:
            yield price
            yield Price(-1)  # the reply is what was yielded first


REPLIES = reply_topic("prices", bytes(TOKEN_BYTES))
SHAPES = pytest.mark.parametrize("function", [plain, record, stream])


def asked(
    function: Callable[..., Any], on_error: OnError | None = None
) -> tuple[sk.App, sk.Topic[str, int], sk.Agent[int, Price]]:
    app = sk.App("prices")
    numbers = app.topic("numbers", key=str, value=int, partitions=2)
    agent = app.agent(numbers, sink=app.topic("prices", value=Price), on_error=on_error)(function)
    return app, numbers, agent


@SHAPES
def test_an_agent_replies(function: Callable[..., Any]) -> None:
    app, _, price = asked(function)
    with app.test() as t:
        assert t.run(price.ask(4, key="a", headers=[("h", b"1")])) == Price(25)
        assert t.run(price.ask(-1)) is None
        assert t.run(price.cast(5)) is None
        assert [p.amount for p in t.read("prices") if p.amount > 0] == [25, 20]
        first = t.records("prices")[0]
        assert (first.key, first.headers) == (b"a", [("h", b"1")]), "what was asked stops at the agent"


@SHAPES
def test_replies_come_in_the_order_of_the_values(function: Callable[..., Any]) -> None:
    app, _, price = asked(function)

    async def ask_many() -> list[float]:
        return [p.amount async for p in price.map(range(1, 101), key=str, at_once=7)]

    with app.test() as t:
        assert t.run(ask_many()) == [100 / n for n in range(1, 101)]


@SHAPES
@pytest.mark.parametrize("on_error", [None, sk.Skip(), sk.DeadLetter("dead"), sk.Retry(2)])
def test_an_error_reaches_the_asker(function: Callable[..., Any], on_error: OnError | None) -> None:
    app, numbers, price = asked(function, on_error)
    with app.test() as t:
        with pytest.raises(sk.AgentError, match="raised ZeroDivisionError: division by zero") as raised:
            t.run(price.ask(0))
        assert (raised.value.agent, raised.value.error) == (price.name, "ZeroDivisionError")
        (told,) = t.records(REPLIES)
        assert dict(told.headers)["streamkit.ask.error"] == b"ZeroDivisionError", "and no other behind it"
        assert t.run(price.ask(4)) == Price(25), "nobody else is stopped by it"
        assert sum(t.committed(numbers, p) or 0 for p in range(2)) == 2
        if isinstance(on_error, sk.DeadLetter):
            names = [name for name, _ in t.records("dead")[0].headers]
            assert names and not any(name.startswith("streamkit.ask") for name in names)


async def answer_and_fail(numbers: sk.Stream[int]) -> AsyncIterator[Price]:
    async for n in numbers:
        yield Price(n)
        raise ValueError(n)


@pytest.mark.parametrize("on_error", [sk.Skip(), sk.DeadLetter("dead")])
def test_an_error_behind_the_reply_is_no_second_reply(on_error: OnError) -> None:
    app, numbers, price = asked(answer_and_fail, on_error)
    with app.test() as t:
        assert t.run(price.ask(4)) == Price(4)
        assert len(t.records(REPLIES)) == 1
        assert sum(t.committed(numbers, p) or 0 for p in range(2)) == 1


def test_an_error_behind_the_reply_is_nobodys_but_the_policys() -> None:
    """Whoever asked does not hear of it, so it ends the worker as it would without a request."""
    app, _, price = asked(answer_and_fail)
    with app.test() as t:
        with pytest.raises(ValueError, match="4"):
            t.run(price.ask(4))
        (told,) = t.records(REPLIES)
        assert "streamkit.ask.error" not in dict(told.headers)


def test_a_request_that_cannot_be_read_is_answered() -> None:
    app, numbers, price = asked(record)
    with app.test() as t:
        request = Asked("prices/record", REPLIES, b"9")
        t.send(numbers, b"{nonsense", headers=request_headers(request))
        (told,) = t.records(REPLIES)
        assert dict(told.headers)["streamkit.ask.error"]
        with pytest.raises(ZeroDivisionError):
            t.run(price.cast(0))
        assert t.counts("record").failed == 1


def test_a_cast_that_fails_follows_the_policy() -> None:
    app, _, price = asked(plain)
    with app.test() as t, pytest.raises(ZeroDivisionError):
        t.run(price.cast(0))


def test_only_the_agent_that_was_asked_replies_and_only_its_errors_count() -> None:
    app = sk.App("two")
    numbers = app.topic("numbers", value=int)

    @app.agent(numbers, on_error=sk.Skip())
    async def other(n: int) -> int:
        raise ValueError(n)

    @app.agent(numbers)
    async def mine(n: int) -> int:
        await asyncio.sleep(1)
        return n + 1

    with app.test() as t:
        assert t.run(mine.ask(1)) == 2
        assert len(t.records(reply_topic("two", bytes(TOKEN_BYTES)))) == 1


def test_no_reply_is_a_timeout_that_says_what_to_do() -> None:
    app = sk.App("slow")

    @app.agent()
    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds)

    with app.test() as t:
        assert t.run(sleep.ask(1)) is None
        with pytest.raises(TimeoutError, match="no reply from sleep within 5 s") as raised:
            t.run(sleep.ask(60, timeout="5s"))
        assert "streamkit group describe slow" in raised.value.hint  # type: ignore[attr-defined]
        assert t.run(sleep.ask(1)) is None, "the late reply reaches nobody else"


def test_agents_ask_agents() -> None:
    app = sk.App("chain")

    @app.agent(concurrency=4)
    async def double(n: int) -> int:
        await asyncio.sleep(1)
        return 2 * n

    @app.agent(sink="sums")
    async def total(numbers: list[int]) -> int:
        return sum([n async for n in double.map(numbers)])

    with app.test() as t:
        assert t.run(total.ask([1, 2, 3])) == 12
        assert t.read("sums") == [12]
        assert t.now_ms < 2_000, "they were asked at once"


def test_a_request_follows_its_key_through_a_repartition() -> None:
    app = sk.App("counts")
    words = app.topic("words", value=str)
    counts = app.table("counts", key=str, default=int)

    @app.agent(words.by(str.lower, key=str))
    async def count(word: str, record: sk.Record[str]) -> int:
        counts[record.key] += 1
        return counts[record.key]

    with app.test() as t:
        assert [t.run(count.ask(word)) for word in ("Log", "log", "map")] == [1, 2, 1]
        t.restart()
        assert t.run(count.ask("LOG")) == 3


def test_who_cannot_be_asked() -> None:
    app = sk.App("refused")

    @app.agent(app.stream(app.topic("numbers", value=int)).map(str))
    async def computed(text: str) -> None: ...

    @app.agent()
    async def named(text: str) -> None: ...

    with app.test() as t, pytest.raises(UsageError, match="takes what a stream computes"):
        t.run(computed.ask("1"))
    with pytest.raises(RefusedError, match="is not running"):
        asyncio.run(named.ask("1"))


def test_a_reply_carries_its_number_and_a_bounded_message() -> None:
    asked = Asked("app/agent", reply_topic("app", bytes(TOKEN_BYTES)), b"7")
    theirs, found = without_request([("h", None), *request_headers(asked)])
    assert (theirs, found) == ([("h", None)], asked)
    assert without_request([("h", b"1")]) == ([("h", b"1")], None)
    value, _, _, headers, _ = error_reply(asked, ValueError("x" * 5_000), 0).record
    answer = answer_of(headers, value)
    assert answer is not None and answer.error is not None
    assert (answer.number, answer.error[0], len(answer.error[1])) == (b"7", "ValueError", 1_000)
    assert answer_of([("h", b"1")], None) is None


@pytest.mark.parametrize("function", [plain, record, stream])
@pytest.mark.parametrize("n", [4, 0])
def test_a_request_that_makes_no_sense_is_a_record_like_any_other(
    function: Callable[..., Any], n: int
) -> None:
    """Anybody who may write to the topic may write these headers: they must not get round `on_error`."""
    app, numbers, _ = asked(function, sk.Skip())
    with app.test() as t:
        t.send(numbers, n, headers=[("streamkit.ask.agent", b"\xff"), ("streamkit.ask.reply-to", b"\xff")])
        t.send(numbers, 5)
        assert [p.amount for p in t.read("prices") if p.amount > 0] == ([25, 20] if n else [20])


def test_an_answer_that_makes_no_sense_is_read_all_the_same() -> None:
    answer = answer_of([("streamkit.ask.number", b"7"), ("streamkit.ask.error", b"\xff")], None)
    assert answer is not None and answer.error == ("\ufffd", "")


NOT_AN_ASKERS = [
    *("", "prices", "prices-replies", "prices-replies-", "other-replies-0123456789ab", "x" * 600, "a\0b"),
    *(f"{REPLIES}c", f"{REPLIES}\n", f"x-{REPLIES}", REPLIES.upper()),
]


@SHAPES
@pytest.mark.parametrize("n", [4, 0])
def test_a_request_writes_to_no_topic_but_an_askers_own(function: Callable[..., Any], n: int) -> None:
    app, numbers, price = asked(function, sk.Skip())
    with app.test() as t:
        for topic in NOT_AN_ASKERS:
            t.send(numbers, n, headers=request_headers(Asked(f"prices/{price.name}", topic, b"1")))
        assert not any(t._log.known(topic) for topic in [*NOT_AN_ASKERS, REPLIES] if topic != "prices")
        assert not any(record.headers for record in t.records("prices"))
        t.send(numbers, n, headers=request_headers(Asked(f"prices/{price.name}", REPLIES, b"1")))
        assert t.records(REPLIES)
