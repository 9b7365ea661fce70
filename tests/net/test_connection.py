"""Frames in, answers out in order, and the bounds between: real sockets, and a server told what to answer."""

from __future__ import annotations

import asyncio
import resource
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from streamkit.net.budget import Budget
from streamkit.net.connection import Connection, Exchange, FrameError, Limits
from streamkit.net.listener import Listener
from streamkit.runtime.os.network import TcpNetwork
from streamkit.telemetry.instruments import Registry


class ManualClock:
    def __init__(self) -> None:
        self.ms = 1_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.ms / 1000


class Server:
    """Remembers each exchange; `answer_at_once` echoes, otherwise the test answers."""

    def __init__(self, limits: Limits, budget: Budget, *, holds: bool = False) -> None:
        self.exchanges: list[tuple[Exchange, bytes]] = []
        self.answer_at_once = True
        self.pipelined = False
        self.arrived = asyncio.Event()
        self.abandoned: list[bytes] = []
        self.clock = ManualClock()
        self.closed = Registry().counter("closed_total", "closed", labels=("reason",))
        self.listener = Listener(
            name="TEST",
            serve=self.serve,
            clock=self.clock,
            limits=limits,
            budget=budget,
            closed=self.closed,
            holds=holds,
        )

    def serve(self, connection: Connection, frame: memoryview) -> Exchange:
        if frame[:3] == b"bad":
            raise FrameError("it says so itself")
        exchange = Exchange(connection, len(frame) + 4)
        exchange.pipelined = self.pipelined
        data = bytes(frame)
        exchange.on_abandoned = lambda: self.abandoned.append(data)
        self.exchanges.append((exchange, data))
        self.arrived.set()
        if self.answer_at_once:
            exchange.send([framed(data)])
        return exchange

    async def served(self, count: int) -> None:
        while len(self.exchanges) < count:
            self.arrived.clear()
            await asyncio.wait_for(self.arrived.wait(), 10)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.001)

    def closed_for(self, reason: str) -> float:
        return self.closed.labels(reason).value


