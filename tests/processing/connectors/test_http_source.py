"""What a URL answers goes into the topic once, and what does not answer is asked again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import pytest

import streamkit as sk
from streamkit.errors import UsageError
from streamkit.processing.connectors.sources import Portion


class Server:
    """Answers what it is told to."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.asked: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(dict(self.headers))
                status, headers, body = outer.answers.pop(0) if outer.answers else (503, {}, b"")
                if headers.get("ETag") and self.headers["If-None-Match"] == headers["ETag"]:
                    status, body = 304, b""
                self.send_response(status)
                for name, text in headers.items():
                    self.send_header(name, text)
                if "Content-Length" not in headers:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/rates"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def reading(source: sk.Source, position: dict[str, Any] | None = None) -> Any:
    return aclosing(cast("AsyncGenerator[Portion, None]", source.read(position or {})))


async def test_only_what_is_new_comes(server: Server) -> None:
    server.answers = [
        (200, {"ETag": '"1"'}, b'[{"n":1},{"n":2}]'),
        (200, {"ETag": '"1"'}, b"[]"),
        (200, {"Last-Modified": "Mon, 23 Nov 2026 08:00:00 GMT"}, b'{"n":3}'),
        (200, {}, b'{"n":3}'),
        (200, {}, b"no json"),
    ]
    source = sk.HttpSource(server.url, interval="1ms", headers={"X-Key": "k"})
    async with reading(source) as read:
        rows, position = await anext(read)
        assert [row.value for row in rows] == [{"n": 1}, {"n": 2}]
        rows, changes = await anext(read)
        assert [row.value for row in rows] == [b'{"n":3}']
        assert position["etag"] == '"1"' and changes["etag"] is None
        assert [row.value for row in (await anext(read))[0]] == [], "the same without a word from the server"
        assert [row.value for row in (await anext(read))[0]] == [b"no json"]
    assert server.asked[0]["X-Key"] == "k"
    assert server.asked[1]["If-None-Match"] == '"1"'
    assert server.asked[3]["If-Modified-Since"] == "Mon, 23 Nov 2026 08:00:00 GMT"


async def test_a_row_that_the_topic_does_not_take_is_left_out(server: Server) -> None:
    server.answers = [(200, {}, b'[1,"too large",3]'), (200, {}, b"[4]")]
    source = sk.HttpSource(server.url, interval="1ms")
    async with reading(source) as read:
        rows, position = await anext(read)
        assert [row.value for row in rows] == [1, "too large", 3]
        rows, again = await read.athrow(sk.BadRow(1, ValueError("too large")))
        assert ([row.value for row in rows], again) == ([1, 3], position)
        rows, _ = await anext(read)
        assert [row.value for row in rows] == [4]


async def test_a_restart_goes_on_from_the_position(server: Server) -> None:
    server.answers = [(200, {"ETag": '"1"'}, b"[1]"), (200, {"ETag": '"1"'}, b""), (200, {}, b"[2]")]
    source = sk.HttpSource(server.url, interval="1ms")
    async with reading(source) as read:
        _, position = await anext(read)
    async with reading(source, dict(position)) as read:
        assert [row.value for row in (await anext(read))[0]] == [2]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((500, {}, b""), "answers 500"),
        ((200, {}, b"x" * 2000), "more than 1000 bytes"),
        ((200, {"Content-Length": "9"}, b"x"), "8 bytes too early"),
    ],
)
async def test_no_good_answer_is_no_answer(server: Server, answer: Any, why: str) -> None:
    server.answers = [answer]
    async with reading(sk.HttpSource(server.url, max_bytes=1000, timeout="200ms")) as read:
        with pytest.raises(sk.Unavailable, match=why):
            await anext(read)


async def test_nobody_there() -> None:
    async with reading(sk.HttpSource("http://127.0.0.1:1/")) as read:
        with pytest.raises(sk.Unavailable, match="refused"):
            await asyncio.wait_for(anext(read), 5)
    with pytest.raises(UsageError, match="no URL"):
        sk.HttpSource("file:///etc/passwd")


async def test_rows_may_be_made_of_a_body_by_hand(server: Server) -> None:
    server.answers = [(200, {}, b"a=1\nb=2")]

    def pairs(body: bytes) -> Iterator[sk.Row]:
        for line in body.decode().split():
            key, _, value = line.partition("=")
            yield sk.Row(value, key=key)

    async with reading(sk.HttpSource(server.url, rows=pairs)) as read:
        assert [(row.key, row.value) for row in (await anext(read))[0]] == [("a", "1"), ("b", "2")]


async def test_a_key_for_one_server_is_not_shown_to_another(server: Server) -> None:
    other = Server()
    try:
        other.answers = [(200, {}, b"[1]")]
        server.answers = [(302, {"Location": "/moved"}, b""), (302, {"Location": other.url}, b"")]
        source = sk.HttpSource(server.url, headers={"Authorization": "Bearer secret"})
        async with reading(source, {"etag": '"1"'}) as read:
            assert [row.value for row in (await anext(read))[0]] == [1]
    finally:
        other.close()
    assert [asked["Authorization"] for asked in server.asked] == ["Bearer secret"] * 2
    assert "Authorization" not in other.asked[0]
    assert other.asked[0]["If-None-Match"] == '"1"'


async def test_redirects_lead_to_web_servers_only(server: Server) -> None:
    server.answers = [(302, {"Location": "ftp://127.0.0.1:1/x"}, b"")]
    async with reading(sk.HttpSource(server.url)) as read:
        with pytest.raises(sk.Unavailable, match="answers 302"):
            await anext(read)


async def test_secrets_of_a_url_are_not_told(server: Server) -> None:
    server.answers = [(500, {}, b"")]
    source = sk.HttpSource(f"{server.url}?key=secret")
    assert "secret" not in source.detail
    async with reading(source) as read:
        with pytest.raises(sk.Unavailable) as refused:
            await anext(read)
    assert "secret" not in str(refused.value)
    with pytest.raises(UsageError) as usage:
        sk.HttpSource("http://ann:secret@127.0.0.1/")
    assert "secret" not in str(usage.value)


@pytest.mark.parametrize("begin", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n1"])
async def test_an_answer_that_never_ends_is_cut(begin: bytes) -> None:
    """A byte now and then, in the head or in a body without a length."""
    ended = asyncio.Event()

    async def dribble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.write(begin)
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)
        ended.set()
        writer.close()

    slow = await asyncio.start_server(dribble, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{slow.sockets[0].getsockname()[1]}/"
    async with reading(sk.HttpSource(url, timeout="100ms")) as read:
        with pytest.raises(sk.Unavailable, match="takes longer"):
            await asyncio.wait_for(anext(read), 5)
    await asyncio.wait_for(ended.wait(), 5)
    slow.close()
