"""What brokers ask of the controller for themselves: BrokerRegistration (62), AllocateProducerIds (67)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamkit.broker.controller.controller import Controller
from streamkit.broker.controller.decision import Decision
from streamkit.broker.controller.image import Endpoint
from streamkit.broker.controller.registration import Registration
from streamkit.broker.server.dispatch import RequestContext, Route
from streamkit.protocol.api import ApiKey
from streamkit.protocol.messages.allocate_producer_ids import (
    AllocateProducerIdsRequest,
    AllocateProducerIdsResponse,
)
from streamkit.protocol.messages.broker_registration import (
    BrokerRegistrationRequest,
    BrokerRegistrationResponse,
)

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker


async def register_broker(
    broker: Broker, request: RequestContext, message: BrokerRegistrationRequest
) -> BrokerRegistrationResponse:
    def decide(controller: Controller) -> Decision[int]:
        existing = controller.image.brokers.get(message.broker_id)
        return controller.register_broker(
            Registration(
                broker_id=message.broker_id,
                incarnation_id=message.incarnation_id,
                endpoints=tuple(
                    Endpoint(name=one.name, host=one.host, port=one.port) for one in message.listeners
                ),
                log_dirs=tuple(message.log_dirs),
                rack=message.rack,
                clean_start=existing is None or existing.epoch == message.previous_broker_epoch,
            )
        )

    return BrokerRegistrationResponse(broker_epoch=await broker.controller.submit(decide))


async def allocate_producer_ids(
    broker: Broker, request: RequestContext, message: AllocateProducerIdsRequest
) -> AllocateProducerIdsResponse:
    block = await broker.controller.submit(
        lambda controller: controller.allocate_producer_ids(message.broker_id, message.broker_epoch)
    )
    return AllocateProducerIdsResponse(producer_id_start=block.first, producer_id_len=block.size)


CONTROLLER_ROUTES = (
    Route(ApiKey.BROKER_REGISTRATION, 0, 4, register_broker, pipelined=True),
    Route(ApiKey.ALLOCATE_PRODUCER_IDS, 0, 0, allocate_producer_ids, pipelined=True),
)
