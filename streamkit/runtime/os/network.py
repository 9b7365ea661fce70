"""TCP by the running asyncio (or uvloop) event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from streamkit.runtime.contracts.network import Receiver

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
    async def bind(self, host: str, port: int, make_receiver: Callable[[], Receiver]) -> TcpListening:
        factory = cast("Callable[[], asyncio.BaseProtocol]", make_receiver)
        server = await asyncio.get_running_loop().create_server(
            factory, host, port, backlog=BACKLOG, start_serving=False
        )
        return TcpListening(server, server.sockets[0].getsockname()[1])
