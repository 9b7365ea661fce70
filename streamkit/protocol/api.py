"""The APIs that we have schemas for: key, request and response classes, versions.

What a broker *advertises* is decided by its routes: an API is advertised once it is served.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from streamkit.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from streamkit.protocol.messages.fetch import FetchRequest, FetchResponse
from streamkit.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from streamkit.protocol.messages.list_offsets import ListOffsetsRequest, ListOffsetsResponse
from streamkit.protocol.messages.metadata import MetadataRequest, MetadataResponse
from streamkit.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
)
from streamkit.protocol.messages.produce import ProduceRequest, ProduceResponse
from streamkit.protocol.schema import Message


class ApiKey(IntEnum):
    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    API_VERSIONS = 18
    INIT_PRODUCER_ID = 22
    OFFSET_FOR_LEADER_EPOCH = 23


class Api(NamedTuple):
    key: ApiKey
    request: type[Message]
    response: type[Message]
    min_version: int
    max_version: int
    first_flexible: int | None


def _api(request: type[Message], response: type[Message]) -> Api:
    first_flexible = request.FLEXIBLE.first if request.FLEXIBLE.last >= request.FLEXIBLE.first else None
    return Api(ApiKey(request.KEY), request, response, *request.VERSIONS, first_flexible)


_ALL = (
    _api(ProduceRequest, ProduceResponse),
    _api(FetchRequest, FetchResponse),
    _api(ListOffsetsRequest, ListOffsetsResponse),
    _api(MetadataRequest, MetadataResponse),
    _api(ApiVersionsRequest, ApiVersionsResponse),
    _api(InitProducerIdRequest, InitProducerIdResponse),
    _api(OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse),
)
APIS: dict[int, Api] = {api.key: api for api in _ALL}
