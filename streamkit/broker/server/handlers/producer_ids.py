"""InitProducerId (22): an id for an idempotent producer.

Without a transactional id every request gets a fresh id with epoch 0, also one that names an id it had
before (KIP-360 resumes transactional producers only). There are no transactions yet, so a transactional id
is refused for good rather than for now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from streamkit.broker.server.dispatch import RequestContext, Route
from streamkit.errors import StreamkitError
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker

log = structlog.get_logger(__name__)

NONE = -1


async def init_producer_id(
    broker: Broker, request: RequestContext, message: InitProducerIdRequest
) -> InitProducerIdResponse:
    if message.transactional_id == "":
        return refused(broker, ErrorCode.INVALID_REQUEST)
    if message.transactional_id is not None:
        return refused(broker, ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
    if (message.producer_id == NONE) != (message.producer_epoch == NONE):
        return refused(broker, ErrorCode.INVALID_REQUEST)
    try:
        producer_id = await broker.producer_ids.take()
    except StreamkitError as error:
        log.warning("no producer id to give", reason=error.message)
        return refused(broker, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)  # as Kafka: ask again
    return InitProducerIdResponse(producer_id=producer_id, producer_epoch=0)


def refused(broker: Broker, code: ErrorCode) -> InitProducerIdResponse:
    broker.count_failure(ApiKey.INIT_PRODUCER_ID, code)
    return InitProducerIdResponse(error_code=code, producer_epoch=NONE)


ROUTES = (Route(ApiKey.INIT_PRODUCER_ID, 0, 5, init_producer_id),)
