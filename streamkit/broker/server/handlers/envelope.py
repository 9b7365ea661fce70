"""Envelope (58): a client's request that another broker hands to the active controller (KIP-590).

It is served as if it had come from the client, by the same handlers. The envelope's own error says that it
was not looked into: because this node does not decide, or because of what is in it.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from streamkit.broker.server.controller.active_controller import NotControllerError
from streamkit.broker.server.dispatch import MAX_ELEMENTS, InnerRequest, RequestContext, Route
from streamkit.broker.server.principal import decode_principal
from streamkit.protocol.api import APIS, ApiKey
from streamkit.protocol.codec import decode
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.errors import MalformedMessageError
from streamkit.protocol.framing import decode_request, encode_response
from streamkit.protocol.messages.envelope import EnvelopeRequest, EnvelopeResponse
from streamkit.protocol.schema import Message

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker

SIZE_BYTES = 4


class UnfitError(Exception):
    """What is in the envelope cannot be served, for this reason."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code)
        self.code = code


async def envelope(broker: Broker, request: RequestContext, message: EnvelopeRequest) -> EnvelopeResponse:
    try:
        inner, wanted = opened(broker, request, message)
        answer = await broker.dispatcher(request.listener).perform(inner, wanted)
    except UnfitError as error:
        broker.count_failure(ApiKey.ENVELOPE, error.code)
        return EnvelopeResponse(error_code=error.code)
    except NotControllerError:
        return EnvelopeResponse(error_code=ErrorCode.NOT_CONTROLLER)
    frame = b"".join(encode_response(inner.header.correlation_id, answer, inner.version))
    return EnvelopeResponse(response_data=frame[SIZE_BYTES:])


def opened(broker: Broker, request: RequestContext, message: EnvelopeRequest) -> tuple[InnerRequest, Message]:
    """The request in the envelope; raises UnfitError."""
    try:
        host = str(ip_address(message.client_host_address))
    except ValueError:
        raise UnfitError(ErrorCode.INVALID_REQUEST) from None
    try:
        decode_principal(message.request_principal or b"")
    except MalformedMessageError:
        raise UnfitError(ErrorCode.PRINCIPAL_DESERIALIZATION_FAILURE) from None
    try:
        header, body = decode_request(message.request_data)
        route = broker.dispatcher(request.listener).routes.get(header.api_key)
        if route is None or not route.by_controller:
            raise UnfitError(ErrorCode.INVALID_REQUEST)
        if not route.min_version <= header.api_version <= route.max_version:
            raise UnfitError(ErrorCode.UNSUPPORTED_VERSION)
        wanted = decode(APIS[header.api_key].request, body, header.api_version, 0, MAX_ELEMENTS)
    except MalformedMessageError:
        raise UnfitError(ErrorCode.INVALID_REQUEST) from None
    return InnerRequest(header, listener=request.listener, client_host=host), wanted


CONTROLLER_ROUTES = (Route(ApiKey.ENVELOPE, 0, 0, envelope, pipelined=True),)
