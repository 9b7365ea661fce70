"""Metadata (3) and DescribeCluster (60): who is there, and who leads what.

A topic that does not exist is created on the way if the client allows it, the broker does too, and the client
named it; asking for all topics creates none. The answer waits for the creation, so it tells the new leaders.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING, Final

from streamkit.broker.controller.records import NO_LEADER
from streamkit.broker.controller.topic_names import INTERNAL_TOPICS, invalid_reason
from streamkit.broker.server.authorized_operations import CLUSTER, NOT_ASKED
from streamkit.broker.server.cluster.cluster_view import ClusterView
from streamkit.broker.server.cluster.metadata_answers import Question
from streamkit.broker.server.dispatch import Encoded, RequestContext, Route
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.describe_cluster import (
    DescribeClusterBroker,
    DescribeClusterRequest,
    DescribeClusterResponse,
)
from streamkit.protocol.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponseTopic,
)
from streamkit.protocol.schema import ZERO_UUID

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker

FIRST_VERSION_BY_ID: Final = 12  # the field exists from version 10, and no broker may heed it there
BROKERS: Final = 1
CONTROLLERS: Final = 2


def metadata(
    broker: Broker, request: RequestContext, message: MetadataRequest
) -> MetadataResponse | Awaitable[MetadataResponse | Encoded] | Encoded:
    """What is known when the answer can leave.

    Before it there may be writes that wait for a follower that just died. They are answered when the cluster
    has given it up; a client that were then told who led before would ask again only after its next backoff.
    Without such writes the answer itself waits a moment for the successors of a leader that just died.
    """
    if request.is_behind:
        return _metadata_in_turn(broker, request, message)
    if broker.lost_leaders.are_missed(_topics(broker, request, message)):
        request.pipelined = True
        return _metadata_with_leaders(broker, request, message)
    return _metadata(broker, request, message)


async def _metadata_in_turn(
    broker: Broker, request: RequestContext, message: MetadataRequest
) -> MetadataResponse | Encoded:
    turn = asyncio.Event()
    request.on_turn = request.on_abandoned = turn.set
    await turn.wait()
    return await _metadata_with_leaders(broker, request, message)


async def _metadata_with_leaders(
    broker: Broker, request: RequestContext, message: MetadataRequest
) -> MetadataResponse | Encoded:
    """The answer once the cluster has others in place of leaders that this broker has just lost sight of."""
    await broker.lost_leaders.settled(_topics(broker, request, message))
    answer = _metadata(broker, request, message)
    return await answer if isinstance(answer, Awaitable) else answer


def _topics(broker: Broker, request: RequestContext, message: MetadataRequest) -> list[str] | None:
    """The names that the answer will tell of; None for all."""
    return None if _asks_for_all(request, message) else _names(broker, message.topics or ())[0]


def _metadata(
    broker: Broker, request: RequestContext, message: MetadataRequest
) -> MetadataResponse | Awaitable[MetadataResponse] | Encoded:
    if _asks_for_all(request, message):
        return _answer(broker, request, message, None, ())
    wanted = message.topics or []
    if any(_is_misnamed(topic, request.version) for topic in wanted):
        refused = [_refused(ErrorCode.INVALID_REQUEST, topic.name or "", topic.topic_id) for topic in wanted]
        broker.count_failures(ApiKey.METADATA, (topic.error_code for topic in refused))
        return MetadataResponse(topics=refused)
    names, refused = _names(broker, wanted)
    missing = [name for name in names if name not in broker.metadata.topics]
    if not missing:
        return _answer(broker, request, message, names, refused)
    if message.allow_auto_topic_creation and broker.config.auto_create_topics_enable:
        return _create_and_answer(broker, request, message, names, refused)
    refused += [_refused(_why_missing(name), name) for name in missing]
    return _answer(broker, request, message, [name for name in names if name not in missing], refused)


async def _create_and_answer(
    broker: Broker,
    request: RequestContext,
    message: MetadataRequest,
    names: Iterable[str],
    refused: list[MetadataResponseTopic],
) -> MetadataResponse:
    missing = [name for name in names if name not in broker.metadata.topics]
    # The cluster's own topics have their coordinators to create them, with partitions of their own count.
    outcome: dict[str, int] = dict.fromkeys(missing, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    outcome |= await broker.controller_client.create_missing(
        [name for name in missing if name not in INTERNAL_TOPICS]
    )
    existing = tuple(name for name in names if name in broker.metadata.topics)
    refused += [_refused(code, name) for name, code in outcome.items() if name not in existing]
    broker.count_failures(ApiKey.METADATA, (topic.error_code for topic in refused))
    return broker.metadata_answers.response(_question(request, message, existing), refused)


def _asks_for_all(request: RequestContext, message: MetadataRequest) -> bool:
    return message.topics is None or (request.version == 0 and not message.topics)


def _is_misnamed(topic: MetadataRequestTopic, version: int) -> bool:
    if topic.topic_id == ZERO_UUID:
        return topic.name is None
    return version < FIRST_VERSION_BY_ID


def _names(
    broker: Broker, wanted: Iterable[MetadataRequestTopic]
) -> tuple[list[str], list[MetadataResponseTopic]]:
    """The names asked for, each once, and the refusals of ids that no topic has; ids win over names."""
    ids = [topic.topic_id for topic in wanted if topic.topic_id != ZERO_UUID]
    if not ids:
        return list(dict.fromkeys(topic.name for topic in wanted if topic.name is not None)), []
    names, refused = [], []
    for topic_id in dict.fromkeys(ids):
        topic = broker.metadata.topics_by_id.get(topic_id)
        if topic is None:
            refused.append(_refused(ErrorCode.UNKNOWN_TOPIC_ID, None, topic_id))
        else:
            names.append(topic.name)
    return names, refused


def _answer(
    broker: Broker,
    request: RequestContext,
    message: MetadataRequest,
    names: Iterable[str] | None,
    refused: list[MetadataResponseTopic] | tuple[()],
) -> MetadataResponse | Encoded:
    question = _question(request, message, None if names is None else tuple(names))
    if refused:
        broker.count_failures(ApiKey.METADATA, (topic.error_code for topic in refused))
        return broker.metadata_answers.response(question, refused)
    return Encoded(broker.metadata_answers.encoded(question))


def _question(request: RequestContext, message: MetadataRequest, names: tuple[str, ...] | None) -> Question:
    return Question(
        version=request.version,
        listener=request.listener,
        topics=names,
        topic_operations=message.include_topic_authorized_operations,
        cluster_operations=message.include_cluster_authorized_operations,
    )


def _refused(code: int, name: str | None, topic_id: bytes = ZERO_UUID) -> MetadataResponseTopic:
    return MetadataResponseTopic(
        error_code=code, name=name, topic_id=topic_id, is_internal=name in INTERNAL_TOPICS
    )


def _why_missing(name: str) -> ErrorCode:
    if invalid_reason(name) is not None:
        return ErrorCode.INVALID_TOPIC_EXCEPTION
    return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def describe_cluster(
    broker: Broker, request: RequestContext, message: DescribeClusterRequest
) -> DescribeClusterResponse:
    if message.endpoint_type != BROKERS:
        return _wrong_endpoint(request, message.endpoint_type, "this endpoint is a broker's")
    view = ClusterView(broker.metadata, request.listener)
    return DescribeClusterResponse(
        cluster_id=broker.directory.cluster_id,
        controller_id=broker.metadata_answers.controller_id,
        brokers=[
            DescribeClusterBroker(
                broker_id=one.broker_id,
                host=endpoint.host,
                port=endpoint.port,
                rack=one.rack,
                is_fenced=one.fenced,
            )
            for one, endpoint in (view.all_brokers() if message.include_fenced_brokers else view.brokers())
        ],
        cluster_authorized_operations=CLUSTER if message.include_cluster_authorized_operations else NOT_ASKED,
    )


def describe_controllers(
    broker: Broker, request: RequestContext, message: DescribeClusterRequest
) -> DescribeClusterResponse:
    """The same at a controller listener: who votes, and which of them decides (KIP-919)."""
    if message.endpoint_type != CONTROLLERS:
        return _wrong_endpoint(request, message.endpoint_type, "this endpoint is a controller's")
    return DescribeClusterResponse(
        endpoint_type=CONTROLLERS,
        cluster_id=broker.directory.cluster_id,
        controller_id=NO_LEADER if broker.quorum.leader_id is None else broker.quorum.leader_id,
        brokers=[
            DescribeClusterBroker(broker_id=voter.key.id, host=endpoint.host, port=endpoint.port)
            for voter in broker.quorum.voters
            for endpoint in voter.endpoints[:1]
        ],
        cluster_authorized_operations=CLUSTER if message.include_cluster_authorized_operations else NOT_ASKED,
    )


def _wrong_endpoint(request: RequestContext, endpoint_type: int, reason: str) -> DescribeClusterResponse:
    if endpoint_type in (BROKERS, CONTROLLERS):
        code = ErrorCode.MISMATCHED_ENDPOINT_TYPE
    else:
        code, reason = ErrorCode.UNSUPPORTED_ENDPOINT_TYPE, f"endpoint type {endpoint_type} is not known"
    return DescribeClusterResponse(
        error_code=code if request.version > 0 else ErrorCode.INVALID_REQUEST, error_message=reason
    )


ROUTES = (
    Route(ApiKey.METADATA, 0, 13, metadata),
    Route(ApiKey.DESCRIBE_CLUSTER, 0, 2, describe_cluster),
)
CONTROLLER_ROUTES = (Route(ApiKey.DESCRIBE_CLUSTER, 1, 2, describe_controllers),)
