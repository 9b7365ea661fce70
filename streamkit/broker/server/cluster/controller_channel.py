"""The way to the active controller, wherever it is: here, or at another node's controller listener.

`ask` is for what this node wants itself, `pass_on` for what a client wants of the cluster (KIP-590): clients
may ask any broker, and those that do not decide hand the request over in an Envelope, with the client's own
header, so that the controller serves it as if it had come from the client.

Both wait for a controller if there is none, and begin again when the one that they asked says that it decides
no more, when it cannot be reached, and when the quorum has another leader before the answer is there. They
give up at a deadline. So a request may be carried out twice, the first time without anybody hearing of it;
that is Kafka's way, too, and a request that comes a second time is answered by what it finds.

Each kind of request has a connection of its own, as answers come in the order of the requests: a heartbeat
must not wait for the answer to a client that creates a thousand partitions.

What a controller answers to a client is true there. Before this node gives the answer, it asks how far the
controller has committed and replays that much itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, Final, Protocol

from streamkit.broker.controller.topic_names import CLUSTER_METADATA
from streamkit.broker.server.controller.active_controller import NotControllerError
from streamkit.broker.server.controller.metadata_publisher import MetadataPublisher
from streamkit.broker.server.dispatch import Dispatcher, InnerRequest
from streamkit.broker.server.principal import ANONYMOUS, encode_principal
from streamkit.errors import DeadlineError
from streamkit.net.peer import Link, PeerError
from streamkit.protocol.api import APIS
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.errors import MalformedMessageError
from streamkit.protocol.framing import RequestHeader, decode_response, encode_request
from streamkit.protocol.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumRequestPartitionData,
    DescribeQuorumRequestTopicData,
)
from streamkit.protocol.messages.envelope import EnvelopeRequest, EnvelopeResponse
from streamkit.protocol.schema import Message
from streamkit.runtime.contracts.network import Network

TIMEOUT_MS: Final = 30_000
FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.02, 0.5
WATCH_S: Final = 0.2
"""How often a call under way looks whether its controller still is one."""
SIZE_BYTES: Final = 4
LOOPBACK: Final = b"\x7f\0\0\x01"


class Leadership(Protocol):
    """What is needed of the quorum here."""

    @property
    def leader_id(self) -> int | None: ...

    @property
    def is_active(self) -> bool: ...

    @property
    def leader_endpoint(self) -> tuple[str, int] | None:
        """Where the leader's controller listener is; None if it is not known, or this node leads."""
        ...


class NoControllerError(DeadlineError):
    """Nobody decided in time; what was asked may have been carried out."""


