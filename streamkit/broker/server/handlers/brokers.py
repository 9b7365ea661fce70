"""What nodes ask of the controller for themselves: BrokerRegistration (62), BrokerHeartbeat (63),
UnregisterBroker (64, on behalf of whoever decommissions a broker), AllocateProducerIds (67),
ControllerRegistration (70).

A heartbeat counts from when it arrived, however long the decisions before it take. The end of the connection
on which heartbeats came is news of their broker, too.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from streamkit.broker.server.dispatch import InnerRequest, RequestContext, Route
from streamkit.protocol.api import ApiKey
from streamkit.protocol.messages.allocate_producer_ids import (
    AllocateProducerIdsRequest,
    AllocateProducerIdsResponse,
)
from streamkit.protocol.messages.broker_heartbeat import BrokerHeartbeatRequest, BrokerHeartbeatResponse
from streamkit.protocol.messages.broker_registration import (
    BrokerRegistrationRequest,
    BrokerRegistrationResponse,
)
from streamkit.protocol.messages.controller_registration import (
    ControllerRegistrationRequest,
    ControllerRegistrationResponse,
)
from streamkit.protocol.messages.unregister_broker import UnregisterBrokerRequest, UnregisterBrokerResponse

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker


async def register_broker(
    broker: Broker, request: RequestContext, message: BrokerRegistrationRequest
) -> BrokerRegistrationResponse:
    response = await broker.controller.submit(lambda controller: controller.register_broker(message))
    broker.count_failures(ApiKey.BROKER_REGISTRATION, (response.error_code,))
    return response


async def heartbeat(
    broker: Broker, request: RequestContext | InnerRequest, message: BrokerHeartbeatRequest
) -> BrokerHeartbeatResponse:
    controller = broker.controller
    controller.heard_from(message.broker_id, message.broker_epoch)
    if isinstance(request, RequestContext):  # and not of this node's own broker
        hung_up = partial(broker.duties.hung_up, message.broker_id, message.broker_epoch)
        request.connection.when_lost("heartbeats", hung_up)
    response = await controller.submit(lambda controller: controller.heartbeat(message))
    broker.count_failures(ApiKey.BROKER_HEARTBEAT, (response.error_code,))
    return response


async def unregister_broker(
    broker: Broker, request: RequestContext, message: UnregisterBrokerRequest
) -> UnregisterBrokerResponse:
    response = await broker.controller.submit(lambda controller: controller.unregister_broker(message))
    broker.count_failures(ApiKey.UNREGISTER_BROKER, (response.error_code,))
    return response


async def allocate_producer_ids(
    broker: Broker, request: RequestContext, message: AllocateProducerIdsRequest
) -> AllocateProducerIdsResponse:
    response = await broker.controller.submit(lambda controller: controller.allocate_producer_ids(message))
    broker.count_failures(ApiKey.ALLOCATE_PRODUCER_IDS, (response.error_code,))
    return response


async def register_controller(
    broker: Broker, request: RequestContext, message: ControllerRegistrationRequest
) -> ControllerRegistrationResponse:
    return await broker.controller.submit(lambda controller: controller.register_controller(message))


ROUTES = (Route(ApiKey.UNREGISTER_BROKER, 0, 0, unregister_broker, by_controller=True),)

CONTROLLER_ROUTES = (
    Route(ApiKey.BROKER_REGISTRATION, 0, 4, register_broker, pipelined=True),
    Route(ApiKey.BROKER_HEARTBEAT, 0, 2, heartbeat, pipelined=True),
    Route(ApiKey.ALLOCATE_PRODUCER_IDS, 0, 0, allocate_producer_ids, pipelined=True),
    Route(ApiKey.CONTROLLER_REGISTRATION, 0, 0, register_controller, pipelined=True),
)
