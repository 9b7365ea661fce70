"""Streams keep their order; links are blocked one way; hosts vanish with a word or without one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest

from streamkit.simulation.loop import virtual_loop
from streamkit.simulation.network import End, Network, NodeNetwork
from streamkit.simulation.owner import Owner
from streamkit.simulation.trace import Trace

SMALL = 7  # bytes that a program offers at a time


class Stream(asyncio.BufferedProtocol):
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.data = b""
        self.ended: Exception | str | None = ""
        self._buffer = bytearray(SMALL)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data += self._buffer[:nbytes]

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = exc


class Pair:
    """A server and a client, connected."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.server_owner, self.client_owner = Owner("server"), Owner("client")
        self.server_port = network.port_for("server", self.server_owner)
        self.client_port: NodeNetwork = network.port_for("client", self.client_owner)
        self.servers: list[Stream] = []

    def accepted(self) -> Stream:
        self.servers.append(Stream())
        return self.servers[-1]

    async def connect(self) -> tuple[Stream, End]:
        stream = Stream()
        return stream, await self.client_port.connect("server", 9, lambda: stream)


def with_pair(scenario: Callable[[Pair], Awaitable[None]], seed: int = 1) -> None:
    async def prepared(network: Network) -> None:
        pair = Pair(network)
        listening = await pair.server_port.bind("server", 9, pair.accepted)
        with pytest.raises(ConnectionRefusedError):
            await pair.connect()
        await listening.accept()
        await scenario(pair)

    with virtual_loop() as loop:
        loop.run_until_complete(loop.create_task(prepared(Network(loop, Random(seed), Trace(loop)))))


def test_a_stream_keeps_its_order_whatever_the_weather() -> None:
    async def scenario(pair: Pair) -> None:
        pair.network.conditions.losses.append(0.3)
        pair.network.conditions.splits.append(0.5)
        _, client = await pair.connect()
        for number in range(100):
            client.write(b"%03d," % number)
        client.close()
        await asyncio.sleep(60)
        assert pair.servers[0].data == b"".join(b"%03d," % number for number in range(100))
        assert pair.servers[0].ended is None

    with_pair(scenario)


def test_a_blocked_link_is_blocked_one_way_and_delivers_when_it_heals() -> None:
    async def scenario(pair: Pair) -> None:
        stream, client = await pair.connect()
        pair.network.block("client", "server")
        client.write(b"request")
        pair.servers[0].transport.write(b"hello")
        await asyncio.sleep(5)
        assert stream.data == b"hello"
        assert pair.servers[0].data == b""
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pair.connect(), 3)
        pair.network.unblock("client", "server")
        await asyncio.sleep(1)
        assert pair.servers[0].data == b"request"

    with_pair(scenario)


def test_a_killed_process_is_heard_of_and_a_lost_host_only_once_it_is_back() -> None:
    async def scenario(pair: Pair) -> None:
        first, _ = await pair.connect()
        pair.network.host_lost(pair.server_owner, has_power=True)
        await asyncio.sleep(1)
        assert isinstance(first.ended, ConnectionResetError)

    async def silent(pair: Pair) -> None:
        first, client = await pair.connect()
        pair.server_owner.die()
        pair.network.host_lost(pair.server_owner, has_power=False)
        client.write(b"anybody?")
        await asyncio.sleep(60)
        assert first.ended == ""
        pair.network.port_for("server", Owner("server again"))
        client.write(b"anybody?")
        await asyncio.sleep(1)
        assert isinstance(first.ended, ConnectionResetError)

    with_pair(scenario)
    with_pair(silent)


def test_a_reset_may_leave_the_beginning_of_a_frame() -> None:
    left = set()

    async def scenario(pair: Pair) -> None:
        _, client = await pair.connect()
        client.write(b"0123456789")
        pair.network.reset_some(1.0)
        await asyncio.sleep(1)
        left.add(pair.servers[0].data)
        assert isinstance(pair.servers[0].ended, ConnectionResetError)

    for seed in range(30):
        with_pair(scenario, seed)
    assert len(left) > 3
    assert all(b"0123456789".startswith(data) for data in left)


def test_a_reader_that_stops_holds_its_writer_up() -> None:
    paused: list[bool] = []

    class Writer(Stream):
        def pause_writing(self) -> None:
            paused.append(True)

        def resume_writing(self) -> None:
            paused.append(False)

    async def scenario(pair: Pair) -> None:
        writer = Writer()
        client = await pair.client_port.connect("server", 9, lambda: writer)
        pair.servers[0]._buffer = bytearray(64 * 1024)
        pair.servers[0].transport.pause_reading()
        client.write(bytes(1 << 20))
        await asyncio.sleep(1)
        assert paused == [True]
        pair.servers[0].transport.resume_reading()
        await asyncio.sleep(1)
        assert paused == [True, False]
        assert len(pair.servers[0].data) == 1 << 20

    with_pair(scenario)
