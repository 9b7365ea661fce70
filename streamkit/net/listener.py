"""One open port and its connections."""

from __future__ import annotations

from collections.abc import Callable

from streamkit.net.budget import Budget
from streamkit.net.connection import Connection, Exchange, Limits
from streamkit.runtime.contracts.clock import Clock
from streamkit.runtime.contracts.network import Listening, Network
from streamkit.telemetry.instruments import Counter, Family

SCRATCH_BYTES = 256 * 1024


class Listener:
    """`serve(connection, frame)` starts to serve a request and returns the place of its answer.

    It may raise `FrameError`, which closes that connection and touches no other.
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
    ) -> None:
        self.name = name
        self.serve = serve
        self.clock = clock
        self.limits = limits
        self.budget = budget
        self.scratch = memoryview(bytearray(SCRATCH_BYTES))
        self.connections: dict[Connection, None] = {}
        self._closed = closed
        self._listening: Listening | None = None

    @property
    def port(self) -> int:
        assert self._listening is not None, "the listener is not open"
        return self._listening.port

    async def open(self, network: Network, host: str, port: int) -> None:
        self._listening = await network.listen(host, port, lambda: Connection(self))

    def close(self) -> None:
        """Accept nothing more and close what is open, after the answers that are ready."""
        if self._listening is not None:
            self._listening.close()
        for connection in tuple(self.connections):
            connection.close("shutdown")

    def sweep(self) -> None:
        """Close idle and stuck connections; called about once a second."""
        now_ms = self.clock.monotonic_ms()
        for connection in tuple(self.connections):
            connection.sweep(now_ms)

    def connected(self, connection: Connection) -> None:
        self.connections[connection] = None

    def disconnected(self, connection: Connection, reason: str) -> None:
        self.connections.pop(connection, None)
        self._closed.labels(reason).value += 1
