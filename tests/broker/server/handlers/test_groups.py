"""The group APIs over a real socket, each in every version that is served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from struct import unpack
from typing import TypeVar

import pytest

from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.framing import decode_response, encode_request
from streamkit.protocol.messages.delete_groups import DeleteGroupsRequest, DeleteGroupsResponse
from streamkit.protocol.messages.describe_groups import DescribeGroupsRequest, DescribeGroupsResponse
from streamkit.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from streamkit.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from streamkit.protocol.messages.join_group import (
    JoinGroupRequest,
    JoinGroupRequestProtocol,
    JoinGroupResponse,
)
from streamkit.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberIdentity
from streamkit.protocol.messages.list_groups import ListGroupsRequest, ListGroupsResponse
from streamkit.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from streamkit.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
    OffsetDeleteResponse,
)
from streamkit.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
)
from streamkit.protocol.messages.sync_group import (
    SyncGroupRequest,
    SyncGroupRequestAssignment,
    SyncGroupResponse,
)
from streamkit.protocol.schema import Message
from tests.support.broker_process import BrokerProcess

Response = TypeVar("Response", bound=Message)
TOPIC = "__consumer_offsets"
"""A topic that exists as soon as there is a coordinator; any topic may have offsets."""


class Wire:
    """One connection that speaks with our own codec."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, request: Message, response: type[Response], version: int) -> Response:
        self.writer.writelines(encode_request(request, version, correlation_id=1, client_id="wire"))
        (size,) = unpack(">i", await self.reader.readexactly(4))
        return decode_response(response, await self.reader.readexactly(size), version)[1]

    async def coordinator(self, group: str) -> FindCoordinatorResponse:
        return await self.ask(FindCoordinatorRequest(key=group), FindCoordinatorResponse, 2)

    async def join(self, group: str, version: int = 5) -> JoinGroupResponse:
        """Become the only member of a stable group."""
        await self.coordinator(group)
        request = JoinGroupRequest(
            group_id=group,
            session_timeout_ms=10_000,
            rebalance_timeout_ms=10_000,
            protocol_type="consumer",
            protocols=[JoinGroupRequestProtocol(name="range", metadata=b"")],
        )
        joined = await self.ask(request, JoinGroupResponse, version)
        if joined.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            again = JoinGroupRequest(
                group_id=group,
                session_timeout_ms=10_000,
                rebalance_timeout_ms=10_000,
                member_id=joined.member_id,
                protocol_type="consumer",
                protocols=[JoinGroupRequestProtocol(name="range", metadata=b"")],
            )
            joined = await self.ask(again, JoinGroupResponse, version)
        assert joined.error_code == ErrorCode.NONE
        return joined

    async def sync(self, group: str, joined: JoinGroupResponse, version: int = 3) -> SyncGroupResponse:
        part = SyncGroupRequestAssignment(member_id=joined.member_id, assignment=b"all")
        request = SyncGroupRequest(
            group_id=group,
            generation_id=joined.generation_id,
            member_id=joined.member_id,
            protocol_type="consumer",
            protocol_name="range",
            assignments=[part],
        )
        return await self.ask(request, SyncGroupResponse, version)

    async def commit(self, group: str, offset: int, version: int = 7, topic: str = TOPIC) -> int:
        part = OffsetCommitRequestPartition(committed_offset=offset, committed_metadata="m")
        request = OffsetCommitRequest(
            group_id=group, topics=[OffsetCommitRequestTopic(name=topic, partitions=[part])]
        )
        answer = await self.ask(request, OffsetCommitResponse, version)
        return answer.topics[0].partitions[0].error_code


@pytest.fixture
async def wire(broker: BrokerProcess) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
    yield Wire(reader, writer)
    writer.close()


@pytest.mark.parametrize("version", range(7))
async def test_find_coordinator(wire: Wire, name: str, version: int, broker: BrokerProcess) -> None:
    request = FindCoordinatorRequest(key=name, coordinator_keys=[name])
    answer = await wire.ask(request, FindCoordinatorResponse, version)
    found = answer.coordinators[0] if version >= 4 else answer
    assert (found.error_code, found.node_id, found.port) == (ErrorCode.NONE, 1, broker.port)


async def test_transactional_ids_have_a_coordinator_too(wire: Wire, name: str) -> None:
    request = FindCoordinatorRequest(coordinator_keys=[name], key_type=1)
    (found,) = (await wire.ask(request, FindCoordinatorResponse, 4)).coordinators
    assert (found.error_code, found.node_id) == (0, 1)


@pytest.mark.parametrize("version", range(10))
async def test_join_group(wire: Wire, name: str, version: int) -> None:
    joined = await wire.join(name, version)
    assert (joined.generation_id, joined.leader, joined.protocol_name) == (1, joined.member_id, "range")


