"""One open port and its connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from streamkit.net.budget import Budget
from streamkit.net.connection import Connection, Exchange, Limits
from streamkit.runtime.contracts.clock import Clock
from streamkit.runtime.contracts.network import Listening, Network
from streamkit.telemetry.instruments import Counter, Family

SCRATCH_BYTES = 256 * 1024
CLOSE_TIMEOUT_S = 1.0


class Listener:
    """`serve(connection, frame)` starts to serve a request and returns the place of its answer.

    It may raise `FrameError`, which closes that connection and touches no other. With `holds`, requests of
    the connections that it accepts wait until `release`.
    """

    def __init__(
        self,
        *,
        name: str,
        serve: Callable[[Connection, memoryview], Exchange],
        clock: Clock,
        limits: Limits,
        budget: Budget,
        closed: Family[Counter],
        holds: bool = False,
    ) -> None:
        self.name = name
        self.serve = serve
        self.clock = clock
        self.limits = limits
        self.budget = budget
        self.is_serving = not holds
        self.scratch = memoryview(bytearray(SCRATCH_BYTES))
        self.connections: dict[Connection, None] = {}
        self._closed = closed
        self._per_host: dict[str, int] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self._listening: Listening | None = None

    @property
    def port(self) -> int:
        assert self._listening is not None, "the listener is not bound"
        return self._listening.port

    async def bind(self, network: Network, host: str, port: int) -> None:
        """Take the address; OSError when that is impossible."""
        self._listening = await network.bind(host, port, lambda: Connection(self))

    async def accept(self) -> None:
        """Let connections in from now on; OSError if somebody else does on this address."""
        assert self._listening is not None, "the listener is not bound"
        await self._listening.accept()

    def release(self) -> None:
        """Serve what has been held, and what comes."""
        self.is_serving = True
        for connection in tuple(self.connections):
            connection.released()

    def stop_accepting(self) -> None:
        if self._listening is not None:
            self._listening.close()

    def stop_serving(self) -> None:
        """Accept no connection and serve no request any more; those being served are still answered."""
        self.stop_accepting()
        for connection in self.connections:
            connection.stop_serving()

    async def close(self) -> None:
        """Close all connections after the answers that are ready; wait a while until these are sent."""
        self.stop_accepting()
        for connection in tuple(self.connections):
            connection.close("shutdown")
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._empty.wait()

    def sweep(self) -> None:
        """Close idle and stuck connections; called about once a second."""
        now_ms = self.clock.monotonic_ms()
        for connection in tuple(self.connections):
            connection.sweep(now_ms)

    def admit(self, connection: Connection) -> bool:
        """Keep track of a new connection; whether it is within the limits."""
        host = connection.peer_host
        self.connections[connection] = None
        self._empty.clear()
        self._per_host[host] = self._per_host.get(host, 0) + 1
        return (
            len(self.connections) <= self.limits.max_connections
            and self._per_host[host] <= self.limits.max_connections_per_host
        )

    def disconnected(self, connection: Connection, reason: str) -> None:
        self._closed.labels(reason).value += 1
        if connection not in self.connections:
            return
        del self.connections[connection]
        host = connection.peer_host
        self._per_host[host] -= 1
        if not self._per_host[host]:
            del self._per_host[host]
        if not self.connections:
            self._empty.set()
