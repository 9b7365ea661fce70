"""One broker to ask, and the versions that both sides speak.

Whatever a cluster knows, any of its brokers tells, and what needs the controller they pass on. So one
connection is all that a tool needs: to the first of its addresses that answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from streamkit.errors import (
    BrokerUnreachableError,
    DeadlineError,
    RefusedError,
    StreamkitError,
    UsageError,
    no_broker,
)
from streamkit.net.peer import Peer, PeerError, PeerTimeoutError
from streamkit.protocol.api import APIS, Api, ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.api_versions import ApiVersionsRequest
from streamkit.protocol.schema import Message
from streamkit.runtime.contracts.network import Network

CLIENT_ID = "streamkit"
CONNECT_MS = 3000
REQUEST_MS = 30_000


class AnsweredError(StreamkitError):
    """The cluster answered with an error code."""

    def __init__(self, code: int, message: str | None = None) -> None:
        self.code = ErrorCode(code)  # type: ignore[call-arg]  # looked up by value
        super().__init__(f"{self.code.name}: {message}" if message else self.code.name)


class Node:
    """A connection to a broker that said what it speaks; made by `connect`, ended by `close`."""

    def __init__(self, network: Network, peer: Peer, spoken: dict[int, range]) -> None:
        self._network = network
        self._peer = peer
        self._spoken = spoken

    @classmethod
    async def connect(cls, network: Network, bootstrap: str) -> Node:
        """A connection to the first address of `bootstrap` (HOST:PORT, by commas) that answers.

        Raises BrokerUnreachableError.
        """
        for host, port in parse_addresses(bootstrap):
            try:
                peer = await Peer.connect(network, host, port, client_id=CLIENT_ID, timeout_ms=CONNECT_MS)
                answer = await peer.call(ApiVersionsRequest(), 0, CONNECT_MS)
            except PeerError:
                continue
            spoken = {api.api_key: range(api.min_version, api.max_version + 1) for api in answer.api_keys}
            return cls(network, peer, spoken)
        raise no_broker(bootstrap)

    @asynccontextmanager
    async def other(self, host: str, port: int) -> AsyncIterator[Node]:
        """Another broker of the cluster, for as long as it is needed; raises BrokerUnreachableError."""
        node = await Node.connect(self._network, f"{host}:{port}")
        try:
            yield node
        finally:
            await node.close()

    def serves(self, api: ApiKey) -> bool:
        """Whether the broker offers an API at all."""
        return api in self._spoken

    @property
    def address(self) -> str:
        """HOST:PORT of the broker at the other end."""
        return self._peer.address

    async def ask(
        self, message: Message, timeout_ms: float = REQUEST_MS, *, newest: int | None = None
    ) -> Any:
        """The response to `message`, in the newest version that both sides speak; none above `newest`.

        Raises RefusedError if there is none, DeadlineError, BrokerUnreachableError.
        """
        api = APIS[message.KEY]
        version = self._version(api, api.max_version if newest is None else newest)
        try:
            return await self._peer.call(message, version, timeout_ms)
        except PeerTimeoutError as error:
            raise DeadlineError(str(error)) from None
        except PeerError as error:
            raise BrokerUnreachableError(str(error)) from None

    def _version(self, api: Api, newest: int) -> int:
        theirs = self._spoken.get(api.key, range(0))
        shared = range(max(api.min_version, theirs.start), min(newest + 1, theirs.stop))
        if not shared:
            raise RefusedError(f"the broker at {self._peer.address} does not serve {api.key.name}")
        return shared[-1]

    async def close(self) -> None:
        self._peer.close()
        await asyncio.sleep(0)  # the transport closes on the loop's next turn


def check(code: int, message: str | None = None) -> None:
    """Raise AnsweredError unless `code` is NONE."""
    if code != ErrorCode.NONE:
        raise AnsweredError(code, message)


def parse_addresses(bootstrap: str) -> Iterable[tuple[str, int]]:
    """Each HOST:PORT of a list with commas; raises UsageError."""
    found = []
    for address in bootstrap.split(","):
        host, colon, port = address.strip().rpartition(":")
        if not colon or not port.isdigit() or not 0 < int(port) < 65536:
            raise UsageError(
                f"{address!r} is not an address; it needs the form HOST:PORT",
                hint="--bootstrap 127.0.0.1:9092",
            )
        found.append((host.strip("[]"), int(port)))
    return found
