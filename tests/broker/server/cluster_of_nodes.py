"""Several whole nodes in one process, on real ports and disks: started, crashed and stopped one by one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

from streamkit.broker.config import BrokerConfig
from streamkit.broker.server.node import Broker
from streamkit.runtime.os.ports import os_ports
from streamkit.telemetry.instruments import Registry

TICK_S = 0.01
FAST = {
    "controller.quorum.election.timeout.ms": "200",
    "controller.quorum.fetch.timeout.ms": "600",
    "controller.quorum.election.backoff.max.ms": "100",
}


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Nodes:
    def __init__(self, path: Path, voters: int = 3, brokers: int = 0, **settings: str) -> None:
        self.path = path
        self.ports = dict(enumerate(free_ports(voters + brokers), 1))
        self.voters = ",".join(f"{n}@127.0.0.1:{self.ports[n]}" for n in range(1, voters + 1))
        self.settings = settings
        self.running: dict[int, Broker] = {}
        self._starting: dict[int, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Nodes:
        return self

    async def __aexit__(self, *error: object) -> None:
        for node_id in list(self.running):
            await self.crash(node_id)

    def begin(self, node_id: int, **properties: str) -> Broker:
        """Start a node; it may wait for others before it is ready."""
        ports = os_ports(lambda name, error: None)
        config = BrokerConfig.from_properties(
            {
                "node.id": str(node_id),
                "log.dir": str(self.path / str(node_id)),
                "listeners": f"PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:{self.ports[node_id]}",
                "controller.quorum.voters": self.voters,
                **FAST,
                **self.settings,
                **properties,
            }
        )
        broker = Broker(config, ports, Registry(), on_end=lambda: None)
        self.running[node_id] = broker
        self._starting[node_id] = asyncio.ensure_future(broker.start())
        return broker

    async def start(self, *ids: int) -> None:
        """Start these nodes together and wait until all belong to the quorum; as brokers they may not yet."""
        for node_id in ids:
            self.begin(node_id)
        await self.joined(*ids)

    async def joined(self, *ids: int) -> None:
        await until(lambda: all(self._has_joined(self.running[node_id]) for node_id in ids))

    @staticmethod
    def _has_joined(broker: Broker) -> bool:
        return (
            hasattr(broker, "quorum")
            and bool(broker.directory.cluster_id)
            and (broker.quorum.leader_id is not None)
        )

    async def ready(self, *ids: int) -> None:
        await asyncio.wait_for(asyncio.gather(*(self._starting[node_id] for node_id in ids)), 20)

    async def stop(self, node_id: int) -> None:
        await self._end(node_id, lambda broker: None)

    async def crash(self, node_id: int) -> None:
        """End a node as if it had been killed: it says nothing to anybody and closes nothing cleanly."""

        def kill(broker: Broker) -> None:
            for listener in broker.listeners.values():
                listener.stop_serving()
            if hasattr(broker, "quorum"):
                broker.quorum.close()
            if hasattr(broker, "directory"):
                broker.directory.failure = "killed"

        await self._end(node_id, kill)

    async def _end(self, node_id: int, first: Callable[[Broker], None]) -> None:
        broker = self.running.pop(node_id)
        starting = self._starting.pop(node_id)
        first(broker)
        if not starting.done():
            starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await broker.stop()

    @property
    def active(self) -> list[Broker]:
        return [one for one in self.running.values() if hasattr(one, "quorum") and one.quorum.is_active]

    async def leader(self) -> Broker:
        """The active leader, once there is exactly one and everybody running follows it."""
        await until(lambda: len(self.active) == 1 and self._all_follow(self.active[0].config.node_id))
        return self.active[0]

    def _all_follow(self, leader_id: int) -> bool:
        return all(
            hasattr(one, "quorum") and one.quorum.leader_id == leader_id for one in self.running.values()
        )


async def until(condition: Callable[[], bool], timeout_s: float = 15) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(TICK_S)
