"""UpdateFeatures (57): the levels of the cluster's features, changed by the controller (KIP-584)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamkit.broker.server.dispatch import InnerRequest, Route
from streamkit.protocol.api import ApiKey
from streamkit.protocol.messages.update_features import UpdateFeaturesRequest, UpdateFeaturesResponse

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker


async def update_features(
    broker: Broker, request: InnerRequest, message: UpdateFeaturesRequest
) -> UpdateFeaturesResponse:
    response = await broker.controller.submit(
        lambda controller: controller.update_features(message, request.version)
    )
    broker.count_failures(ApiKey.UPDATE_FEATURES, (response.error_code,))
    return response


ROUTES = (Route(ApiKey.UPDATE_FEATURES, 0, 2, update_features, by_controller=True),)
