"""Several nodes inside the test's own event loop, on real ports and directories: a small cluster to kill."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.image import MetadataImage
from streamkit.broker.server.node import Broker
from streamkit.runtime.contracts.ports import Ports
from streamkit.runtime.os.ports import os_ports
from streamkit.telemetry.instruments import Registry

FAST = {
    "broker.heartbeat.interval.ms": "200",
    "broker.session.timeout.ms": "1000",
    "controller.quorum.election.timeout.ms": "300",
    "controller.quorum.fetch.timeout.ms": "600",
    "controller.quorum.election.backoff.max.ms": "100",
}


def free_ports(count: int) -> list[int]:
    """Ports that nobody has now; each is held until all are chosen."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


class Nodes:
    """Combined nodes 1…n, each a voter and a broker."""

    def __init__(self, path: Path, count: int, **properties: str) -> None:
        self._path = path
        self._properties = {**FAST, **{name.replace("_", "."): text for name, text in properties.items()}}
        ports = free_ports(2 * count)
        self._client_ports = dict(enumerate(ports[:count], 1))
        self._controller_ports = dict(enumerate(ports[count:], 1))
        self.running: dict[int, Broker] = {}
        self._ports: dict[int, Ports] = {}

    async def start(self, *node_ids: int) -> None:
        """Start these nodes together, all of them if none is named."""
        await asyncio.gather(*(self._start(one) for one in node_ids or self._client_ports))

    async def _start(self, node_id: int) -> None:
        voters = ",".join(f"{one}@127.0.0.1:{port}" for one, port in self._controller_ports.items())
        config = BrokerConfig.from_properties(
            {
                "node.id": str(node_id),
                "log.dir": str(self._path / str(node_id)),
                "listeners": f"PLAINTEXT://127.0.0.1:{self._client_ports[node_id]},"
                f"CONTROLLER://127.0.0.1:{self._controller_ports[node_id]}",
                "controller.quorum.voters": voters,
                **self._properties,
            }
        )
        ports = self._ports[node_id] = os_ports(lambda name, error: None)
        broker = Broker(config, ports, Registry(), on_end=lambda: None)
        await broker.start()
        self.running[node_id] = broker

    async def stop(self, node_id: int) -> None:
        await self.running.pop(node_id).stop()
        self._ports.pop(node_id).disk.close()

    async def kill(self, node_id: int) -> None:
        """The node says nothing more, to nobody."""
        broker = self.running.pop(node_id)
        broker._stopped = True
        broker.timers.close()
        for listener in broker.listeners.values():
            listener.stop_serving()
            with suppress(Exception):
                await listener.close()
        broker.channel.close()
        broker.quorum.close()
        await broker.spawn.close()
        broker.directory._lock.release()
        self._ports.pop(node_id).disk.close()

    @property
    def any(self) -> Broker:
        return next(iter(self.running.values()))

    @property
    def controller(self) -> Broker:
        return self.running[self.controller_id]

    @property
    def others(self) -> list[int]:
        """The running nodes that do not decide."""
        return [one for one in self.running if one != self.controller_id]

    @property
    def controller_id(self) -> int:
        (active,) = (one.config.node_id for one in self.running.values() if one.controller.is_active)
        return active

    async def until(self, holds: Callable[[MetadataImage], bool], *, within_s: float = 10) -> float:
        """Wait until the image of every running node is so; how long it took."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        while not all(holds(one.metadata) for one in self.running.values()):
            assert loop.time() < began_s + within_s, "it did not become so"
            await asyncio.sleep(0.01)
        return loop.time() - began_s


@asynccontextmanager
async def cluster(path: Path, count: int = 3, **properties: str) -> AsyncIterator[Nodes]:
    nodes = Nodes(path, count, **properties)
    try:
        await nodes.start()
        yield nodes
    finally:
        for node_id in tuple(nodes.running):
            await nodes.kill(node_id)
