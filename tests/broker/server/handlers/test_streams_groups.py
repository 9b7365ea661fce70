"""StreamsGroupHeartbeat and StreamsGroupDescribe on the wire, and the internal topics that a broker makes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from streamkit.broker.controller.image import ConfigResource, ResourceType
from streamkit.broker.server.node import Broker
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.streams_group_describe import (
    DescribedGroup,
    StreamsGroupDescribeRequest,
    StreamsGroupDescribeResponse,
)
from streamkit.protocol.messages.streams_group_heartbeat import (
    KeyValue,
    StreamsGroupHeartbeatRequest,
    StreamsGroupHeartbeatResponse,
    Subtopology,
    TopicInfo,
    Topology,
)
from tests.broker.server.wire import Wire, connected, running, topic

AT_ONCE = {
    "offsets_topic_num_partitions": "1",
    "group_streams_initial_rebalance_delay_ms": "0",
    "group_streams_assignment_interval_ms": "0",
}
MISSING_INTERNAL_TOPICS = 3


def counting(changelog: TopicInfo) -> Topology:
    return Topology(
        subtopologies=[
            Subtopology(subtopology_id="0", source_topics=["t"], state_changelog_topics=[changelog])
        ]
    )


CHANGELOG = TopicInfo(name="app-changelog", topic_configs=[KeyValue(key="cleanup.policy", value="compact")])


async def beat(wire: Wire, epoch: int, topology: Topology | None = None) -> StreamsGroupHeartbeatResponse:
    answer = await wire.ask(
        StreamsGroupHeartbeatRequest(
            group_id="g",
            member_id="m",
            member_epoch=epoch,
            topology=topology,
            rebalance_timeout_ms=60_000 if topology else -1,
            active_tasks=[],
            standby_tasks=[],
            warmup_tasks=[],
            process_id="p" if topology else None,
        ),
        0,
    )
    assert isinstance(answer, StreamsGroupHeartbeatResponse)
    return answer


async def described(wire: Wire, group: str = "g") -> DescribedGroup:
    request = StreamsGroupDescribeRequest(group_ids=[group], include_authorized_operations=True)
    answer = await wire.ask(request, 0)
    assert isinstance(answer, StreamsGroupDescribeResponse)
    return answer.groups[0]


async def with_a_group(broker: Broker) -> None:
    await topic(broker, "t")
    await broker.groups.find("g")


async def test_a_member_joins_the_broker_makes_its_topics_and_it_is_described(tmp_path: Path) -> None:
    async with running(tmp_path / "data", **AT_ONCE) as broker, connected(broker) as wire:
        await with_a_group(broker)
        joined = await beat(wire, 0, counting(CHANGELOG))
        assert (joined.error_code, joined.member_id, joined.active_tasks) == (ErrorCode.NONE, "m", [])
        assert [status.status_code for status in joined.status or ()] == [MISSING_INTERNAL_TOPICS]
        async with asyncio.timeout(10):
            while (answer := await beat(wire, joined.member_epoch)).status:
                await asyncio.sleep(0.01)
        assert answer.active_tasks and answer.active_tasks[0].partitions == [0]
        made = ConfigResource(ResourceType.TOPIC, "app-changelog")
        assert broker.metadata.config(made) == {"cleanup.policy": "compact"}
        group = await described(wire)
        assert (group.group_state, group.members[0].process_id) == ("Stable", "p")
        assert group.authorized_operations > 0


async def test_why_a_topic_cannot_be_made(tmp_path: Path) -> None:
    async with running(tmp_path / "data", **AT_ONCE) as broker, connected(broker) as wire:
        await with_a_group(broker)
        unmakeable = TopicInfo(name="app-changelog", replication_factor=3)
        answer = await beat(wire, 0, counting(unmakeable))
        async with asyncio.timeout(10):
            while "Creation failed: app-changelog" not in (answer.status or [])[-1].status_detail:
                await asyncio.sleep(0.01)
                answer = await beat(wire, answer.member_epoch)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("__consumer_offsets", "Kafka internal topics"), ("no/topic", "not valid topic names")],
)
async def test_topics_that_no_application_may_have(tmp_path: Path, name: str, reason: str) -> None:
    async with running(tmp_path / "data", **AT_ONCE) as broker, connected(broker) as wire:
        await with_a_group(broker)
        answer = await beat(wire, 0, counting(TopicInfo(name=name)))
        assert answer.error_code == ErrorCode.STREAMS_INVALID_TOPOLOGY
        assert reason in (answer.error_message or "")


async def test_refusals(tmp_path: Path) -> None:
    async with running(tmp_path / "data", **AT_ONCE) as broker, connected(broker) as wire:
        assert (await beat(wire, 0, counting(CHANGELOG))).error_code == ErrorCode.NOT_COORDINATOR
        await with_a_group(broker)
        assert (await described(wire, "none")).error_code == ErrorCode.GROUP_ID_NOT_FOUND
        assert (await described(wire, "")).error_code == ErrorCode.INVALID_GROUP_ID
        broker.metadata.features.pop("streams.version")
        assert (await beat(wire, 0, counting(CHANGELOG))).error_code == ErrorCode.UNSUPPORTED_VERSION
        assert (await described(wire)).error_code == ErrorCode.UNSUPPORTED_VERSION
