"""Several real brokers as one cluster: formed, killed one by one, restarted by the same commands."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

from streamkit.net.peer import Peer, PeerError
from streamkit.protocol.messages.describe_cluster import DescribeClusterRequest
from streamkit.protocol.schema import Message
from streamkit.runtime.os.network import TcpNetwork
from tests.support.broker_process import BrokerProcess

CONTROLLERS = 2


class Node(BrokerProcess):
    """A broker of a cluster; it votes if it has a controller port."""

    def __init__(
        self,
        node_id: int,
        data_dir: Path,
        *,
        voters: str,
        controller_port: int | None,
        options: Iterable[str],
    ) -> None:
        own = () if controller_port is None else ("--controller-listen", f"127.0.0.1:{controller_port}")
        super().__init__(data_dir, "--node-id", str(node_id), "--voters", voters, *own, *options)
        self.node_id = node_id
        self.controller_port = controller_port

    async def ask(self, message: Message, version: int, *, of_controller: bool = False) -> Any:
        """What this node answers; raises PeerError."""
        port = self.controller_port if of_controller else self.port
        assert port is not None
        peer = await Peer.connect(TcpNetwork(), "127.0.0.1", port, client_id="test", timeout_ms=5_000)
        try:
            return await peer.call(message, version, 30_000)
        finally:
            peer.close()


class Startable(Protocol):
    """A node as a process, whoever made its broker."""

    process: Any

    @property
    def bootstrap(self) -> str: ...

    def start(self) -> Any: ...

    def kill(self) -> None: ...


N = TypeVar("N", bound=Startable)


class Nodes(Generic[N]):
    """The nodes of a cluster by their ids."""

    def __init__(self, nodes: dict[int, N]) -> None:
        self.nodes = nodes

    def __getitem__(self, node_id: int) -> N:
        return self.nodes[node_id]

    def __iter__(self) -> Iterator[N]:
        return iter(self.nodes.values())

    @property
    def running(self) -> list[N]:
        return [node for node in self if node.process is not None]

    @property
    def bootstrap(self) -> str:
        return ",".join(node.bootstrap for node in self.running)

    def start(self, *node_ids: int) -> Self:
        """Start these nodes at the same time (all, if none are named), until each says that it is ready."""
        nodes = [self.nodes[node_id] for node_id in node_ids or self.nodes]
        with ThreadPoolExecutor(len(nodes)) as starting:
            list(starting.map(lambda node: node.start(), nodes))
        return self

    def kill(self) -> None:
        for node in self:
            node.kill()


class BrokerCluster(Nodes[Node]):
    """`voters` nodes that vote, with ids from 1; `broker_only` adds further ones."""

    def __init__(self, path: Path, voters: int, *options: str) -> None:
        ports = free_ports(voters)
        self.voters = ",".join(f"{n}@127.0.0.1:{port}" for n, port in enumerate(ports, 1))
        self._path = path
        self._options = options
        super().__init__(
            {
                node_id: Node(
                    node_id,
                    path / f"broker-{node_id}",
                    voters=self.voters,
                    controller_port=port,
                    options=options,
                )
                for node_id, port in enumerate(ports, 1)
            }
        )

    def broker_only(self, node_id: int) -> Node:
        """A node that does not vote, not started yet."""
        node = self.nodes[node_id] = Node(
            node_id,
            self._path / f"broker-{node_id}",
            voters=self.voters,
            controller_port=None,
            options=self._options,
        )
        return node

    async def leader(self) -> Node:
        """The active controller, as one of the running nodes knows it; raises PeerError."""
        for node in self.running:
            try:
                answer = await node.ask(
                    DescribeClusterRequest(endpoint_type=CONTROLLERS), 1, of_controller=True
                )
            except (PeerError, AssertionError):
                continue
            if answer.controller_id in self.nodes and self.nodes[answer.controller_id].process is not None:
                return self.nodes[answer.controller_id]
        raise PeerError("no running node knows a running controller")


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses at the moment; each node must be told of all before any of them listens."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()
