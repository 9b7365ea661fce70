"""Consumer groups and committed offsets: 8–16, 42, 47.

A handler finds the group's shard and lets it decide; what is left to do here is what a shard does not know:
topic ids and topics that do not exist, requests for several groups at once, and in which words each API says
that this broker is not, or not yet, the coordinator.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar, cast
from uuid import UUID

from msgspec.structs import replace

from streamkit.broker.coordination.group.classic.group import refused_join
from streamkit.broker.coordination.group.coordinator import GroupCoordinator
from streamkit.broker.coordination.group.offset_requests import refused_commit
from streamkit.broker.coordination.group.vocabulary import Caller
from streamkit.broker.coordination.shard import Decision, Refusal, Token
from streamkit.broker.server.authorized_operations import GROUP
from streamkit.broker.server.coordinators.hosted_shard import Decide
from streamkit.broker.server.dispatch import RequestContext, Route
from streamkit.broker.server.share.states import is_coordinator_key
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.delete_groups import (
    DeletableGroupResult,
    DeleteGroupsRequest,
    DeleteGroupsResponse,
)
from streamkit.protocol.messages.describe_groups import (
    DescribedGroup,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
)
from streamkit.protocol.messages.find_coordinator import (
    Coordinator,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)
from streamkit.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from streamkit.protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse
from streamkit.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse
from streamkit.protocol.messages.list_groups import ListGroupsRequest, ListGroupsResponse
from streamkit.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from streamkit.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestTopic,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)
from streamkit.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)
from streamkit.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse
from streamkit.protocol.schema import Message

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker

GROUP_KEY_TYPE = 0
TRANSACTION_KEY_TYPE = 1
SHARE_KEY_TYPE = 2
FIRST_VERSION_WITH_SHARES = 6
BATCHED_FIND_VERSION = 4
BATCHED_FETCH_VERSION = 8
FETCH_ERROR_VERSION = 2
TOPIC_ID_VERSION = 10
NULL_PROTOCOL_NAME_VERSION = 7
PROTOCOL_IN_SYNC_VERSION = 5

Reply = TypeVar("Reply", bound=Message)


async def ask(broker: Broker, group_id: str, reply: type[Reply], decide: Decide[GroupCoordinator]) -> Reply:
    """What the group's shard answers; raises Refusal."""
    answer = await broker.groups.ask(group_id, decide)
    assert isinstance(answer, reply)
    return answer


# ── find ────────────────────────────────────────────────────────────────────────────────────────────────


async def find_coordinator(
    broker: Broker, request: RequestContext, message: FindCoordinatorRequest
) -> FindCoordinatorResponse:
    keys = message.coordinator_keys if request.version >= BATCHED_FIND_VERSION else [message.key]
    found = [await _find(broker, request, message.key_type, key) for key in keys]
    if request.version >= BATCHED_FIND_VERSION:
        return FindCoordinatorResponse(coordinators=found)
    one = found[0]
    return FindCoordinatorResponse(
        error_code=one.error_code,
        error_message=one.error_message or ErrorCode.NONE.name,
        node_id=one.node_id,
        host=one.host,
        port=one.port,
    )


async def _find(broker: Broker, request: RequestContext, key_type: int, key: str) -> Coordinator:
    finds = {
        GROUP_KEY_TYPE: broker.groups.find,
        TRANSACTION_KEY_TYPE: broker.transactions.find,
        SHARE_KEY_TYPE: broker.share_states.find,
    }
    find = finds.get(key_type)
    if find is None or (key_type == SHARE_KEY_TYPE and request.version < FIRST_VERSION_WITH_SHARES):
        return _not_found(key, ErrorCode.INVALID_REQUEST, f"Key type {key_type} is not supported.")
    if key_type == SHARE_KEY_TYPE and not is_coordinator_key(key):
        return _not_found(key, ErrorCode.INVALID_REQUEST, "A share key is groupId:topicId:partition.")
    try:
        node_id = await find(key)
    except Refusal as refusal:
        return _not_found(key, refusal.code, "The coordinator is not available.")
    registration = broker.metadata.brokers.get(node_id)
    endpoint = None if registration is None else registration.endpoint(request.listener)
    if endpoint is None:
        return _not_found(key, ErrorCode.COORDINATOR_NOT_AVAILABLE, "The coordinator is not available.")
    return Coordinator(key=key, node_id=node_id, host=endpoint.host, port=endpoint.port)


def _not_found(key: str, code: ErrorCode, reason: str) -> Coordinator:
    return Coordinator(key=key, node_id=-1, port=-1, error_code=code, error_message=reason)


# ── membership ──────────────────────────────────────────────────────────────────────────────────────────


