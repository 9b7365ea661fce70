"""ListOffsets and OffsetForLeaderEpoch over a socket."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamkit.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from streamkit.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from tests.broker.server.wire import Wire, batch, connected, running, topic


async def ask(
    wire: Wire, timestamp: int, *, version: int = 11, partition: int = 0, current_leader_epoch: int = -1
) -> ListOffsetsPartitionResponse:
    wanted = ListOffsetsPartition(
        partition_index=partition, timestamp=timestamp, current_leader_epoch=current_leader_epoch
    )
    request = ListOffsetsRequest(replica_id=-1, topics=[ListOffsetsTopic(name="t", partitions=[wanted])])
    response = await wire.ask(request, version)
    one: ListOffsetsPartitionResponse = response.topics[0].partitions[0]
    return one


@pytest.mark.parametrize(
    ("timestamp", "offset", "found_timestamp"),
    [
        pytest.param(-1, 4, -1, id="latest"),
        pytest.param(-2, 0, -1, id="earliest"),
        pytest.param(-3, 1, 3_000, id="max timestamp"),
        pytest.param(-4, 0, -1, id="earliest local"),
        pytest.param(-5, -1, -1, id="latest tiered"),
        pytest.param(-6, -1, -1, id="earliest pending upload"),
        pytest.param(0, 0, 1_000, id="before the first"),
        pytest.param(1_001, 1, 3_000, id="between"),
        pytest.param(3_000, 1, 3_000, id="exactly"),
        pytest.param(3_001, -1, -1, id="after the last"),
    ],
)
async def test_an_offset_for_each_timestamp(
    tmp_path: Path, timestamp: int, offset: int, found_timestamp: int
) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker)
        for timestamp_ms in (1_000, 3_000, 2_000, 2_500):
            await wire.produce(batch(b"x", timestamp=timestamp_ms))
        found = await ask(wire, timestamp)
        assert (found.error_code, found.offset, found.timestamp) == (0, offset, found_timestamp)


@pytest.mark.parametrize("version", range(1, 12))
async def test_every_version_answers(tmp_path: Path, version: int) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker)
        await wire.produce(batch(b"x"))
        found = await ask(wire, -1, version=version)
        assert (found.error_code, found.offset) == (0, 1)


@pytest.mark.parametrize(("timestamp", "version"), [(-3, 6), (-4, 7), (-5, 8), (-6, 10), (-7, 11)], ids=str)
async def test_a_special_timestamp_of_a_later_version_is_refused(
    tmp_path: Path, timestamp: int, version: int
) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker)
        assert (await ask(wire, timestamp, version=version)).error_code == 35


async def test_an_empty_partition_has_no_max_timestamp(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker)
        assert [(await ask(wire, one)).offset for one in (-1, -2, -3)] == [0, 0, -1]


async def test_unknown_partitions_and_epochs(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker)
        assert (await ask(wire, -1, partition=3)).error_code == 3
        assert (await ask(wire, -1, current_leader_epoch=9)).error_code == 75


async def test_a_partition_named_twice_is_refused_once(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker)
        twice = ListOffsetsTopic(name="t", partitions=[ListOffsetsPartition(timestamp=-1)] * 2)
        response = await wire.ask(ListOffsetsRequest(replica_id=-1, topics=[twice]), 7)
        assert [one.error_code for one in response.topics[0].partitions] == [42]


async def test_where_an_epoch_ended(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker)
        await wire.produce(batch(b"a", b"b"))
        actor = broker.partitions.get("t", 0)
        assert actor is not None
        first = actor.leader.leader_epoch
        actor.leader.leader_epoch = first + 3
        await wire.produce(batch(b"c"))

        async def end_of(epoch: int, current: int = -1) -> tuple[int, int, int]:
            wanted = OffsetForLeaderPartition(partition=0, leader_epoch=epoch, current_leader_epoch=current)
            request = OffsetForLeaderEpochRequest(
                topics=[OffsetForLeaderTopic(topic="t", partitions=[wanted])]
            )
            one = (await wire.ask(request, 4)).topics[0].partitions[0]
            return one.error_code, one.leader_epoch, one.end_offset

        assert await end_of(first) == (0, first, 2)
        assert await end_of(first + 2) == (0, first, 2)
        assert await end_of(first + 3) == (0, first + 3, 3)
        assert await end_of(first + 4) == (0, -1, -1)
        assert await end_of(first, current=first) == (74, -1, -1)
        assert await end_of(first, current=first + 9) == (75, -1, -1)