@pytest.mark.parametrize("version", range(10))
async def test_a_refused_join(wire: Wire, name: str, version: int) -> None:
    await wire.coordinator(name)
    answer = await wire.ask(JoinGroupRequest(group_id=name), JoinGroupResponse, version)
    assert answer.error_code == ErrorCode.INVALID_SESSION_TIMEOUT
    answer = await wire.ask(JoinGroupRequest(group_id=""), JoinGroupResponse, version)
    assert answer.error_code == ErrorCode.INVALID_GROUP_ID


@pytest.mark.parametrize("version", range(6))
async def test_sync_group_and_leave_group(wire: Wire, name: str, version: int) -> None:
    joined = await wire.join(name)
    assert (await wire.sync(name, joined, version)).assignment == b"all"
    member = MemberIdentity(member_id=joined.member_id)
    request = LeaveGroupRequest(group_id=name, member_id=joined.member_id, members=[member])
    left = await wire.ask(request, LeaveGroupResponse, version)
    assert left.error_code == 0 and all(member.error_code == 0 for member in left.members)


async def test_sync_group_says_its_protocol_from_version_5_on(wire: Wire, name: str) -> None:
    joined = await wire.join(name)
    request = SyncGroupRequest(group_id=name, generation_id=1, member_id=joined.member_id)
    answer = await wire.ask(request, SyncGroupResponse, 5)
    assert answer.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL


@pytest.mark.parametrize("version", range(5))
async def test_heartbeat(wire: Wire, name: str, version: int) -> None:
    joined = await wire.join(name)
    request = HeartbeatRequest(group_id=name, generation_id=1, member_id=joined.member_id)
    assert (await wire.ask(request, HeartbeatResponse, version)).error_code == ErrorCode.NONE
    request = HeartbeatRequest(group_id=name, generation_id=9, member_id=joined.member_id)
    assert (await wire.ask(request, HeartbeatResponse, version)).error_code == ErrorCode.ILLEGAL_GENERATION


@pytest.mark.parametrize("version", range(2, 10))
async def test_offset_commit(wire: Wire, name: str, version: int) -> None:
    await wire.coordinator(name)
    assert await wire.commit(name, 7, version) == ErrorCode.NONE
    missing = await wire.commit(name, 7, version, topic=name)
    assert missing == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


async def test_offset_commit_of_a_partition_that_the_topic_does_not_have(wire: Wire, name: str) -> None:
    await wire.coordinator(name)
    parts = [OffsetCommitRequestPartition(partition_index=index, committed_offset=7) for index in (0, 99, -1)]
    request = OffsetCommitRequest(
        group_id=name, topics=[OffsetCommitRequestTopic(name=TOPIC, partitions=parts)]
    )
    (answer,) = (await wire.ask(request, OffsetCommitResponse, 9)).topics
    missing = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert {one.partition_index: one.error_code for one in answer.partitions} == {
        0: 0,
        99: missing,
        -1: missing,
    }


async def test_offset_commit_by_an_unknown_topic_id(wire: Wire, name: str) -> None:
    await wire.coordinator(name)
    assert await wire.commit(name, 7, 10) == ErrorCode.UNKNOWN_TOPIC_ID


@pytest.mark.parametrize("version", range(1, 8))
async def test_offset_fetch_of_one_group(wire: Wire, name: str, version: int) -> None:
    await wire.coordinator(name)
    await wire.commit(name, 7)
    wanted = [OffsetFetchRequestTopic(name=TOPIC, partition_indexes=[0, 1])]
    answer = await wire.ask(OffsetFetchRequest(group_id=name, topics=wanted), OffsetFetchResponse, version)
    assert answer.error_code == ErrorCode.NONE
    assert [(p.committed_offset, p.metadata) for p in answer.topics[0].partitions] == [(7, "m"), (-1, "")]
    if version >= 2:
        answer = await wire.ask(OffsetFetchRequest(group_id=name, topics=None), OffsetFetchResponse, version)
        assert [p.committed_offset for p in answer.topics[0].partitions] == [7]


@pytest.mark.parametrize("version", range(8, 11))
async def test_offset_fetch_of_several_groups(wire: Wire, name: str, version: int) -> None:
    await wire.coordinator(name)
    await wire.commit(name, 7)
    groups = [
        OffsetFetchRequestGroup(group_id=name, topics=None),
        OffsetFetchRequestGroup(
            group_id="nobody", topics=[OffsetFetchRequestTopics(name=TOPIC, partition_indexes=[0])]
        ),
    ]
    answer = await wire.ask(OffsetFetchRequest(groups=groups), OffsetFetchResponse, version)
    found, nothing = answer.groups
    assert [p.committed_offset for p in found.topics[0].partitions] == [7]
    (missing,) = nothing.topics[0].partitions
    assert missing.committed_offset == -1
    assert missing.error_code == (ErrorCode.UNKNOWN_TOPIC_ID if version == 10 else ErrorCode.NONE)


