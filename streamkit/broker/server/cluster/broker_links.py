"""Connections to the other brokers, made when one is first called and kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamkit.broker.controller.image import MetadataImage
from streamkit.net.peer import Link, PeerUnreachableError
from streamkit.protocol.schema import Message
from streamkit.runtime.contracts.network import Network


class BrokerLinks:
    """`listener` is the name of the listener by which brokers reach each other."""

    def __init__(
        self, network: Network, image: Callable[[], MetadataImage], *, node_id: int, listener: str
    ) -> None:
        self._network = network
        self._image = image
        self._client_id = f"broker-{node_id}"
        self._listener = listener
        self._links: dict[tuple[str, int], Link] = {}

    async def call(self, broker_id: int, message: Message, version: int, timeout_ms: float) -> Any:
        """The response of that broker; raises PeerError."""
        broker = self._image().brokers.get(broker_id)
        endpoint = None if broker is None else broker.endpoint(self._listener)
        if endpoint is None:
            raise PeerUnreachableError(f"broker {broker_id} has no listener {self._listener}")
        address = (endpoint.host, endpoint.port)
        link = self._links.get(address)
        if link is None:
            link = self._links[address] = Link(self._network, *address, client_id=self._client_id)
        return await link.call(message, version, timeout_ms)

    def refresh(self) -> None:
        """The metadata changed: whoever waits for a broker that is fenced waits in vain, and is told so."""
        live = {
            (endpoint.host, endpoint.port)
            for broker in self._image().live_brokers()
            if (endpoint := broker.endpoint(self._listener)) is not None
        }
        for address in [one for one in self._links if one not in live]:
            self._links.pop(address).close()

    def close(self) -> None:
        for link in self._links.values():
            link.close()
