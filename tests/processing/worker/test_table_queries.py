"""Queries for rows that are here, and elsewhere: the coordinator takes its time, and whoever answers for the
owner may be anybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import orjson
import pytest

import streamkit as sk
from streamkit.processing.worker import queries as module
from streamkit.processing.worker.queries import TableQueries
from streamkit.processing.worker.roster import Peer, Roster
from streamkit.processing.worker.task_runner import TaskRunner

QUERIES = 4
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
ROW = b'{"table":"counts","key":"a","partition":0,"value":3}'


class Waiting:
    """Answers when the test has seen enough."""

    def __init__(self) -> None:
        self.asked = 0
        self.answering = asyncio.Event()

    async def peers(self) -> Sequence[Peer] | None:
        self.asked += 1
        await self.answering.wait()
        return None


def counting(key: Any) -> sk.App:
    app = sk.App("rows")
    counts = app.table("counts", default=int, key=key)

    @app.agent(app.topic("in", key=key, value=int))
    def count(n: int, record: sk.Record[Any]) -> None:
        counts[record.key] += n

    return app


class Here:
    """A task whose rows are their keys."""

    ready = True

    def __init__(self) -> None:
        self.task = self

    def row(self, name: str, key: Any) -> str:
        return repr(key)


@pytest.mark.parametrize(
    ("key", "path", "found"),
    [
        (str, "a%2Fb%20%C3%BC", "'a/b ü'"),
        (str, "ü".encode().decode("latin-1"), "'ü'"),  # sent as it is
        (str, "100%25+%3f%26", "'100%+?&'"),
        (bytes, "%00%FFx", r"b'\x00\xffx'"),
        (int, "7", "7"),
    ],
)
async def test_a_key_is_what_its_escapes_say(key: type, path: str, found: str) -> None:
    app = counting(key)
    runner = cast(TaskRunner, Here())
    queries = TableQueries(app.topology().plan({}), ["in"], cast(Roster, Waiting()), lambda _: runner)
    status, _, body = await asyncio.to_thread(queries.reply, f"/tables/counts/{path}", {})
    assert (status, orjson.loads(body).get("value")) == (200, found)


async def test_a_text_that_is_none_is_refused() -> None:
    app = counting(str)
    queries = TableQueries(app.topology().plan({}), ["in"], cast(Roster, Waiting()), lambda _: None)
    status, _, body = await asyncio.to_thread(queries.reply, "/tables/counts/%FF", {})
    assert status == 400 and b"not UTF-8" in body


async def test_the_coordinator_is_asked_once_for_all_who_wait() -> None:
    roster = Waiting()
    queries = TableQueries(counting(str).topology().plan({}), ["in"], cast(Roster, roster), lambda _: None)
    asking = [asyncio.to_thread(queries.reply, f"/tables/counts/{n}", {}) for n in range(QUERIES)]
    answers = asyncio.gather(*asking)
    async with asyncio.timeout(10):
        while len([task for task in asyncio.all_tasks() if "_ask" in repr(task)]) < QUERIES:
            await asyncio.sleep(0.01)
        roster.answering.set()
        assert {status for status, _, _ in await answers} == {503}
    assert roster.asked == 1


async def test_a_coordinator_that_does_not_answer_in_time_is_asked_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server's own answer would be taken for a stranger's by a worker that passed the question on."""
    monkeypatch.setattr(module, "ANSWER_S", 0.05)
    roster = Waiting()
    queries = TableQueries(counting(str).topology().plan({}), ["in"], cast(Roster, roster), lambda _: None)
    status, _, body = await asyncio.to_thread(queries.reply, "/tables/counts/a", {})
    assert status == 503 and b"no answer within" in body
    roster.answering.set()


async def test_a_partition_of_thousands_of_digits_is_none() -> None:
    queries = TableQueries(counting(str).topology().plan({}), ["in"], cast(Roster, Waiting()), lambda _: None)
    status, *_ = await asyncio.to_thread(queries.reply, f"/tables/counts/a?partition={'9' * 5000}", {})
    assert status == 400


class Owned:
    """The partition is at the one who is reached there."""

    def __init__(self, address: str) -> None:
        self.address = address

    async def peers(self) -> Sequence[Peer] | None:
        return [Peer("other", self.address, frozenset({("in", 0)}))]


Talk = Callable[[bytes, asyncio.StreamWriter], Any]


@asynccontextmanager
async def somebody(talk: Talk) -> AsyncIterator[str]:
    """The address of a server that hears a request and then does what it wants."""

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(await reader.readuntil(b"\r\n\r\n"), writer)
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(hear, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def answer_through(talk: Talk, path: str = "a") -> tuple[int, bytes]:
    async with somebody(talk) as address:
        plan, roster = counting(str).topology().plan({}), cast(Roster, Owned(address))
        queries = TableQueries(plan, ["in"], roster, lambda _: None)
        async with asyncio.timeout(20):
            status, _, body = await asyncio.to_thread(queries.reply, f"/tables/counts/{path}", {})
    return status, body


async def test_the_owners_row_is_passed_on() -> None:
    requests = list[bytes]()

    async def owner(request: bytes, writer: asyncio.StreamWriter) -> None:
        requests.append(request)
        writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(ROW) + ROW)

    assert await answer_through(owner, "ü%20".encode().decode("latin-1")) == (200, ROW)
    assert requests[0].startswith(b"GET /tables/counts/%C3%BC%20 HTTP/1.1\r\n")
    assert b"X-Streamkit-App: rows\r\n" in requests[0]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (HEAD.replace(b"json", b"html") + b"\r\n" + ROW, 502),
        (HEAD + b'\r\n{"secret":1}', 502),
        (HEAD + b"\r\n[1]", 502),
        (HEAD + b"Content-Length: 99\r\n\r\n" + ROW, 503),
        (b"SSH-2.0-x\r\n", 503),
        (b"", 503),
    ],
)
async def test_what_is_no_workers_answer_is_not_passed_on(answer: bytes, status: int) -> None:
    async def stranger(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    assert (await answer_through(stranger))[0] == status


@pytest.mark.parametrize(("most", "wait_s"), [(10_000, 60.0), (1 << 30, 0.2)])
async def test_an_answer_without_an_end_is_given_up(
    most: int, wait_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_BYTES", most)
    monkeypatch.setattr(module, "ANSWER_S", wait_s)

    async def endless(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        while True:
            writer.write(b"X-More: %s\r\n" % (b"x" * 100))
            await writer.drain()
            await asyncio.sleep(0.001)

    status, body = await answer_through(endless)
    assert status == 503 and b"does not answer" in body
