"""GetTelemetrySubscriptions (71), PushTelemetry (72): clients push their metrics to the broker (KIP-714)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamkit.broker.server.dispatch import RequestContext, Route
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.get_telemetry_subscriptions import (
    GetTelemetrySubscriptionsRequest,
    GetTelemetrySubscriptionsResponse,
)
from streamkit.protocol.messages.push_telemetry import PushTelemetryRequest, PushTelemetryResponse

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker


def get_telemetry_subscriptions(
    broker: Broker, request: RequestContext, message: GetTelemetrySubscriptionsRequest
) -> GetTelemetrySubscriptionsResponse:
    response = broker.client_telemetry.asked(message, request.connection, request.header.client_id)
    broker.count_failures(ApiKey.GET_TELEMETRY_SUBSCRIPTIONS, (response.error_code,))
    return response


async def push_telemetry(
    broker: Broker, request: RequestContext, message: PushTelemetryRequest
) -> PushTelemetryResponse:
    code = await broker.client_telemetry.pushed(message, request.connection, request.header.client_id)
    if code is not ErrorCode.NONE:
        broker.count_failure(ApiKey.PUSH_TELEMETRY, code)
    return PushTelemetryResponse(error_code=code)


def _is_wanted(broker: Broker) -> bool:
    return broker.client_telemetry.is_wanted


ROUTES = (
    Route(ApiKey.GET_TELEMETRY_SUBSCRIPTIONS, 0, 0, get_telemetry_subscriptions, advertised_if=_is_wanted),
    Route(ApiKey.PUSH_TELEMETRY, 0, 0, push_telemetry, advertised_if=_is_wanted),
)
