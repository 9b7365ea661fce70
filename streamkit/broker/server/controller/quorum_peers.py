"""The other nodes of the quorum: where they are, and one call to one of them."""

from __future__ import annotations

from typing import Final

import structlog

from streamkit.broker.raft.messages import FetchRequest, PeerRequest, Reply
from streamkit.broker.raft.node import RaftNode
from streamkit.broker.raft.voters import Endpoint, VoterSet
from streamkit.broker.server.controller.quorum_wire import (
    MAX_FETCH_BYTES,
    WIRE_VERSIONS,
    leader_endpoint_in,
    reply_from_wire,
    to_wire,
)
from streamkit.net.peer import Link
from streamkit.runtime.contracts.network import Network

log = structlog.get_logger(__name__)


class QuorumPeers:
    """Addresses, best first: what the log records, what is configured, what others told of a leader."""

    def __init__(
        self, network: Network, node_id: int, configured: VoterSet, own_endpoints: tuple[Endpoint, ...]
    ) -> None:
        self.own_endpoints: Final = own_endpoints
        self._network = network
        self._client_id = f"controller-{node_id}"
        self._configured = configured
        self._told: dict[int, tuple[str, int]] = {}
        self._links: dict[tuple[str, int], Link] = {}

    def address(self, raft: RaftNode, node_id: int) -> tuple[str, int] | None:
        for voters in (raft.voters, self._configured):
            voter = voters.get(node_id)
            if voter is not None and voter.endpoints:
                return voter.endpoints[0].host, voter.endpoints[0].port
        return self._told.get(node_id)

    def told(self, node_id: int, host: str, port: int) -> None:
        self._told[node_id] = host, port

    def link(self, address: tuple[str, int]) -> Link:
        found = self._links.get(address)
        if found is None:
            found = self._links[address] = Link(self._network, *address, client_id=self._client_id)
        return found

    async def call(
        self, address: tuple[str, int], request: PeerRequest, cluster_id: str | None, timeout_ms: float
    ) -> Reply:
        """The reply of whoever listens at `address`; raises PeerError."""
        if isinstance(request, FetchRequest):
            timeout_ms += request.max_wait_ms
        message = to_wire(request, cluster_id, self.own_endpoints, MAX_FETCH_BYTES)
        response = await self.link(address).call(message, WIRE_VERSIONS[type(request)], timeout_ms)
        leader = leader_endpoint_in(response)
        if leader is not None:
            self.told(*leader)
        return reply_from_wire(request, response)

    def close(self) -> None:
        for link in self._links.values():
            link.close()
