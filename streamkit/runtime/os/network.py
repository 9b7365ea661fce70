"""TCP by the running asyncio (or uvloop) event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from streamkit.runtime.contracts.network import Receiver

BACKLOG = 1024


class TcpListening:
    def __init__(self, server: asyncio.AbstractServer, port: int) -> None:
        self._server = server
        self.port = port

    def close(self) -> None:
        self._server.close()


class TcpNetwork:
    async def listen(self, host: str, port: int, make_receiver: Callable[[], Receiver]) -> TcpListening:
        factory = cast("Callable[[], asyncio.BaseProtocol]", make_receiver)
        server = await asyncio.get_running_loop().create_server(factory, host, port, backlog=BACKLOG)
        return TcpListening(server, server.sockets[0].getsockname()[1])
