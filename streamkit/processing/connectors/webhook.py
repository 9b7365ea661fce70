"""`sk.WebhookSource`: a small HTTP server whose requests become records.

    POST /path, a body with Content-Length    200 once the record is acknowledged by the cluster
                                              503 when it is not: the sender is to try again
                                              422 when the topic does not take it, now or later
    anything else                             400 401 404 405 411 413 431

It listens where the source runs, which is one worker at a time; senders reach it through whatever stands
before the workers. Requests that wait together share a transaction. Everything is bounded: heads, bodies,
connections, times. It speaks plain HTTP/1.1: TLS and addresses open to the world are for the proxy before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from http import HTTPStatus

import msgspec
import structlog

from streamkit.processing.connectors.sinks import BadRow, Row
from streamkit.processing.connectors.sources import Portion, Position, Source

MAX_BODY_BYTES = 900_000  # what brokers take by default, less some room
HEAD_BYTES = 16 << 10
HEAD_S = 60.0  # so long a connection may be quiet
BODY_S = 30.0
MOST_DIGITS = 18  # of a length
ANSWER_S = 30.0  # so long a sender waits for an acknowledgement
AT_ONCE = 500
CONNECTIONS = 256  # each with one request at a time
LAST_WORDS_S = 1.0
ONCE = ("content-length", "transfer-encoding", "host")  # what comes twice means two things to two readers

Headers = Mapping[str, str]
log = structlog.get_logger("worker")


class Refused(Exception):
    """What the sender is told instead of 200."""

    def __init__(self, status: HTTPStatus) -> None:
        self.status = status


class Waiting(msgspec.Struct, eq=False):
    """A request whose sender waits for its answer."""

    row: Row
    answer: asyncio.Future[HTTPStatus]

    def reply(self, status: HTTPStatus) -> None:
        """The first answer counts."""
        if not self.answer.done():
            self.answer.set_result(status)


class WebhookSource(Source):
    """Bodies of POST requests to `path`, as they are. `port=0`: any, which the log names.

    `keep`: names of request headers that become headers of the record. `verify(headers, body)`, with names in
    small letters: False answers 401, as for a signature that does not fit.
    """

    def __init__(
        self,
        port: int,
        path: str = "/",
        *,
        host: str = "127.0.0.1",
        keep: Iterable[str] = (),
        verify: Callable[[Headers, bytes], bool] | None = None,
        max_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        self.host = host
        self.port = port
        self.path = path
        self._keep = tuple(keep)
        self._verify = verify
        self._max_bytes = max_bytes

    @property
    def detail(self) -> str:
        return f"POST http://{self.host}:{self.port}{self.path}"

    async def read(self, position: Position) -> AsyncIterator[Portion]:
        desk = Desk(self.check, self.row, self._max_bytes)
        server = await asyncio.start_server(desk.serve, self.host, self.port, limit=HEAD_BYTES)
        log.info("webhook", url=f"http://{self.host}:{server.sockets[0].getsockname()[1]}{self.path}")
        try:
            while True:
                waiting = await desk.take()
                try:
                    yield [one.row for one in waiting], {}
                except BadRow as bad:
                    log.error("request refused", path=self.path, error=str(bad.cause))
                    desk.give_back(waiting, bad.index)
                    continue
                for one in waiting:  # resumed: they are acknowledged
                    one.reply(HTTPStatus.OK)
        finally:
            server.close()
            await desk.close()

    def check(self, head: Head) -> None:
        """Raise Refused before the body is read."""
        if head.target.partition("?")[0] != self.path:
            raise Refused(HTTPStatus.NOT_FOUND)
        if head.method != "POST":
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED)

    def row(self, head: Head, body: bytes) -> Row:
        """The record of a request. Raises Refused."""
        if self._verify is not None and not self._verify(head.headers, body):
            raise Refused(HTTPStatus.UNAUTHORIZED)
        kept = [(name, head.headers.get(name.lower())) for name in self._keep]
        return Row(body, headers=[(name, text.encode()) for name, text in kept if text is not None])


class Head(msgspec.Struct, frozen=True):
    """The first lines of a request; names of headers in small letters."""

    method: str
    target: str
    headers: dict[str, str]

    @property
    def keeps_alive(self) -> bool:
        return self.headers.get("connection", "").lower() != "close"

    def length(self, most: int) -> int:
        """Of the body. Raises Refused."""
        declared = self.headers.get("content-length")
        if declared is None or "transfer-encoding" in self.headers:
            raise Refused(HTTPStatus.LENGTH_REQUIRED)
        if not (declared.isascii() and declared.isdigit()):
            raise Refused(HTTPStatus.BAD_REQUEST)
        digits = declared.lstrip("0") or "0"
        if len(digits) > MOST_DIGITS or int(digits) > most:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return int(digits)


def parsed(data: bytes) -> Head:
    """Raises Refused."""
    first, *lines = data.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise Refused(HTTPStatus.BAD_REQUEST)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, text = line.partition(":")
        name, before = name.lower(), headers.get(name.lower())
        if not colon or not name or name != name.strip() or (before is not None and name in ONCE):
            raise Refused(HTTPStatus.BAD_REQUEST)
        headers[name] = text.strip() if before is None else f"{before}, {text.strip()}"
    if words[2] == "HTTP/1.0":
        headers["connection"] = "close"
    return Head(words[0], words[1], headers)


class Desk:
    """Connections, and the requests on them that wait for an acknowledgement."""

    def __init__(
        self, check: Callable[[Head], None], row: Callable[[Head, bytes], Row], max_bytes: int
    ) -> None:
        self._check = check
        self._row = row
        self._max_bytes = max_bytes
        self._waiting: list[Waiting] = []
        self._taken: list[Waiting] = []
        self._arrived = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        self._quiet: set[asyncio.Task[None]] = set()  # of these, those between two requests
        self._closing = False

    async def take(self) -> list[Waiting]:
        """Requests that wait, one at least."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        self._taken, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
        return self._taken

    def give_back(self, taken: list[Waiting], refused: int) -> None:
        """All but the one that is refused wait again, before those who came later."""
        taken.pop(refused).reply(HTTPStatus.UNPROCESSABLE_ENTITY)
        self._taken, self._waiting = [], [*taken, *self._waiting]

    async def close(self) -> None:
        """Whoever still waits is told to come again."""
        self._closing = True
        for one in (*self._taken, *self._waiting):
            one.reply(HTTPStatus.SERVICE_UNAVAILABLE)
        for connection in self._quiet:
            connection.cancel()
        if self._connections:
            _, left = await asyncio.wait(self._connections, timeout=LAST_WORDS_S)
            for connection in left:
                connection.cancel()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until one side has enough."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if len(self._connections) > CONNECTIONS:
                await _respond(writer, HTTPStatus.SERVICE_UNAVAILABLE, keep_alive=False)
                return
            while not self._closing and await self._exchange(reader, writer, task):
                pass
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the sender is gone, or the source is
        finally:
            self._connections.discard(task)
            writer.close()

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, task: asyncio.Task[None]
    ) -> bool:
        """One request and its answer; whether another may follow."""
        self._quiet.add(task)
        try:
            async with asyncio.timeout(HEAD_S):
                data = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            await _respond(writer, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, keep_alive=False)
            return False
        finally:
            self._quiet.discard(task)
        keeps_alive = False  # what is refused before its body is read ends the connection
        try:
            head = parsed(data)
            self._check(head)
            length = head.length(self._max_bytes)
            if head.headers.get("expect", "").lower() == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            async with asyncio.timeout(BODY_S):
                body = await reader.readexactly(length)
            keeps_alive = head.keeps_alive
            status = await self._acknowledged(self._row(head, body))
        except Refused as refused:
            status = refused.status
        except (OSError, asyncio.IncompleteReadError):
            raise
        except Exception:
            log.exception("webhook")
            status = HTTPStatus.INTERNAL_SERVER_ERROR
        keeps_alive = keeps_alive and not self._closing
        await _respond(writer, status, keep_alive=keeps_alive)
        return keeps_alive

    async def _acknowledged(self, row: Row) -> HTTPStatus:
        """How it went, once that is known."""
        if self._closing:
            return HTTPStatus.SERVICE_UNAVAILABLE
        one = Waiting(row, asyncio.get_running_loop().create_future())
        self._waiting.append(one)
        self._arrived.set()
        try:
            async with asyncio.timeout(ANSWER_S):
                return await one.answer
        except TimeoutError:
            return HTTPStatus.SERVICE_UNAVAILABLE
        finally:
            if one in self._waiting:  # nobody waits for it any more
                self._waiting.remove(one)


async def _respond(writer: asyncio.StreamWriter, status: HTTPStatus, *, keep_alive: bool) -> None:
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", "Content-Length: 0"]
    lines.append(f"Connection: {'keep-alive' if keep_alive else 'close'}")
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: POST")
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        lines.append("Retry-After: 1")
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    await writer.drain()
