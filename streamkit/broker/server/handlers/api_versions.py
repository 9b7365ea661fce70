"""ApiVersions (18): what this listener serves, asked before the client knows any version that it speaks.

It is answered even in a version that is not served (KIP-511): with error 35, in version 0.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec.structs import replace

from streamkit.broker.controller.features import SUPPORTED, finalized_features
from streamkit.broker.server.client_telemetry import ClientSoftware
from streamkit.broker.server.dispatch import RequestContext, Route
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.api_versions import (
    ApiVersion,
    ApiVersionsRequest,
    ApiVersionsResponse,
    FinalizedFeatureKey,
    SupportedFeatureKey,
)

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker

SOFTWARE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")
FIRST_VERSION_WITH_SOFTWARE = 3
FIRST_VERSION_WITH_FEATURES = 4
"""Older clients fail on a feature whose lowest level is 0 (KIP-1022), or on any tag section with content."""


def api_versions(broker: Broker, request: RequestContext, message: ApiVersionsRequest) -> ApiVersionsResponse:
    routes = broker.dispatcher(request.listener).routes
    if request.version != request.header.api_version:
        return ApiVersionsResponse(
            error_code=ErrorCode.UNSUPPORTED_VERSION, api_keys=[advertised(routes[ApiKey.API_VERSIONS])]
        )
    if request.version >= FIRST_VERSION_WITH_SOFTWARE and not (
        SOFTWARE.fullmatch(message.client_software_name)
        and SOFTWARE.fullmatch(message.client_software_version)
    ):
        return ApiVersionsResponse(error_code=ErrorCode.INVALID_REQUEST)
    if message.client_software_name:
        request.connection.state = ClientSoftware(
            message.client_software_name, message.client_software_version
        )
    shown = [
        route
        for _, route in sorted(routes.items())
        if route.advertised_if is None or route.advertised_if(broker)
    ]
    served = ApiVersionsResponse(api_keys=[advertised(route) for route in shown])
    return served if request.version < FIRST_VERSION_WITH_FEATURES else _with_features(broker, served)


def _with_features(broker: Broker, served: ApiVersionsResponse) -> ApiVersionsResponse:
    image = broker.metadata
    return replace(
        served,
        supported_features=[
            SupportedFeatureKey(name=one.name, min_version=one.lowest, max_version=one.highest)
            for one in SUPPORTED
        ],
        finalized_features_epoch=image.offset,
        finalized_features=[
            FinalizedFeatureKey(name=name, min_version_level=level, max_version_level=level)
            for name, level in finalized_features(image).items()
            if level > 0
        ],
    )


def advertised(route: Route) -> ApiVersion:
    first = route.min_version if route.advertised_from is None else route.advertised_from
    return ApiVersion(api_key=route.api, min_version=first, max_version=route.max_version)


ROUTES = (Route(ApiKey.API_VERSIONS, 0, 4, api_versions),)