async def join_group(broker: Broker, request: RequestContext, message: JoinGroupRequest) -> JoinGroupResponse:
    fresh_id = str(UUID(bytes=broker.rng.bytes("member-id", 16), version=4))
    caller = Caller(request.version, request.header.client_id or "", f"/{request.client_host}", fresh_id)
    try:
        check_group_id(message.group_id)
        response = await ask(
            broker,
            message.group_id,
            JoinGroupResponse,
            lambda shard, token, decision: shard.classic.join(message, caller, token, decision),
        )
    except Refusal as refusal:
        response = refused_join(refusal.code, message.member_id)
    if request.version < NULL_PROTOCOL_NAME_VERSION and response.protocol_name is None:
        return replace(response, protocol_name="")
    return response


async def sync_group(broker: Broker, request: RequestContext, message: SyncGroupRequest) -> SyncGroupResponse:
    try:
        check_group_id(message.group_id)
        if request.version >= PROTOCOL_IN_SYNC_VERSION and None in (
            message.protocol_type, message.protocol_name,
        ):  # fmt: skip
            raise Refusal(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
        return await ask(
            broker,
            message.group_id,
            SyncGroupResponse,
            lambda shard, token, decision: shard.classic.sync(message, token, decision),
        )
    except Refusal as refusal:
        # An assignment too large to be written has no code of its own.
        too_large = refusal.code is ErrorCode.INVALID_COMMIT_OFFSET_SIZE
        return SyncGroupResponse(error_code=ErrorCode.UNKNOWN_SERVER_ERROR if too_large else refusal.code)


async def heartbeat(broker: Broker, request: RequestContext, message: HeartbeatRequest) -> HeartbeatResponse:
    try:
        check_group_id(message.group_id)
        return await ask(
            broker,
            message.group_id,
            HeartbeatResponse,
            lambda shard, token, decision: shard.classic.heartbeat(message, token, decision),
        )
    except Refusal as refusal:
        # While the groups load, nobody is declared dead; a member may as well believe that all is well.
        loading = refusal.code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        return HeartbeatResponse(error_code=ErrorCode.NONE if loading else refusal.code)


async def leave_group(
    broker: Broker, request: RequestContext, message: LeaveGroupRequest
) -> LeaveGroupResponse:
    try:
        check_group_id(message.group_id)
        return await ask(
            broker,
            message.group_id,
            LeaveGroupResponse,
            lambda shard, token, decision: shard.classic.leave(message, request.version, token, decision),
        )
    except Refusal as refusal:
        return LeaveGroupResponse(error_code=refusal.code)


def check_group_id(group_id: str) -> None:
    """Only offsets may be kept under the empty name, by consumers older than groups."""
    if not group_id:
        raise Refusal(ErrorCode.INVALID_GROUP_ID)


# ── offsets ─────────────────────────────────────────────────────────────────────────────────────────────


async def offset_commit(
    broker: Broker, request: RequestContext, message: OffsetCommitRequest
) -> OffsetCommitResponse:
    """Offsets of what does not exist are refused one by one; the others are committed together."""
    named = [_committable(broker, request.version, topic) for topic in message.topics]
    known = replace(message, topics=[topic for topic in named if isinstance(topic, OffsetCommitRequestTopic)])
    try:
        response = await ask(
            broker,
            message.group_id,
            OffsetCommitResponse,
            lambda shard, token, decision: shard.commits.commit(known, request.version, token, decision),
        )
    except Refusal as refusal:
        response = refused_commit(known, refusal.code)
    answers = iter(response.topics)
    return OffsetCommitResponse(
        topics=[
            _with_unknown_partitions(topic, next(answers))
            if isinstance(outcome, OffsetCommitRequestTopic)
            else _uncommitted(topic, outcome)
            for topic, outcome in zip(message.topics, named, strict=True)
        ]
    )


def _committable(
    broker: Broker, version: int, topic: OffsetCommitRequestTopic
) -> OffsetCommitRequestTopic | ErrorCode:
    """The topic under its name and with the partitions that it has, or why it cannot have offsets."""
    by_id = version >= TOPIC_ID_VERSION
    images = broker.metadata
    found = images.topics_by_id.get(topic.topic_id) if by_id else images.topics.get(topic.name)
    if found is None:
        return ErrorCode.UNKNOWN_TOPIC_ID if by_id else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    partitions = [one for one in topic.partitions if 0 <= one.partition_index < len(found.partitions)]
    return replace(topic, name=found.name, topic_id=found.topic_id, partitions=partitions)


def _with_unknown_partitions(
    topic: OffsetCommitRequestTopic, answer: OffsetCommitResponseTopic
) -> OffsetCommitResponseTopic:
    """The answer for the partitions that the topic has, and for those that it does not have."""
    if len(answer.partitions) == len(topic.partitions):
        return answer
    committed = {one.partition_index for one in answer.partitions}
    unknown = [
        OffsetCommitResponsePartition(
            partition_index=one.partition_index, error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        )
        for one in topic.partitions
        if one.partition_index not in committed
    ]
    return replace(answer, partitions=[*answer.partitions, *unknown])


def _uncommitted(topic: OffsetCommitRequestTopic, code: ErrorCode) -> OffsetCommitResponseTopic:
    answers = [
        OffsetCommitResponsePartition(partition_index=partition.partition_index, error_code=code)
        for partition in topic.partitions
    ]
    return OffsetCommitResponseTopic(name=topic.name, topic_id=topic.topic_id, partitions=answers)


async def offset_fetch(
    broker: Broker, request: RequestContext, message: OffsetFetchRequest
) -> OffsetFetchResponse:
    if request.version >= BATCHED_FETCH_VERSION:
        fetches = [
            _fetch_group(broker, request.version, group, message.require_stable) for group in message.groups
        ]
        return OffsetFetchResponse(groups=list(await asyncio.gather(*fetches)))
    topics = message.topics
    wanted = OffsetFetchRequestGroup(
        group_id=message.group_id,
        topics=None
        if topics is None
        else [OffsetFetchRequestTopics(name=t.name, partition_indexes=t.partition_indexes) for t in topics],
    )
    group = await _fetch_group(broker, request.version, wanted, message.require_stable)
    if group.error_code and request.version < FETCH_ERROR_VERSION:
        group = _failed_everywhere(wanted, group.error_code)
    return OffsetFetchResponse(
        error_code=group.error_code,
        topics=[
            OffsetFetchResponseTopic(name=topic.name, partitions=[_single(p) for p in topic.partitions])
            for topic in group.topics
        ],
    )


async def _fetch_group(
    broker: Broker, version: int, wanted: OffsetFetchRequestGroup, require_stable: bool
) -> OffsetFetchResponseGroup:
    asked = replace(wanted, topics=_named(broker, version, wanted.topics))
    try:
        group = await ask(
            broker,
            wanted.group_id,
            OffsetFetchResponseGroup,
            lambda shard, token, decision: shard.commits.fetch(
                asked, token, decision, require_stable=require_stable
            ),
        )
    except Refusal as refusal:
        # Consumers do not expect COORDINATOR_NOT_AVAILABLE here.
        gone = refusal.code is ErrorCode.COORDINATOR_NOT_AVAILABLE
        code = ErrorCode.NOT_COORDINATOR if gone else refusal.code
        return OffsetFetchResponseGroup(group_id=wanted.group_id, error_code=code)
    if version < TOPIC_ID_VERSION:
        return group
    return replace(group, topics=_with_ids(broker, wanted, group.topics))


def _named(
    broker: Broker, version: int, topics: list[OffsetFetchRequestTopics] | None
) -> list[OffsetFetchRequestTopics] | None:
    """The topics that exist, by their names."""
    if topics is None or version < TOPIC_ID_VERSION:
        return topics
    found = ((topic, broker.metadata.topics_by_id.get(topic.topic_id)) for topic in topics)
    return [replace(topic, name=image.name) for topic, image in found if image is not None]


def _with_ids(
    broker: Broker, wanted: OffsetFetchRequestGroup, topics: Iterable[OffsetFetchResponseTopics]
) -> list[OffsetFetchResponseTopics]:
    """What was found, by topic ids; ids that nobody knows carry their error."""
    images = broker.metadata.topics
    answers = [
        replace(topic, topic_id=images[topic.name].topic_id) for topic in topics if topic.name in images
    ]
    for topic in wanted.topics or ():
        if topic.topic_id not in broker.metadata.topics_by_id:
            partitions = [_unknown(index, ErrorCode.UNKNOWN_TOPIC_ID) for index in topic.partition_indexes]
            answers.append(OffsetFetchResponseTopics(topic_id=topic.topic_id, partitions=partitions))
    return answers


def _failed_everywhere(wanted: OffsetFetchRequestGroup, code: int) -> OffsetFetchResponseGroup:
    """Version 1 has no error for the whole group."""
    return OffsetFetchResponseGroup(
        group_id=wanted.group_id,
        topics=[
            OffsetFetchResponseTopics(
                name=topic.name, partitions=[_unknown(index, code) for index in topic.partition_indexes]
            )
            for topic in wanted.topics or ()
        ],
    )


def _unknown(index: int, code: int) -> OffsetFetchResponsePartitions:
    return OffsetFetchResponsePartitions(partition_index=index, committed_offset=-1, error_code=code)


def _single(partition: OffsetFetchResponsePartitions) -> OffsetFetchResponsePartition:
    return OffsetFetchResponsePartition(
        partition_index=partition.partition_index,
        committed_offset=partition.committed_offset,
        committed_leader_epoch=partition.committed_leader_epoch,
        metadata=partition.metadata,
        error_code=partition.error_code,
    )


async def offset_delete(
    broker: Broker, request: RequestContext, message: OffsetDeleteRequest
) -> OffsetDeleteResponse:
    exists = broker.metadata.partition
    known: list[OffsetDeleteRequestTopic] = []
    missing: list[OffsetDeleteResponseTopic] = []
    for topic in message.topics:
        there = [one for one in topic.partitions if exists(topic.name, one.partition_index) is not None]
        absent = [
            OffsetDeleteResponsePartition(
                partition_index=one.partition_index, error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            )
            for one in topic.partitions
            if one not in there
        ]
        if there:
            known.append(replace(topic, partitions=there))
        if absent:
            missing.append(OffsetDeleteResponseTopic(name=topic.name, partitions=absent))
    try:
        check_group_id(message.group_id)
        response = await ask(
            broker,
            message.group_id,
            OffsetDeleteResponse,
            lambda shard, token, decision: shard.commits.delete(
                replace(message, topics=known), token, decision
            ),
        )
    except Refusal as refusal:
        return OffsetDeleteResponse(error_code=refusal.code)
    if response.error_code:
        return response
    return replace(response, topics=_merged([*response.topics, *missing]))


def _merged(topics: Iterable[OffsetDeleteResponseTopic]) -> list[OffsetDeleteResponseTopic]:
    """Each topic once, with all its partitions."""
    by_name: dict[str, OffsetDeleteResponseTopic] = {}
    for topic in topics:
        first = by_name.setdefault(topic.name, topic)
        if first is not topic:
            by_name[topic.name] = replace(first, partitions=[*first.partitions, *topic.partitions])
    return list(by_name.values())


# ── administration ──────────────────────────────────────────────────────────────────────────────────────


async def describe_groups(
    broker: Broker, request: RequestContext, message: DescribeGroupsRequest
) -> DescribeGroupsResponse:
    described = await asyncio.gather(
        *(_describe(broker, request.version, group_id) for group_id in message.groups)
    )
    if message.include_authorized_operations:
        described = [
            group if group.error_code else replace(group, authorized_operations=GROUP) for group in described
        ]
    return DescribeGroupsResponse(groups=list(described))


async def _describe(broker: Broker, version: int, group_id: str) -> DescribedGroup:
    try:
        return await ask(
            broker,
            group_id,
            DescribedGroup,
            lambda shard, token, decision: shard.classic.describe(group_id, version, token, decision),
        )
    except Refusal as refusal:
        return DescribedGroup(group_id=group_id, error_code=refusal.code)


async def list_groups(
    broker: Broker, request: RequestContext, message: ListGroupsRequest
) -> ListGroupsResponse:
    states = {state.lower() for state in message.states_filter}
    types = {group_type.lower() for group_type in message.types_filter}

    def decide(shard: GroupCoordinator, token: Token, decision: Decision) -> None:
        decision.reply(token, ListGroupsResponse(groups=shard.list(states, types)))

    try:
        answers = await asyncio.gather(*[shard.ask(decide) for shard in broker.groups.shards.values()])
    except Refusal as refusal:
        return ListGroupsResponse(error_code=refusal.code)
    return ListGroupsResponse(
        groups=[group for answer in answers for group in cast(ListGroupsResponse, answer).groups]
    )


async def delete_groups(
    broker: Broker, request: RequestContext, message: DeleteGroupsRequest
) -> DeleteGroupsResponse:
    deletions = [_delete_group(broker, group_id) for group_id in dict.fromkeys(message.groups_names)]
    return DeleteGroupsResponse(results=list(await asyncio.gather(*deletions)))


async def _delete_group(broker: Broker, group_id: str) -> DeletableGroupResult:
    try:
        return await ask(
            broker,
            group_id,
            DeletableGroupResult,
            lambda shard, token, decision: shard.delete(group_id, token, decision),
        )
    except Refusal as refusal:
        return DeletableGroupResult(group_id=group_id, error_code=refusal.code)


ROUTES = (
    Route(ApiKey.OFFSET_COMMIT, 2, 10, offset_commit),
    Route(ApiKey.OFFSET_FETCH, 1, 10, offset_fetch),
    Route(ApiKey.FIND_COORDINATOR, 0, 6, find_coordinator),
    Route(ApiKey.JOIN_GROUP, 0, 9, join_group),
    Route(ApiKey.HEARTBEAT, 0, 4, heartbeat),
    Route(ApiKey.LEAVE_GROUP, 0, 5, leave_group),
    Route(ApiKey.SYNC_GROUP, 0, 5, sync_group),
    Route(ApiKey.DESCRIBE_GROUPS, 0, 6, describe_groups),
    Route(ApiKey.LIST_GROUPS, 0, 5, list_groups),
    Route(ApiKey.DELETE_GROUPS, 0, 2, delete_groups),
    Route(ApiKey.OFFSET_DELETE, 0, 0, offset_delete),
)
