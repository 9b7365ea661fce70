"""What every simulated client needs: the way to the right broker, and another try when that was the wrong
one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any

from streamkit.net.peer import Link, PeerError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from streamkit.protocol.schema import Message
from streamkit.runtime.contracts.network import Network

REQUEST_TIMEOUT_MS = 1500
METADATA_VERSION = 9
BACKOFF_S = (0.02, 0.2)

Address = tuple[str, int]


class Client:
    """One client: its connections, and what it believes of the cluster."""

    def __init__(self, name: str, network: Network, bootstrap: Sequence[Address], random: Random) -> None:
        self.name = name
        self.random = random
        self._network = network
        self._bootstrap = list(bootstrap)
        self._links: dict[Address, Link] = {}
        self._brokers: dict[int, Address] = {}
        self._leaders: dict[tuple[str, int], tuple[int, int]] = {}
        self._epochs: dict[tuple[str, int], int] = {}
        """The latest leader epoch of each partition that it ever heard of."""

    async def ask_at(self, address: Address, message: Message, version: int, timeout_ms: float) -> Any:
        """The answer of whoever is there; raises PeerError."""
        link = self._links.get(address)
        if link is None:
            link = self._links[address] = Link(self._network, *address, client_id=self.name)
        return await link.call(message, version, timeout_ms)

    async def ask(
        self, node_id: int, message: Message, version: int, timeout_ms: float = REQUEST_TIMEOUT_MS
    ) -> Any:
        return await self.ask_at(self._brokers[node_id], message, version, timeout_ms)

    async def ask_anybody(
        self, message: Message, version: int, timeout_ms: float = REQUEST_TIMEOUT_MS
    ) -> Any:
        return await self.ask_at(self.random.choice(self._bootstrap), message, version, timeout_ms)

    async def leader(self, topic: str, partition: int) -> tuple[int, int] | None:
        """(node, leader epoch) of a partition's leader, as far as anybody knows."""
        found = self._leaders.get((topic, partition))
        if found is None:
            await self.refresh(topic)
            found = self._leaders.get((topic, partition))
        return found

    def mistrust(self, topic: str, partition: int) -> None:
        """Whoever was believed to lead this partition does not, or does not answer."""
        self._leaders.pop((topic, partition), None)

    async def refresh(self, topic: str) -> None:
        request = MetadataRequest(topics=[MetadataRequestTopic(name=topic)], allow_auto_topic_creation=False)
        try:
            response: MetadataResponse = await self.ask_anybody(request, METADATA_VERSION)
        except PeerError:
            return
        self.learn(response)

    def learn(self, response: MetadataResponse) -> None:
        """Take over what a broker says, but as real clients nothing of a leader epoch that is over: a leader
        that does not know that it was replaced lacks what its successor acknowledged.
        """
        self._brokers |= {broker.node_id: (broker.host, broker.port) for broker in response.brokers}
        for described in response.topics:
            for partition in described.partitions:
                key = described.name or "", partition.partition_index
                if partition.error_code != ErrorCode.NONE or partition.leader_id not in self._brokers:
                    continue
                if partition.leader_epoch >= self._epochs.get(key, 0):
                    self._epochs[key] = partition.leader_epoch
                    self._leaders[key] = partition.leader_id, partition.leader_epoch

    async def back_off(self) -> None:
        await asyncio.sleep(self.random.uniform(*BACKOFF_S))

    def close(self) -> None:
        for link in self._links.values():
            link.close()