def framed(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


@asynccontextmanager
async def serving(
    limits: Limits | None = None, budget_bytes: int = 1 << 30, *, holds: bool = False
) -> AsyncIterator[Server]:
    server = Server(limits or Limits(), Budget(budget_bytes), holds=holds)
    await server.listener.bind(TcpNetwork(), "127.0.0.1", 0)
    await server.listener.accept()
    try:
        yield server
    finally:
        await server.listener.close()


async def connect(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", server.listener.port)


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(10):
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        return await reader.readexactly(size)


async def ended(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(10):
        try:
            return await reader.read(1) == b""
        except ConnectionError:
            return True


@pytest.mark.parametrize("size", [0, 1, 4091, 4092, 4093, 65_536, 300_000, 3_000_000])
async def test_a_frame_of_any_size_arrives_whole(size: int) -> None:
    async with serving() as server:
        reader, writer = await connect(server)
        data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        for _ in range(3):
            writer.write(framed(data))
        for _ in range(3):
            assert await read_frame(reader) == data
        writer.close()


async def test_a_frame_may_arrive_byte_by_byte() -> None:
    async with serving() as server:
        reader, writer = await connect(server)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in framed(b"hello") + framed(b"world"):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        assert await read_frame(reader) == b"hello"
        assert await read_frame(reader) == b"world"
        writer.close()


async def test_trap_10_requests_of_one_connection_are_answered_in_order() -> None:
    async with serving() as server:
        server.answer_at_once, server.pipelined = False, True
        reader, writer = await connect(server)
        writer.write(b"".join(framed(b"%d" % n) for n in range(10)))
        await server.served(10)
        for exchange, data in reversed(server.exchanges):
            exchange.send([framed(data)])
        assert [await read_frame(reader) for _ in range(10)] == [b"%d" % n for n in range(10)]
        writer.close()


async def test_an_answer_of_no_buffers_keeps_its_place_and_sends_nothing() -> None:
    async with serving() as server:
        server.answer_at_once, server.pipelined = False, True
        reader, writer = await connect(server)
        writer.write(framed(b"silent") + framed(b"loud"))
        await server.served(2)
        server.exchanges[1][0].send([framed(b"loud")])
        server.exchanges[0][0].send(())
        assert await read_frame(reader) == b"loud"
        writer.close()


@pytest.mark.parametrize("size", [10, 100_000, 1_000_000])
async def test_requests_of_a_listener_that_holds_wait_until_it_is_released(size: int) -> None:
    async with serving(holds=True) as server:
        reader, writer = await connect(server)
        idle, idle_writer = await connect(server)
        requests = [b"%d" % n + b"x" * size for n in range(3)]
        writer.write(b"".join(map(framed, requests)))
        await server.until(lambda: len(server.listener.connections) == 2)
        first = asyncio.ensure_future(read_frame(reader))
        await asyncio.wait({first}, timeout=0.05)
        assert (server.exchanges, first.done()) == ([], False)
        server.listener.release()
        assert [await first, await read_frame(reader), await read_frame(reader)] == requests
        idle_writer.write(framed(b"afterwards"))
        assert await read_frame(idle) == b"afterwards"
        writer.close()
        idle_writer.close()


async def test_at_most_so_many_requests_are_outstanding() -> None:
    async with serving(Limits(max_requests=8)) as server:
        server.answer_at_once, server.pipelined = False, True
        reader, writer = await connect(server)
        writer.write(b"".join(framed(b"%d" % n) for n in range(20)))
        await server.served(8)
        for n in range(20):
            await server.served(n + 1)
            assert len(server.exchanges) <= n + 8
            server.exchanges[n][0].send([framed(b"%d" % n)])
            assert await read_frame(reader) == b"%d" % n
        writer.close()


async def test_at_most_so_many_bytes_are_outstanding() -> None:
    async with serving(Limits(max_request_bytes=10_000)) as server:
        server.answer_at_once, server.pipelined = False, True
        reader, writer = await connect(server)
        writer.write(framed(b"a" * 9_000) * 4)
        await server.served(2)
        server.exchanges[0][0].send([framed(b"first")])
        assert await read_frame(reader) == b"first"
        await server.served(3)
        assert len(server.exchanges) == 3
        writer.close()


async def test_a_parked_request_stops_dispatch_of_its_connection_only() -> None:
    async with serving() as server:
        server.answer_at_once = False
        reader, writer = await connect(server)
        writer.write(framed(b"parked") + framed(b"behind"))
        await server.served(1)
        other_reader, other_writer = await connect(server)
        other_writer.write(framed(b"other"))
        await server.served(2)
        assert [data for _, data in server.exchanges] == [b"parked", b"other"]
        server.exchanges[1][0].send([framed(b"answer")])
        assert await read_frame(other_reader) == b"answer"
        server.exchanges[0][0].send([framed(b"late")])
        assert await read_frame(reader) == b"late"
        await server.served(3)
        assert server.exchanges[2][1] == b"behind"
        writer.close()
        other_writer.close()


async def test_what_is_behind_something_hears_when_its_turn_comes() -> None:
    async with serving() as server:
        server.answer_at_once, server.pipelined = False, True
        reader, writer = await connect(server)
        writer.write(framed(b"first") + framed(b"second"))
        await server.served(2)
        (first, _), (second, _) = server.exchanges
        second.on_turn = lambda: second.send([framed(b"known by then")])
        assert second.connection.has_unanswered
        first.send([framed(b"late")])
        assert [await read_frame(reader), await read_frame(reader)] == [b"late", b"known by then"]
        assert not second.connection.has_unanswered
        writer.close()


async def test_a_client_that_leaves_abandons_its_parked_request() -> None:
    async with serving() as server:
        server.answer_at_once = False
        _, writer = await connect(server)
        writer.write(framed(b"parked"))
        await server.served(1)
        writer.close()
        await server.until(lambda: server.abandoned == [b"parked"])
        assert server.listener.budget.used == 0


async def test_a_client_that_reads_nothing_is_not_served_beyond_the_unsent_limit() -> None:
    async with serving() as server:
        server.answer_at_once, server.pipelined = False, True
        reader, writer = await connect(server)
        writer.write(b"".join(framed(b"x") for _ in range(200)))
        answer = framed(bytes(1024 * 1024))
        served = 0
        async with asyncio.timeout(10):
            while served < len(server.exchanges) or not served:
                await server.served(served + 1)
                for exchange, _ in server.exchanges[served:]:
                    exchange.send([answer])
                served = len(server.exchanges)
                await asyncio.sleep(0.05)
        assert served < 150
        for _ in range(served):
            await read_frame(reader)
        await server.served(served + 1)
        writer.close()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff\xff\xff\xff",
        b"\x80\x00\x00\x00",
        struct.pack(">i", 100 * 1024 * 1024 + 1),
        b"GET / HTTP/1.1\r\n",
    ],
    ids=["size -1", "size -2^31", "over the limit", "another protocol"],
)
async def test_a_frame_of_an_impossible_size_closes_its_connection_and_no_other(garbage: bytes) -> None:
    async with serving() as server:
        bystander_reader, bystander = await connect(server)
        reader, writer = await connect(server)
        writer.write(framed(b"fine"))
        assert await read_frame(reader) == b"fine"
        writer.write(garbage)
        assert await ended(reader)
        assert server.closed_for("frame_size") == 1
        bystander.write(framed(b"still here"))
        assert await read_frame(bystander_reader) == b"still here"
        bystander.close()


async def test_a_malformed_frame_closes_its_connection_after_the_answers_that_are_ready(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with serving() as server:
        reader, writer = await connect(server)
        writer.write(framed(b"fine") + framed(b"bad") + framed(b"never served"))
        assert await read_frame(reader) == b"fine"
        assert await ended(reader)
        assert server.closed_for("malformed") == 1
        assert len(server.exchanges) == 1
        assert "".join(capsys.readouterr()).count("connection closed") == 1  # wherever logs go
        writer.close()


async def test_a_frame_must_be_whole_within_its_time() -> None:
    async with serving() as server:
        reader, writer = await connect(server)
        writer.write(framed(b"x" * 100)[:50])
        await server.until(lambda: server.listener.budget.used > 0)
        server.clock.ms += 29_000
        server.listener.sweep()
        assert server.closed_for("slow_frame") == 0
        server.clock.ms += 2_000
        server.listener.sweep()
        assert await ended(reader)
        assert server.closed_for("slow_frame") == 1


async def test_idle_connections_are_closed_and_waiting_ones_are_not() -> None:
    async with serving() as server:
        server.answer_at_once = False
        idle, _ = await connect(server)
        waiting, waiter = await connect(server)
        waiter.write(framed(b"long poll"))
        await server.served(1)
        server.clock.ms += 600_001
        server.listener.sweep()
        assert await ended(idle)
        assert server.closed_for("idle") == 1
        server.exchanges[0][0].send([framed(b"answer")])
        assert await read_frame(waiting) == b"answer"


async def test_over_the_budget_connections_take_turns_and_all_are_served() -> None:
    async with serving(budget_bytes=100_000) as server:
        clients = [await connect(server) for _ in range(8)]
        frame = framed(b"y" * 90_000)
        halves = len(frame) // 2
        for _, writer in clients:
            writer.write(frame[:halves])
        await server.until(lambda: server.listener.budget.used > 100_000)
        assert server.listener.budget.used < 8 * halves
        for _, writer in clients:
            writer.write(frame[halves:])
        for reader, writer in clients:
            assert len(await read_frame(reader)) == 90_000
            writer.close()
        await server.until(lambda: not server.listener.connections)
        assert server.listener.budget.used == 0


async def test_a_thousand_sockets_that_claim_two_gibibytes_allocate_nothing() -> None:
    async with serving(Limits(max_frame_bytes=2**31 - 1)) as server:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        sockets = []
        for _ in range(1_000):
            sock = socket.create_connection(("127.0.0.1", server.listener.port))
            sock.sendall(struct.pack(">i", 2**31 - 1) + b"z" * 64)
            sockets.append(sock)
            await asyncio.sleep(0)
        await server.until(lambda: server.listener.budget.used == 68_000)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before <= 64 * 1024  # KiB
        for sock in sockets:
            sock.close()


async def test_connections_beyond_the_limit_of_one_address_are_closed() -> None:
    async with serving(Limits(max_connections_per_host=2)) as server:
        first, first_writer = await connect(server)
        second, second_writer = await connect(server)
        third, _ = await connect(server)
        assert await ended(third)
        assert server.closed_for("too_many") == 1
        for reader, writer in ((first, first_writer), (second, second_writer)):
            writer.write(framed(b"hello"))
            assert await read_frame(reader) == b"hello"
        first_writer.close()
        await server.until(lambda: len(server.listener.connections) == 1)
        fourth, writer = await connect(server)
        writer.write(framed(b"again"))
        assert await read_frame(fourth) == b"again"


async def test_bytes_that_trickle_in_do_not_prolong_the_time_of_a_frame() -> None:
    async with serving() as server:
        reader, writer = await connect(server)
        writer.write(framed(b"fine") + framed(b"x" * 100)[:50])
        assert await read_frame(reader) == b"fine"
        used = server.listener.budget.used
        server.clock.ms += 20_000
        writer.write(b"x")
        await server.until(lambda: server.listener.budget.used > used)
        server.clock.ms += 11_000
        server.listener.sweep()
        assert await ended(reader)
        assert server.closed_for("slow_frame") == 1


async def test_half_frames_that_fill_the_budget_are_closed_in_time_and_small_frames_served_meanwhile() -> (
    None
):
    async with serving(budget_bytes=100_000) as server:
        hostile = [await connect(server) for _ in range(8)]
        for _, writer in hostile:
            writer.write(struct.pack(">i", 1_000_000) + bytes(50_000))
        await server.until(lambda: server.listener.budget.used > 100_000)
        reader, writer = await connect(server)
        writer.write(framed(b"innocent"))
        assert await read_frame(reader) == b"innocent"
        server.clock.ms += 30_001
        server.listener.sweep()
        for one, _ in hostile:
            assert await ended(one)
        assert server.listener.budget.used <= 100_000


async def test_a_reader_that_takes_nothing_is_closed_once_answers_fill_the_budget() -> None:
    async with serving(budget_bytes=4_000_000) as server:
        server.answer_at_once = False
        _, writer = await connect(server)
        writer.write(framed(b"give"))
        await server.served(1)
        server.exchanges[0][0].send([bytes(30_000_000)])
        connection = server.exchanges[0][0].connection
        await server.until(lambda: connection._backlog_bytes > 4_000_000)
        assert server.listener.budget.answer_room == 0
        server.clock.ms += 30_001
        server.listener.sweep()
        await server.until(lambda: server.closed_for("slow_reader") == 1)
        await server.until(lambda: server.listener.budget.unsent == 0)
        writer.close()


async def test_after_serving_has_stopped_only_what_was_served_is_answered() -> None:
    async with serving() as server:
        server.answer_at_once, server.pipelined = False, True
        reader, writer = await connect(server)
        writer.write(framed(b"served"))
        await server.served(1)
        server.listener.stop_serving()
        writer.write(framed(b"too late"))
        await server.until(lambda: server.listener.budget.used > len(framed(b"served")))
        server.exchanges[0][0].send([framed(b"answer")])
        assert await read_frame(reader) == b"answer"
        assert len(server.exchanges) == 1
        writer.close()


async def test_the_beginning_of_a_large_frame_that_has_to_wait_outlives_what_others_send_meanwhile() -> None:
    async with serving(Limits(max_requests=1)) as server:
        server.answer_at_once, server.pipelined = False, True
        reader, writer = await connect(server)
        writer.write(framed(b"first"))
        await server.served(1)
        waiting = bytes(range(256)) * 4_000
        used = server.listener.budget.used
        writer.write(framed(waiting))
        await server.until(lambda: server.listener.budget.used > used)
        _, other = await connect(server)
        other.write(framed(b"overwrites " * 20_000))
        await server.served(2)
        server.exchanges[0][0].send([framed(b"answer")])
        assert await read_frame(reader) == b"answer"
        await server.served(3)
        assert server.exchanges[2][1] == waiting
        writer.close()
        other.close()
