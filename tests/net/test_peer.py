"""One node calls another: real sockets, our own listener on the far side, and what may go wrong between."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from streamkit.net.budget import Budget
from streamkit.net.connection import Connection, Exchange, Limits
from streamkit.net.listener import Listener
from streamkit.net.peer import (
    Link,
    Peer,
    PeerError,
    PeerLostError,
    PeerRefusedError,
    PeerTimeoutError,
    PeerUnreachableError,
)
from streamkit.protocol.api import APIS
from streamkit.protocol.codec import decode
from streamkit.protocol.framing import RequestHeader, decode_request, encode_response
from streamkit.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from streamkit.protocol.messages.describe_cluster import DescribeClusterRequest, DescribeClusterResponse
from streamkit.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from streamkit.protocol.schema import Message
from streamkit.runtime.os.clock import SystemClock
from streamkit.runtime.os.network import TcpNetwork
from streamkit.telemetry.instruments import Registry

PATIENCE_MS = 10_000


class Far:
    """The other node: it keeps each request until the test answers, or answers at once by `answer`."""

    def __init__(self) -> None:
        self.requests: list[tuple[Exchange, RequestHeader, Message]] = []
        self.answer: Callable[[Message], Message] | None = None
        self.connections = 0
        self.listener = Listener(
            name="TEST",
            serve=self.serve,
            clock=SystemClock(),
            limits=Limits(),
            budget=Budget(1 << 30),
            closed=Registry().counter("closed_total", "closed", ("reason",)),
        )
        self._arrived = asyncio.Event()

    def serve(self, connection: Connection, frame: memoryview) -> Exchange:
        header, body = decode_request(frame)
        message = decode(APIS[header.api_key].request, body, header.api_version)
        exchange = Exchange(connection, len(frame))
        exchange.pipelined = True
        self.requests.append((exchange, header, message))
        self._arrived.set()
        if self.answer is not None:
            self.reply(len(self.requests) - 1, self.answer(message))
        return exchange

    def reply(self, index: int, message: Message) -> None:
        exchange, header, _ = self.requests[index]
        exchange.send(encode_response(header.correlation_id, message, header.api_version))

    async def received(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.requests) < count:
                self._arrived.clear()
                await self._arrived.wait()

    @property
    def port(self) -> int:
        return self.listener.port


@asynccontextmanager
async def far_node() -> AsyncIterator[Far]:
    far = Far()
    await far.listener.bind(TcpNetwork(), "127.0.0.1", 0)
    await far.listener.accept()
    try:
        yield far
    finally:
        await far.listener.close()


@asynccontextmanager
async def connected(far: Far) -> AsyncIterator[Peer]:
    peer = await Peer.connect(
        TcpNetwork(), "127.0.0.1", far.port, client_id="broker-1", timeout_ms=PATIENCE_MS
    )
    try:
        yield peer
    finally:
        peer.close()


@asynccontextmanager
async def saying(*parts: bytes, reset: bool = False) -> AsyncIterator[int]:
    """A port where the first request of each connection is answered with these bytes, then with an end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        await reader.readexactly(size)
        for part in parts:
            writer.write(part)
            await writer.drain()
        if reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(1, 13, linger)  # SOL_SOCKET, SO_LINGER: close is RST
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def named(name: str) -> DescribeClusterResponse:
    return DescribeClusterResponse(cluster_id=name)


async def test_many_calls_are_under_way_at_once_and_each_gets_its_own_answer() -> None:
    async with far_node() as far, connected(far) as peer:
        calls = [peer.call(FindCoordinatorRequest(key=f"k{n}"), 1, PATIENCE_MS) for n in range(50)]
        await far.received(50)
        for n in reversed(range(50)):
            far.reply(n, FindCoordinatorResponse(host=f"h{n}", port=n))
        answers = await asyncio.gather(*calls)
        assert [answer.host for answer in answers] == [f"h{n}" for n in range(50)]
        assert [message.key for _, _, message in far.requests] == [f"k{n}" for n in range(50)]
        assert {header.client_id for _, header, _ in far.requests} == {"broker-1"}


@pytest.mark.parametrize("version", range(5))
async def test_headers_fit_flexible_and_older_versions_and_the_one_exception(version: int) -> None:
    """ApiVersions: flexible from 3 on, and its response header never has tags."""
    async with far_node() as far, connected(far) as peer:
        far.answer = lambda message: ApiVersionsResponse(error_code=35)
        answer = await peer.call(ApiVersionsRequest(), version, PATIENCE_MS)
        assert answer.error_code == 35
        far.answer = lambda message: named("c")
        assert (await peer.call(DescribeClusterRequest(), min(version, 1), PATIENCE_MS)).cluster_id == "c"


@pytest.mark.parametrize("size", [0, 1, 4000, 65_000, 65_536, 70_000, 5_000_000])
async def test_an_answer_of_any_size_arrives_whole(size: int) -> None:
    async with far_node() as far, connected(far) as peer:
        far.answer = lambda message: named("x" * size)
        calls = [peer.call(DescribeClusterRequest(), 0, PATIENCE_MS) for _ in range(3)]
        for answer in await asyncio.gather(*calls):
            assert answer.cluster_id == "x" * size


