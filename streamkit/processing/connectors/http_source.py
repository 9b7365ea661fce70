"""`sk.HttpSource`: what a URL answers, asked for again and again.

The server is told what is known already (`If-None-Match`, `If-Modified-Since`), and a body that is the same
as the last one is dropped, so an answer goes into the topic once. Redirects to web servers are followed,
without the headers that were meant for another one; proxies of the environment are used. What cannot be
understood goes into the topic as it is, and meets the error policy of whoever reads that. What is too large
for the topic is left out, and the log says so.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import orjson
import structlog

from streamkit.errors import UsageError
from streamkit.processing.connectors.sinks import BadRow, Row, Unavailable
from streamkit.processing.connectors.sources import Portion, Position, Source
from streamkit.processing.units import Duration, duration_ms

NOT_MODIFIED = 304
PIECE_BYTES = 64 << 10
HEAD_SHARE = 2  # so many times the timeout for all of an answer, its head and what it was redirected from
FOR_ALL = ("If-none-match", "If-modified-since")  # headers, as urllib spells them

Answer = tuple[bytes, dict[str, str]]  # a body, and the position behind it

log = structlog.get_logger("worker")


class HttpSource(Source):
    """GET `url` every `interval`. `rows`: what is made of a body; without it, of a JSON list its elements, of
    any other body itself. A body of more than `max_bytes`, or that takes longer than `timeout`, counts as no
    answer.
    """

    def __init__(
        self,
        url: str,
        *,
        interval: Duration = "60s",
        headers: Mapping[str, str] | None = None,
        rows: Callable[[bytes], Iterable[Any]] | None = None,
        timeout: Duration = "10s",
        max_bytes: int = 16 << 20,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"{url!r} is no URL of a web server", hint="http://... or https://...")
        self._shown = _shown(url)
        if "@" in urlsplit(url).netloc:
            raise UsageError(
                f"the URL of {self._shown} has a password in it", hint='headers={"Authorization": ...}'
            )
        self.url = url
        self._interval_s = duration_ms(interval) / 1000
        self._headers = dict(headers or {})
        self._rows = rows or elements
        self._timeout_s = duration_ms(timeout) / 1000
        self._max_bytes = max_bytes

    @property
    def detail(self) -> str:
        return f"GET {self._shown} every {self._interval_s:g} s"

    async def read(self, position: Position) -> AsyncIterator[Portion]:
        known = dict(position)
        while True:
            answer = await asyncio.to_thread(self._get, known)
            if answer is not None:
                body, reached = answer
                rows = self._made_of(body) if reached["digest"] != known.get("digest") else []
                changes = {name: reached.get(name) for name in {**known, **reached}}
                known = dict(reached)
                written = False
                while not written:
                    try:
                        yield rows, changes
                        written = True
                    except BadRow as bad:
                        log.error("row left out", url=self._shown, row=bad.index, error=str(bad.cause))
                        del rows[bad.index]
            await asyncio.sleep(self._interval_s)

    def _made_of(self, body: bytes) -> list[Row]:
        try:
            return [value if isinstance(value, Row) else Row(value) for value in self._rows(body)]
        except Exception:
            return [Row(body)]

    def _get(self, known: Mapping[str, str]) -> Answer | None:
        """None: nothing new."""
        headers = dict(self._headers)
        if "etag" in known:
            headers["If-None-Match"] = known["etag"]
        if "last_modified" in known:
            headers["If-Modified-Since"] = known["last_modified"]
        request = urllib.request.Request(self.url, headers=headers)
        connections = Connections()
        ending = threading.Timer(HEAD_SHARE * self._timeout_s, connections.cut)
        ending.start()
        try:
            with connections.opener.open(request, timeout=self._timeout_s) as response:
                body = self._body(response)
                if connections.are_cut:
                    raise self._slow()
                return body, _position(response.headers, body)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == NOT_MODIFIED:
                return None
            raise Unavailable(f"{self._shown} answers {error.code}") from None
        except (OSError, HTTPException) as error:
            if connections.are_cut:
                raise self._slow() from error
            raise Unavailable(f"{self._shown}: {error}") from error
        finally:
            ending.cancel()

    def _body(self, response: HTTPResponse) -> bytes:
        deadline, pieces, size = time.monotonic() + self._timeout_s, [], 0
        while piece := response.read1(PIECE_BYTES):
            pieces.append(piece)
            size += len(piece)
            if size > self._max_bytes:
                raise Unavailable(
                    f"{self._shown} answers with more than {self._max_bytes} bytes (max_bytes=)"
                )
            if time.monotonic() > deadline:
                raise self._slow()
        if response.length:  # of what was announced this is missing
            raise Unavailable(f"{self._shown}: the answer ends {response.length} bytes too early")
        return b"".join(pieces)

    def _slow(self) -> Unavailable:
        return Unavailable(f"{self._shown} takes longer than {self._timeout_s:g} s to answer (timeout=)")


class Connections:
    """Those of one request, which can be cut: a server that sends a byte now and then meets no timeout."""

    def __init__(self) -> None:
        self.are_cut = False
        self._sockets: list[socket.socket] = []
        opened = self._sockets.append

        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                opened(self.sock)

        class Encrypted(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                opened(self.sock)

        class Http(urllib.request.HTTPHandler):
            def http_open(self, req: urllib.request.Request) -> HTTPResponse:
                return self.do_open(Plain, req)

        class Https(urllib.request.HTTPSHandler):
            def https_open(self, req: urllib.request.Request) -> HTTPResponse:
                return self.do_open(Encrypted, req)

        self.opener = urllib.request.build_opener(Redirects, Http, Https)

    def cut(self) -> None:
        self.are_cut = True
        for one in self._sockets:
            with suppress(OSError):
                socket.socket.shutdown(one, socket.SHUT_RDWR)


class Redirects(urllib.request.HTTPRedirectHandler):
    """To web servers only; a key that was meant for one server is not shown to another."""

    def redirect_request(  # noqa: PLR0917 - urllib's
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.startswith(("http://", "https://")):
            raise urllib.error.HTTPError(req.full_url, code, "no web server", headers, fp)
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and _server(newurl) != _server(req.full_url):
            request.headers = {name: text for name, text in request.headers.items() if name in FOR_ALL}
        return request


def _server(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _shown(url: str) -> str:
    """Without what may be a secret."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def elements(body: bytes) -> Iterable[Any]:
    """Of a JSON list each element, of any other body itself."""
    found = orjson.loads(body)
    return found if isinstance(found, list) else [body]


def _position(headers: Any, body: bytes) -> dict[str, str]:
    given = {"etag": headers["ETag"], "last_modified": headers["Last-Modified"]}
    return {name: text for name, text in given.items() if text} | {"digest": hashlib.sha256(body).hexdigest()}
