"""A request is answered with 200 when its record is safe, and with what is wrong otherwise."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

import streamkit as sk
from streamkit.processing.connectors import webhook
from streamkit.processing.connectors.sources import Portion

Reading = AsyncGenerator[Portion, None]


class Sender:
    """One connection to the webhook."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self, request: bytes = b"") -> tuple[int, dict[str, str]]:
        self.writer.write(request)
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 5)).decode()
        first, *lines = head.split("\r\n")
        return int(first.split()[1]), dict(line.split(": ") for line in lines if line)

    async def ended(self) -> bool:
        return await asyncio.wait_for(self.reader.read(), 5) == b""


def post(body: bytes, *headers: str, path: str = "/hook") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[Reading, Callable[[], Any]]]:
    """A source that is being read, and how to connect to it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    reading = cast(Reading, sk.WebhookSource(port, "/hook", **options).read({}))

    async def connect() -> Sender:
        while True:
            try:
                return Sender(*await asyncio.open_connection("127.0.0.1", port))
            except ConnectionRefusedError:
                await asyncio.sleep(0.001)

    try:
        yield reading, connect
    finally:
        await reading.aclose()


async def test_200_comes_after_the_acknowledgement() -> None:
    async with serving(keep=["X-Event"]) as (reading, connect):
        portion = asyncio.ensure_future(anext(reading))
        sender = await connect()
        answer = asyncio.ensure_future(sender.answer(post(b'{"n":1}', "X-Event: push", "X-Other: y")))
        rows, changes = await asyncio.wait_for(portion, 5)
        assert (rows, changes) == ([sk.Row(b'{"n":1}', headers=[("X-Event", b"push")])], {})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(answer), 0.05)
        portion = asyncio.ensure_future(anext(reading))  # as the runner does once all is written
        assert (await answer)[0] == 200
        sender.writer.write(post(b"2"))  # on the same connection
        assert [row.value for row in (await asyncio.wait_for(portion, 5))[0]] == [b"2"]


async def test_503_when_it_is_not_acknowledged() -> None:
    async with serving() as (reading, connect):
        portion = asyncio.ensure_future(anext(reading))
        taken, waiting, quiet = await connect(), await connect(), await connect()
        first = asyncio.ensure_future(taken.answer(post(b"1")))
        await asyncio.wait_for(portion, 5)
        second = asyncio.ensure_future(waiting.answer(post(b"2")))
        await asyncio.sleep(0.01)
        await reading.aclose()  # as the runner does when the cluster is away
        for status, headers in (await first, await second):
            assert (status, headers["Retry-After"], headers["Connection"]) == (503, "1", "close")
        assert await quiet.ended()


async def test_503_when_it_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "ANSWER_S", 0.02)
    async with serving() as (reading, connect):
        portion = asyncio.ensure_future(anext(reading))
        sender = await connect()
        assert (await sender.answer(post(b"1")))[0] == 503
        await portion


async def test_requests_that_wait_together_go_together() -> None:
    async with serving() as (reading, connect):
        first = asyncio.ensure_future(anext(reading))
        senders = [await connect() for _ in range(5)]
        answers = [asyncio.ensure_future(s.answer(post(b"%d" % n))) for n, s in enumerate(senders)]
        found = [row.value for row in (await asyncio.wait_for(first, 5))[0]]
        while len(found) < 5:
            found += [row.value for row in (await asyncio.wait_for(anext(reading), 5))[0]]
        end = asyncio.ensure_future(anext(reading))
        assert [(await answer)[0] for answer in answers] == [200] * 5
        assert sorted(found) == [b"0", b"1", b"2", b"3", b"4"]
        end.cancel()
        await asyncio.wait([end])


async def test_422_for_the_one_that_the_topic_does_not_take() -> None:
    async with serving() as (reading, connect):
        first = asyncio.ensure_future(anext(reading))
        refused, taken = await connect(), await connect()
        large = asyncio.ensure_future(refused.answer(post(b"too large")))
        assert [row.value for row in (await asyncio.wait_for(first, 5))[0]] == [b"too large"]
        small = asyncio.ensure_future(taken.answer(post(b"small")))
        rows, _ = await asyncio.wait_for(reading.athrow(sk.BadRow(0, ValueError("too large"))), 5)
        assert (await large)[0] == 422
        assert [row.value for row in rows] == [b"small"]
        end = asyncio.ensure_future(anext(reading))
        assert (await small)[0] == 200
        end.cancel()
        await asyncio.wait([end])


def signed(headers: webhook.Headers, body: bytes) -> bool:
    wanted = hmac.new(b"secret", body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(wanted, headers.get("x-signature", ""))


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (post(b"1", path="/other"), 404),
        (b"GET /hook HTTP/1.1\r\n\r\n", 405),
        (b"POST /hook HTTP/1.1\r\n\r\n", 411),
        (b"POST /hook HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 411),
        (b"POST /hook HTTP/1.1\r\nContent-Length: 101\r\n\r\n", 413),
        (b"POST /hook HTTP/1.1\r\nContent-Length: " + b"9" * 100 + b"\r\n\r\n", 413),
        (b"POST /hook HTTP/1.1\r\nContent-Length: " + b"0" * 19 + b"101\r\n\r\n", 413),
        (b"POST /hook HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /hook HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST /hook HTTP/1.1\r\nContent-Length : 1\r\n\r\n", 400),
        (b"POST /hook\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"POST /hook HTTP/1.1\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", 431),
        (post(b"1", "X-Signature: wrong"), 401),
    ],
)
async def test_what_is_refused(request_: bytes, status: int) -> None:
    async with serving(max_bytes=100, verify=signed) as (reading, connect):
        portion = asyncio.ensure_future(anext(reading))
        sender = await connect()
        assert (await sender.answer(request_))[0] == status
        if status != 401:  # whose body was read
            assert await sender.ended()
        good = hmac.new(b"secret", b"1", hashlib.sha256).hexdigest()
        other = await connect()
        other.writer.write(post(b"1", f"X-Signature: {good}"))
        assert [row.value for row in (await asyncio.wait_for(portion, 5))[0]] == [b"1"]


async def test_a_sender_that_asks_first_is_told_to_go_on() -> None:
    async with serving() as (reading, connect):
        portion = asyncio.ensure_future(anext(reading))
        sender = await connect()
        request = post(b"12345", "Expect: 100-continue")
        assert (await sender.answer(request[:-5]))[0] == 100
        sender.writer.write(b"12345")
        assert [row.value for row in (await asyncio.wait_for(portion, 5))[0]] == [b"12345"]