class ControllerChannel:
    def __init__(
        self,
        quorum: Leadership,
        publisher: MetadataPublisher,
        dispatcher: Dispatcher,
        network: Network,
        *,
        node_id: int,
    ) -> None:
        """`dispatcher` is that of the controller listeners."""
        self._quorum = quorum
        self._publisher = publisher
        self._dispatcher = dispatcher
        self._network = network
        self._client_id = f"broker-{node_id}"
        self._links: dict[tuple[str, int, int], Link] = {}
        """By address and kind of request."""

    # -- asking ----------------------------------------------------------------------------------------------

    async def ask(self, message: Message, *, timeout_ms: float = TIMEOUT_MS) -> Any:
        """What the active controller answers to `message`; raises NoControllerError."""
        version = APIS[message.KEY].max_version
        request = InnerRequest(RequestHeader(api_key=message.KEY, api_version=version, correlation_id=0))
        if self._dispatcher.routes[message.KEY].by_controller:
            return await self.pass_on(request, message, timeout_ms=timeout_ms)

        async def remotely(endpoint: tuple[str, int], left_ms: float) -> Message:
            response: Any = await self._call(endpoint, message, version, left_ms)
            if response.error_code == ErrorCode.NOT_CONTROLLER:
                raise NotControllerError("the node that was asked does not decide")
            return response  # type: ignore[no-any-return]

        return await self._until_answered(
            lambda: self._dispatcher.perform(request, message), remotely, timeout_ms
        )

    async def pass_on(
        self, request: InnerRequest, message: Message, *, timeout_ms: float = TIMEOUT_MS
    ) -> Message:
        """What the active controller answers to a client, once it is true here; raises NoControllerError."""

        async def remotely(endpoint: tuple[str, int], left_ms: float) -> Message:
            response: EnvelopeResponse = await self._call(endpoint, envelope(request, message), 0, left_ms)
            return opened(response, request, message)

        deadline_s = self._now_s() + timeout_ms / 1000
        answer: Message = await self._until_answered(
            lambda: self._dispatcher.perform(request, message), remotely, timeout_ms
        )
        if not self._quorum.is_active:
            with suppress(NoControllerError):  # it is done, whether this node hears of it in time or not
                await self.catch_up((deadline_s - self._now_s()) * 1000)
        return answer

    async def catch_up(self, timeout_ms: float = TIMEOUT_MS) -> None:
        """Replay here what the controller has committed by now; raises NoControllerError."""
        try:
            async with asyncio.timeout(max(timeout_ms, 0) / 1000):
                response = await self._until_answered(
                    lambda: self._dispatcher.perform(WHERE_IS_THE_END_REQUEST, WHERE_IS_THE_END),
                    self._committed_end,
                    timeout_ms,
                )
                await self._publisher.reached(response.topics[0].partitions[0].high_watermark)
        except TimeoutError:
            raise NoControllerError(
                f"this node did not catch up with the controller within {timeout_ms:.0f} ms"
            ) from None

    async def _committed_end(self, endpoint: tuple[str, int], left_ms: float) -> Any:
        version = WHERE_IS_THE_END_REQUEST.version
        response = await self._call(endpoint, WHERE_IS_THE_END, version, left_ms)
        code = response.error_code or response.topics[0].partitions[0].error_code
        if code != ErrorCode.NONE:
            raise NotControllerError("the node that was asked does not lead the quorum")
        return response

    # -- finding the controller ------------------------------------------------------------------------------

    async def _until_answered(
        self,
        here: Callable[[], Awaitable[Any]],
        remotely: Callable[[tuple[str, int], float], Awaitable[Any]],
        timeout_ms: float,
    ) -> Any:
        deadline_s = self._now_s() + timeout_ms / 1000
        backoff_s, why = FIRST_BACKOFF_S, "no controller is known"
        while (left_s := deadline_s - self._now_s()) > 0:
            try:
                if self._quorum.is_active:
                    return await here()
                endpoint = self._quorum.leader_endpoint
                if endpoint is not None:
                    return await self._while_it_leads(remotely(endpoint, left_s * 1000))
            except (NotControllerError, PeerError) as error:
                why = str(error)
            await asyncio.sleep(min(backoff_s, max(deadline_s - self._now_s(), 0)))
            backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)
        raise NoControllerError(f"no controller answered within {timeout_ms:.0f} ms: {why}")

    async def _while_it_leads(self, call: Awaitable[Any]) -> Any:
        """The call's outcome, unless the quorum has another leader before: the old one may be silent."""
        leader_id = self._quorum.leader_id
        calling = asyncio.ensure_future(call)
        try:
            while True:
                await asyncio.wait((calling,), timeout=WATCH_S)
                if calling.done():
                    return calling.result()
                if self._quorum.leader_id not in (leader_id, None):
                    raise NotControllerError(f"node {self._quorum.leader_id} decides now")
        finally:
            calling.cancel()

    async def _call(
        self, endpoint: tuple[str, int], message: Message, version: int, timeout_ms: float
    ) -> Any:
        key = (*endpoint, message.KEY)
        link = self._links.get(key)
        if link is None:
            link = self._links[key] = Link(self._network, *endpoint, client_id=self._client_id)
        return await link.call(message, version, timeout_ms)

    def close(self) -> None:
        for link in self._links.values():
            link.close()

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()


# -- the envelope --------------------------------------------------------------------------------------------


def envelope(request: InnerRequest, message: Message) -> EnvelopeRequest:
    """A client's request, header and all, and who sent it from where."""
    header = request.header
    frame = b"".join(
        encode_request(
            message,
            header.api_version,
            correlation_id=header.correlation_id,
            client_id=header.client_id,
        )
    )
    try:
        address = ip_address(request.client_host).packed
    except ValueError:
        address = LOOPBACK
    return EnvelopeRequest(
        request_data=frame[SIZE_BYTES:],
        request_principal=encode_principal(ANONYMOUS),
        client_host_address=address,
    )


def opened(response: EnvelopeResponse, request: InnerRequest, message: Message) -> Message:
    """The answer in an envelope; raises NotControllerError, PeerError."""
    if response.error_code == ErrorCode.NOT_CONTROLLER:
        raise NotControllerError("the node that was asked does not decide")
    if response.error_code != ErrorCode.NONE or response.response_data is None:
        raise PeerError(f"the controller refused the envelope: error {response.error_code}")
    try:
        correlation_id, answer = decode_response(
            APIS[message.KEY].response, response.response_data, request.header.api_version
        )
    except MalformedMessageError as error:
        raise PeerError(error.message) from None
    if correlation_id != request.header.correlation_id:
        raise PeerError(f"the envelope answers request {correlation_id}")
    return answer


# -- how far the controller is -------------------------------------------------------------------------------

WHERE_IS_THE_END: Final = DescribeQuorumRequest(
    topics=[
        DescribeQuorumRequestTopicData(
            topic_name=CLUSTER_METADATA, partitions=[DescribeQuorumRequestPartitionData(partition_index=0)]
        )
    ]
)
WHERE_IS_THE_END_REQUEST: Final = InnerRequest(
    RequestHeader(api_key=WHERE_IS_THE_END.KEY, api_version=2, correlation_id=0)
)
