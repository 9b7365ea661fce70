"""Share groups on the wire: their members, and what operators ask of them (KIP-932)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages import write_share_group_state as writing
from streamkit.protocol.messages.alter_share_group_offsets import (
    AlterShareGroupOffsetsRequest,
    AlterShareGroupOffsetsRequestPartition,
    AlterShareGroupOffsetsRequestTopic,
)
from streamkit.protocol.messages.api_versions import ApiVersionsRequest
from streamkit.protocol.messages.delete_groups import DeleteGroupsRequest
from streamkit.protocol.messages.delete_share_group_offsets import (
    DeleteShareGroupOffsetsRequest,
    DeleteShareGroupOffsetsRequestTopic,
)
from streamkit.protocol.messages.describe_share_group_offsets import (
    DescribeShareGroupOffsetsRequest,
    DescribeShareGroupOffsetsRequestGroup,
    DescribeShareGroupOffsetsRequestTopic,
)
from streamkit.protocol.messages.list_groups import ListGroupsRequest
from streamkit.protocol.messages.share_group_describe import ShareGroupDescribeRequest
from streamkit.protocol.messages.share_group_heartbeat import ShareGroupHeartbeatRequest
from streamkit.protocol.schema import ZERO_UUID
from tests.broker.server.wire import Wire, batch, connected, running, topic

DEADLINE_S = 10
FEW = {"offsets_topic_num_partitions": "1", "share_coordinator_state_topic_num_partitions": "2"}


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    async with running(tmp_path, **FEW) as broker, connected(broker) as wire:
        await topic(broker, "t", partitions=2)
        await broker.groups.find("g")
        yield wire


async def beat(wire: Wire, epoch: int, topics: list[str] | None = None) -> Any:
    request = ShareGroupHeartbeatRequest(
        group_id="g", member_id="m", member_epoch=epoch, subscribed_topic_names=topics
    )
    answer = await wire.ask(request, 1)
    assert answer.error_code == ErrorCode.NONE, answer
    return answer


async def join(wire: Wire) -> int:
    """Be a member with all partitions; its epoch."""
    answer = await beat(wire, 0, ["t"])
    async with asyncio.timeout(DEADLINE_S):
        while answer.assignment is None or not answer.assignment.topic_partitions:
            answer = await beat(wire, answer.member_epoch)
    assert [topic.partitions for topic in answer.assignment.topic_partitions] == [[0, 1]]
    return int(answer.member_epoch)


async def offsets(wire: Wire, *names: str, version: int = 1) -> Any:
    topics = [DescribeShareGroupOffsetsRequestTopic(topic_name=name, partitions=[0, 1]) for name in names]
    group = DescribeShareGroupOffsetsRequestGroup(group_id="g", topics=topics or None)
    answer = await wire.ask(DescribeShareGroupOffsetsRequest(groups=[group]), version)
    (group_answer,) = answer.groups
    assert group_answer.error_code == ErrorCode.NONE
    return group_answer.topics


async def alter(wire: Wire, name: str, offset: int) -> Any:
    partition = AlterShareGroupOffsetsRequestPartition(partition_index=1, start_offset=offset)
    altered = AlterShareGroupOffsetsRequestTopic(topic_name=name, partitions=[partition])
    answer = await wire.ask(AlterShareGroupOffsetsRequest(group_id="g", topics=[altered]), 0)
    assert answer.error_code == ErrorCode.NONE, answer
    (topic_answer,) = answer.responses
    return topic_answer.partitions[0].error_code


async def test_share_version_is_finalized_in_a_new_cluster(wire: Wire) -> None:
    answer = await wire.ask(ApiVersionsRequest(client_software_name="t", client_software_version="1"), 4)
    levels = {one.name: one.max_version_level for one in answer.finalized_features}
    assert levels["share.version"] == 1


async def test_a_member_joins_and_is_described(wire: Wire) -> None:
    epoch = await join(wire)
    request = ShareGroupDescribeRequest(group_ids=["g", "none"], include_authorized_operations=True)
    group, none = (await wire.ask(request, 1)).groups
    assert (group.group_state, group.group_epoch, group.assignor_name) == ("Stable", epoch, "simple")
    assert group.authorized_operations > 0
    (member,) = group.members
    assert (member.member_id, member.client_host) == ("m", "/127.0.0.1")
    assert member.assignment.topic_partitions[0].topic_name == "t"
    assert none.error_code == ErrorCode.GROUP_ID_NOT_FOUND
    (listed,) = (await wire.ask(ListGroupsRequest(types_filter=["Share"]), 5)).groups
    assert (listed.group_id, listed.protocol_type, listed.group_type) == ("g", "share", "share")


async def test_offsets_are_told_with_their_lag(wire: Wire, tmp_path: Path) -> None:
    await join(wire)
    (blank,) = await offsets(wire)
    assert [(one.start_offset, one.lag) for one in blank.partitions] == [(-1, -1), (-1, -1)]
    await wire.produce(batch(*[b"v"] * 5), partition=1)
    done = writing.PartitionData(
        partition=1, state_epoch=-1, leader_epoch=0, start_offset=1, delivery_complete_count=2
    )
    written = writing.WriteStateData(topic_id=blank.topic_id, partitions=[done])
    await wire.ask(writing.WriteShareGroupStateRequest(group_id="g", topics=[written]), 1)
    (known,) = await offsets(wire, "t")
    assert [(one.start_offset, one.lag) for one in known.partitions] == [(-1, -1), (1, 2)]
    (unknown,) = await offsets(wire, "nothing", version=0)
    assert (unknown.topic_id, unknown.partitions[0].start_offset) == (ZERO_UUID, -1)


async def test_offsets_are_altered_and_deleted_without_members(wire: Wire) -> None:
    epoch = await join(wire)
    busy = await wire.ask(AlterShareGroupOffsetsRequest(group_id="g"), 0)
    assert (busy.error_code, busy.error_message) == (ErrorCode.NON_EMPTY_GROUP, "The group is not empty.")
    assert (await beat(wire, -1)).member_epoch == -1
    assert epoch > 1
    assert await alter(wire, "t", 3) == ErrorCode.NONE
    assert await alter(wire, "nothing", 3) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    (altered,) = await offsets(wire)
    assert [one.start_offset for one in altered.partitions] == [-1, 3]
    request = DeleteShareGroupOffsetsRequest(
        group_id="g",
        topics=[DeleteShareGroupOffsetsRequestTopic(topic_name=name) for name in ("t", "nothing")],
    )
    deleted = await wire.ask(request, 0)
    codes = [one.error_code for one in deleted.responses]
    assert codes == [ErrorCode.NONE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
    assert await offsets(wire) == []


async def test_a_group_is_deleted_with_its_states(wire: Wire) -> None:
    await join(wire)
    (busy,) = (await wire.ask(DeleteGroupsRequest(groups_names=["g"]), 2)).results
    assert busy.error_code == ErrorCode.NON_EMPTY_GROUP
    await beat(wire, -1)
    await alter(wire, "t", 3)
    (gone,) = (await wire.ask(DeleteGroupsRequest(groups_names=["g"]), 2)).results
    assert gone.error_code == ErrorCode.NONE
    assert not (await wire.ask(ListGroupsRequest(), 5)).groups
    (known,) = await offsets(wire, "t")
    assert [one.start_offset for one in known.partitions] == [-1, -1]


async def test_a_group_comes_back_with_its_broker(tmp_path: Path) -> None:
    async with running(tmp_path, **FEW) as broker, connected(broker) as wire:
        await topic(broker, "t", partitions=2)
        await broker.groups.find("g")
        epoch = await join(wire)
    async with running(tmp_path, **FEW) as broker, connected(broker) as wire:
        answer = await beat(wire, epoch)
        assert (answer.member_epoch, answer.assignment) == (epoch, None)


async def test_the_empty_name_is_none(wire: Wire) -> None:
    nameless = await wire.ask(ShareGroupHeartbeatRequest(member_id="m", subscribed_topic_names=["t"]), 1)
    assert nameless.error_code == ErrorCode.INVALID_REQUEST
    for message in (AlterShareGroupOffsetsRequest(), DeleteShareGroupOffsetsRequest()):
        assert (await wire.ask(message, 0)).error_code == ErrorCode.INVALID_GROUP_ID
