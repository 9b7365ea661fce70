"""ConsumerGroupHeartbeat and ConsumerGroupDescribe on the wire, in every version, and what goes with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamkit.broker.server.node import Broker
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from streamkit.protocol.messages.consumer_group_describe import (
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
)
from streamkit.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)
from streamkit.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchResponse,
)
from tests.broker.server.coordinators.test_group_gauges import scrape
from tests.broker.server.wire import Wire, connected, running, topic

JOIN = ConsumerGroupHeartbeatRequest(
    group_id="g",
    member_id="m",
    rebalance_timeout_ms=60_000,
    subscribed_topic_names=["t"],
    topic_partitions=[],
)


async def join(wire: Wire, version: int = 1) -> ConsumerGroupHeartbeatResponse:
    answer = await wire.ask(JOIN, version)
    assert isinstance(answer, ConsumerGroupHeartbeatResponse)
    return answer


async def described(wire: Wire, version: int = 1, group: str = "g") -> ConsumerGroupDescribeResponse:
    request = ConsumerGroupDescribeRequest(group_ids=[group], include_authorized_operations=True)
    answer = await wire.ask(request, version)
    assert isinstance(answer, ConsumerGroupDescribeResponse)
    return answer


async def with_a_group(broker: Broker) -> None:
    await topic(broker, "t")
    await broker.groups.find("g")


@pytest.mark.parametrize("version", [0, 1])
async def test_a_member_joins_and_is_described(tmp_path: Path, version: int) -> None:
    async with running(tmp_path / "data", offsets_topic_num_partitions="1") as broker:
        await with_a_group(broker)
        async with connected(broker) as wire:
            joined = await join(wire, version)
            assert (joined.error_code, joined.member_id, joined.member_epoch) == (ErrorCode.NONE, "m", 1)
            assert joined.heartbeat_interval_ms == 5000 and joined.assignment is not None
            (given,) = joined.assignment.topic_partitions
            assert given.topic_id == broker.metadata.topics["t"].topic_id
            (group,) = (await described(wire, version)).groups
            assert (group.group_state, group.group_epoch, group.assignor_name) == ("Stable", 1, "uniform")
            (member,) = group.members
            assert member.member_type == (1 if version >= 1 else -1)
            assert member.assignment.topic_partitions[0].topic_name == "t"
            assert group.authorized_operations > 0
            (missing,) = (await described(wire, version, "none")).groups
            assert missing.error_code == ErrorCode.GROUP_ID_NOT_FOUND
            (nameless,) = (await described(wire, version, "")).groups
            assert nameless.error_code == ErrorCode.INVALID_GROUP_ID


async def test_a_group_that_the_broker_does_not_coordinate(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as broker, connected(broker) as wire:
        assert (await join(wire)).error_code == ErrorCode.NOT_COORDINATOR
        (group,) = (await described(wire)).groups
        assert group.error_code == ErrorCode.NOT_COORDINATOR


async def test_not_before_the_cluster_says_so(tmp_path: Path) -> None:
    async with running(tmp_path / "data", offsets_topic_num_partitions="1") as broker:
        await with_a_group(broker)
        broker.metadata.features.pop("group.version")
        async with connected(broker) as wire:
            assert (await join(wire)).error_code == ErrorCode.UNSUPPORTED_VERSION
            (group,) = (await described(wire)).groups
            assert group.error_code == ErrorCode.UNSUPPORTED_VERSION


@pytest.mark.parametrize("version", [3, 4])
async def test_features_are_told_to_those_who_understand_them(tmp_path: Path, version: int) -> None:
    async with running(tmp_path / "data") as broker, connected(broker) as wire:
        request = ApiVersionsRequest(client_software_name="test", client_software_version="1")
        answer = await wire.ask(request, version)
        assert isinstance(answer, ApiVersionsResponse)
        finalized = {one.name: one.max_version_level for one in answer.finalized_features}
        assert finalized.get("group.version") == (1 if version >= 4 else None)
        supported = {one.name: (one.min_version, one.max_version) for one in answer.supported_features}
        assert supported.get("group.version") == ((0, 1) if version >= 4 else None)
        assert (answer.finalized_features_epoch >= 0) == (version >= 4)


async def test_offsets_are_read_in_the_members_epoch(tmp_path: Path) -> None:
    async with running(tmp_path / "data", offsets_topic_num_partitions="1") as broker:
        await with_a_group(broker)
        async with connected(broker) as wire:
            await join(wire)
            for epoch, code in ((1, ErrorCode.NONE), (2, ErrorCode.STALE_MEMBER_EPOCH)):
                wanted = OffsetFetchRequestGroup(group_id="g", member_id="m", member_epoch=epoch, topics=None)
                answer = await wire.ask(OffsetFetchRequest(groups=[wanted]), 9)
                assert isinstance(answer, OffsetFetchResponse)
                assert answer.groups[0].error_code == code


async def test_members_and_state_are_measured(tmp_path: Path) -> None:
    async with running(tmp_path / "data", offsets_topic_num_partitions="1") as broker:
        await with_a_group(broker)
        async with connected(broker) as wire:
            await join(wire)
            measured = scrape(broker)
            assert measured["group_members", "g"] == 1
            assert measured["group_state", "g", "Stable"] == 1