async def test_an_answer_may_arrive_byte_by_byte() -> None:
    frame = b"".join(encode_response(1, named("cluster"), 0))
    async with saying(*(bytes([byte]) for byte in frame)) as port:
        link = Link(TcpNetwork(), "127.0.0.1", port, client_id="t")
        assert (await link.call(DescribeClusterRequest(), 0, PATIENCE_MS)).cluster_id == "cluster"
        link.close()


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("sent", [0, 3, 4, 20, 50_000])
async def test_a_connection_lost_within_a_frame_fails_all_calls_under_way(sent: int, reset: bool) -> None:
    frame = b"".join(encode_response(1, named("x" * 100_000), 0))
    async with saying(frame[:sent], reset=reset) as port:
        peer = await Peer.connect(TcpNetwork(), "127.0.0.1", port, client_id="t", timeout_ms=PATIENCE_MS)
        calls = [peer.call(DescribeClusterRequest(), 0, PATIENCE_MS) for _ in range(3)]
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, PeerLostError)
        assert peer.is_lost
        with pytest.raises(PeerUnreachableError):
            await peer.call(DescribeClusterRequest(), 0, PATIENCE_MS)


async def test_a_call_without_an_answer_in_its_time_ends_the_connection_and_the_calls_behind_it() -> None:
    async with far_node() as far, connected(far) as peer:
        first = peer.call(DescribeClusterRequest(), 0, 20)
        second = peer.call(DescribeClusterRequest(), 0, PATIENCE_MS)
        with pytest.raises(PeerTimeoutError, match=r"no answer to DESCRIBE_CLUSTER from .* within 20 ms"):
            await first
        with pytest.raises(PeerLostError):
            await second
        assert peer.is_lost


async def test_a_cancelled_call_leaves_the_others_and_the_connection_alone() -> None:
    async with far_node() as far, connected(far) as peer:
        first = peer.call(DescribeClusterRequest(), 0, PATIENCE_MS)
        second = peer.call(DescribeClusterRequest(), 0, PATIENCE_MS)
        first.cancel()
        await far.received(2)
        far.reply(0, named("a"))
        far.reply(1, named("b"))
        assert (await second).cluster_id == "b"
        assert not peer.is_lost


async def test_a_cancelled_call_that_is_never_answered_still_ends_the_connection_in_its_time() -> None:
    async with far_node() as far, connected(far) as peer:
        second = peer.call(DescribeClusterRequest(), 0, PATIENCE_MS)
        peer.call(DescribeClusterRequest(), 0, 20).cancel()
        with pytest.raises(PeerLostError):
            await second


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (struct.pack(">ii", 100 * 1024 * 1024 + 1, 1), "a frame of 104857601 bytes"),
        (struct.pack(">ii", -1, 1), "a frame of -1 bytes"),
        (struct.pack(">ih", 2, 1), "a frame of 2 bytes"),
        (b"".join(encode_response(77, named("c"), 0)), "request 77, which nobody asked"),
        (struct.pack(">ii", 4, 1), "ends early|end"),
        (struct.pack(">ii", 24, 1) + b"\xff" * 20, "unknown tagged fields"),
    ],
)
async def test_what_is_no_answer_ends_the_connection(answer: bytes, why: str) -> None:
    async with saying(answer) as port:
        peer = await Peer.connect(TcpNetwork(), "127.0.0.1", port, client_id="t", timeout_ms=PATIENCE_MS)
        with pytest.raises(PeerLostError, match=why):
            await peer.call(DescribeClusterRequest(), 0, PATIENCE_MS)
        assert peer.is_lost


async def test_closing_fails_the_calls_under_way() -> None:
    async with far_node() as far, connected(far) as peer:
        call = peer.call(DescribeClusterRequest(), 0, PATIENCE_MS)
        peer.close()
        with pytest.raises(PeerLostError, match="closed"):
            await call


async def test_a_link_connects_when_it_is_called_once_for_all_who_call_and_again_after_a_loss() -> None:
    async with far_node() as far:
        far.answer = lambda message: named("c")
        link = Link(TcpNetwork(), "127.0.0.1", far.port, client_id="t")
        await asyncio.gather(*(link.call(DescribeClusterRequest(), 0, PATIENCE_MS) for _ in range(10)))
        assert len({exchange.connection for exchange, _, _ in far.requests}) == 1
        link.close()
        await link.call(DescribeClusterRequest(), 0, PATIENCE_MS)
        assert len({exchange.connection for exchange, _, _ in far.requests}) == 2
        link.close()


async def test_a_link_says_at_once_that_nobody_listens() -> None:
    async with far_node() as far:
        port = far.port
    link = Link(TcpNetwork(), "127.0.0.1", port, client_id="t")
    with pytest.raises(PeerRefusedError, match=f"127.0.0.1:{port}"):
        await link.call(DescribeClusterRequest(), 0, PATIENCE_MS)


async def test_a_link_gives_up_connecting_in_its_time() -> None:
    class Nowhere(TcpNetwork):
        async def connect(self, *address: object) -> None:  # type: ignore[override]
            await asyncio.Event().wait()

    link = Link(Nowhere(), "127.0.0.1", 1, client_id="t")
    calls = [link.call(DescribeClusterRequest(), 0, 20) for _ in range(3)]
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(outcome, PeerError)
