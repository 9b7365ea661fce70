"""ApiVersions (18): what this listener serves, asked before the client knows any version that it speaks.

It is answered even in a version that is not served (KIP-511): with error 35, in version 0.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from streamkit.broker.server.dispatch import RequestContext, Route
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.api_versions import ApiVersion, ApiVersionsRequest, ApiVersionsResponse

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker

SOFTWARE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")
FIRST_VERSION_WITH_SOFTWARE = 3


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
    return ApiVersionsResponse(api_keys=[advertised(routes[key]) for key in sorted(routes)])


def advertised(route: Route) -> ApiVersion:
    first = route.min_version if route.advertised_from is None else route.advertised_from
    return ApiVersion(api_key=route.api, min_version=first, max_version=route.max_version)


ROUTES = (Route(ApiKey.API_VERSIONS, 0, 4, api_versions),)
