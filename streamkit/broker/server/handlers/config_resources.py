"""ListConfigResources (74): the names of all that has a configuration (KIP-1142)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from streamkit.broker.controller.image import MetadataImage, ResourceType
from streamkit.broker.server.dispatch import RequestContext, Route
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.list_config_resources import (
    ConfigResource,
    ListConfigResourcesRequest,
    ListConfigResourcesResponse,
)

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker

FIRST_VERSION_WITH_TYPES: Final = 1
LISTED: Final = (
    ResourceType.TOPIC,
    ResourceType.BROKER,
    ResourceType.BROKER_LOGGER,
    ResourceType.CLIENT_METRICS,
    ResourceType.GROUP,
)


def list_config_resources(
    broker: Broker, request: RequestContext, message: ListConfigResourcesRequest
) -> ListConfigResourcesResponse:
    types: Iterable[int] = message.resource_types or LISTED
    if request.version < FIRST_VERSION_WITH_TYPES:
        types = (ResourceType.CLIENT_METRICS,)
    if not set(types) <= set(LISTED):
        broker.count_failure(ApiKey.LIST_CONFIG_RESOURCES, ErrorCode.UNSUPPORTED_VERSION)
        return ListConfigResourcesResponse(error_code=ErrorCode.UNSUPPORTED_VERSION)
    return ListConfigResourcesResponse(
        config_resources=[
            ConfigResource(resource_name=name, resource_type=kind)
            for kind in dict.fromkeys(types)
            for name in _names(broker.metadata, kind)
        ]
    )


def _names(image: MetadataImage, kind: int) -> Iterable[str]:
    """All topics and registered brokers; groups and subscriptions that have something of their own."""
    match kind:
        case ResourceType.TOPIC:
            return image.topics
        case ResourceType.BROKER | ResourceType.BROKER_LOGGER:
            return map(str, image.brokers)
        case _:
            return [resource.name for resource in image.configs if resource.type == kind]


ROUTES = (Route(ApiKey.LIST_CONFIG_RESOURCES, 0, 1, list_config_resources),)
