"""TCP by the running asyncio (or uvloop) event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from streamkit.runtime.contracts.network import Receiver, Transport

BACKLOG = 1024


class TcpListening:
    def __init__(self, server: asyncio.Server, port: int) -> None:
        self._server = server
        self.port = port

    async def accept(self) -> None:
        await self._server.start_serving()

    def close(self) -> None:
        self._server.close()


class TcpNetwork:
    """`listening`: a socket that a parent process holds for us, which stands for its address."""

    def __init__(self, listening: socket.socket | None = None) -> None:
        self._listening = listening

    async def bind(self, host: str, port: int, make_receiver: Callable[[], Receiver]) -> TcpListening:
        loop, factory = asyncio.get_running_loop(), cast("Callable[[], asyncio.BaseProtocol]", make_receiver)
        given, self._listening = self._listening, None
        if given is not None and given.getsockname()[:2] == (host, port):
            server = await loop.create_server(factory, sock=given, backlog=BACKLOG, start_serving=False)
        else:
            self._listening = given
            server = await loop.create_server(factory, host, port, backlog=BACKLOG, start_serving=False)
        return TcpListening(server, server.sockets[0].getsockname()[1])

    async def connect(self, host: str, port: int, make_receiver: Callable[[], Receiver]) -> Transport:
        loop, factory = asyncio.get_running_loop(), cast("Callable[[], asyncio.BaseProtocol]", make_receiver)
        transport, _ = await loop.create_connection(factory, host, port)
        return cast("Transport", transport)
