"""What every broker does with a request that only the active controller can serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamkit.broker.server.cluster.controller_channel import NoControllerError
from streamkit.broker.server.dispatch import InnerRequest, RequestContext
from streamkit.broker.server.refusals import refused
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.schema import Message

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker


async def pass_on(broker: Broker, request: RequestContext, message: Message) -> Message:
    """Ask the controller, here or elsewhere, and answer once what it did is true here."""
    inner = InnerRequest(request.header, listener=request.listener, client_host=request.client_host)
    try:
        return await broker.channel.pass_on(inner, message)
    except NoControllerError as error:
        broker.count_failure(ApiKey(message.KEY), ErrorCode.REQUEST_TIMED_OUT)
        return refused(message, ErrorCode.REQUEST_TIMED_OUT, error.message)