async def test_offsets_by_topic_id(wire: Wire, name: str) -> None:
    await wire.coordinator(name)
    await wire.commit(name, 7)
    groups = [OffsetFetchRequestGroup(group_id=name, topics=None)]
    answer = await wire.ask(OffsetFetchRequest(groups=groups), OffsetFetchResponse, 10)
    topic_id = answer.groups[0].topics[0].topic_id
    part = OffsetCommitRequestPartition(committed_offset=8, committed_metadata="")
    topics = [OffsetCommitRequestTopic(topic_id=topic_id, partitions=[part])]
    committed = await wire.ask(OffsetCommitRequest(group_id=name, topics=topics), OffsetCommitResponse, 10)
    assert committed.topics[0].topic_id == topic_id
    assert committed.topics[0].partitions[0].error_code == ErrorCode.NONE
    wanted = [OffsetFetchRequestTopics(topic_id=topic_id, partition_indexes=[0])]
    groups = [OffsetFetchRequestGroup(group_id=name, topics=wanted)]
    answer = await wire.ask(OffsetFetchRequest(groups=groups), OffsetFetchResponse, 10)
    assert answer.groups[0].topics[0].partitions[0].committed_offset == 8


@pytest.mark.parametrize("version", range(7))
async def test_describe_groups(wire: Wire, name: str, version: int) -> None:
    joined = await wire.join(name)
    await wire.sync(name, joined)
    request = DescribeGroupsRequest(groups=[name, f"{name}-2"], include_authorized_operations=True)
    known, unknown = (await wire.ask(request, DescribeGroupsResponse, version)).groups
    assert (known.group_state, known.members[0].client_host) == ("Stable", "/127.0.0.1")
    assert version < 3 or known.authorized_operations == 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11
    assert unknown.group_state == "Dead"
    assert unknown.error_code == (ErrorCode.GROUP_ID_NOT_FOUND if version >= 6 else ErrorCode.NONE)


@pytest.mark.parametrize("version", range(6))
async def test_list_groups(wire: Wire, name: str, version: int) -> None:
    await wire.join(name)
    listed = (await wire.ask(ListGroupsRequest(), ListGroupsResponse, version)).groups
    (mine,) = (group for group in listed if group.group_id == name)
    assert mine.protocol_type == "consumer"
    if version >= 4:
        request = ListGroupsRequest(states_filter=["Dead"])
        assert not (await wire.ask(request, ListGroupsResponse, version)).groups


@pytest.mark.parametrize("version", range(3))
async def test_delete_groups(wire: Wire, name: str, version: int) -> None:
    await wire.join(f"{name}-busy")
    await wire.coordinator(name)
    await wire.commit(name, 7)
    request = DeleteGroupsRequest(groups_names=[name, f"{name}-busy", f"{name}-none"])
    answer = await wire.ask(request, DeleteGroupsResponse, version)
    assert [result.error_code for result in answer.results] == [
        ErrorCode.NONE,
        ErrorCode.NON_EMPTY_GROUP,
        ErrorCode.GROUP_ID_NOT_FOUND,
    ]


async def test_offset_delete_of_a_partition_that_the_topic_does_not_have(wire: Wire, name: str) -> None:
    await wire.coordinator(name)
    await wire.commit(name, 7)
    parts = [OffsetDeleteRequestPartition(partition_index=index) for index in (0, 99)]
    topics = [OffsetDeleteRequestTopic(name=TOPIC, partitions=parts)]
    answer = await wire.ask(OffsetDeleteRequest(group_id=name, topics=topics), OffsetDeleteResponse, 0)
    (told,) = answer.topics
    assert {one.partition_index: one.error_code for one in told.partitions} == {
        0: ErrorCode.NONE,
        99: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }


async def test_offset_delete(wire: Wire, name: str) -> None:
    await wire.coordinator(name)
    await wire.commit(name, 7)
    part = OffsetDeleteRequestPartition(partition_index=0)
    topics = [OffsetDeleteRequestTopic(name=topic, partitions=[part]) for topic in (TOPIC, name)]
    answer = await wire.ask(OffsetDeleteRequest(group_id=name, topics=topics), OffsetDeleteResponse, 0)
    assert {topic.name: topic.partitions[0].error_code for topic in answer.topics} == {
        TOPIC: ErrorCode.NONE,
        name: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }
