"""ShareFetch and ShareAcknowledge over a socket, before any group's coordinator: states are begun by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from streamkit.broker.controller.image import MetadataChanges
from streamkit.broker.controller.records import PartitionRecord, RemoveTopicRecord, TopicRecord
from streamkit.broker.coordination.share.share_partition import AcknowledgeType
from streamkit.broker.server.node import Broker
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages import (
    initialize_share_group_state,
    read_share_group_state,
    share_acknowledge,
    share_fetch,
)
from streamkit.protocol.messages.share_acknowledge import ShareAcknowledgeRequest, ShareAcknowledgeResponse
from streamkit.protocol.messages.share_fetch import PartitionData, ShareFetchRequest, ShareFetchResponse
from streamkit.telemetry.instruments import Counter
from tests.broker.server.wire import Wire, batch, connected, records_in, running, topic

ACCEPT, RELEASE, REJECT, RENEW = (
    [AcknowledgeType.ACCEPT],
    [AcknowledgeType.RELEASE],
    [AcknowledgeType.REJECT],
    [AcknowledgeType.RENEW],
)
FAST_LOCKS = {
    "group_share_min_record_lock_duration_ms": "1000",
    "group_share_record_lock_duration_ms": "1000",
}


class Member:
    """One member of group "g", at one connection."""

    def __init__(self, wire: Wire, topic_id: bytes, name: str) -> None:
        self.wire = wire
        self.topic_id = topic_id
        self.name = name
        self.epoch = 0

    async def fetch(
        self,
        *answers: tuple[int, int, list[AcknowledgeType]],
        epoch: int | None = None,
        partition: int = 0,
        version: int = 2,
        **fields: Any,
    ) -> ShareFetchResponse:
        asked = self.epoch if epoch is None else epoch
        one = share_fetch.FetchPartition(
            partition_index=partition,
            acknowledgement_batches=[
                share_fetch.AcknowledgementBatch(
                    first_offset=first, last_offset=last, acknowledge_types=types
                )
                for first, last, types in answers
            ],
        )
        values: dict[str, Any] = {
            "max_wait_ms": 200,
            "min_bytes": 1,
            "max_bytes": 1 << 20,
            "max_records": 500,
            "batch_size": 500,
            **fields,
        }
        request = ShareFetchRequest(
            group_id="g",
            member_id=self.name,
            share_session_epoch=asked,
            topics=[share_fetch.FetchTopic(topic_id=self.topic_id, partitions=[one])],
            **values,
        )
        response = await self.wire.ask(request, version)
        assert isinstance(response, ShareFetchResponse)
        if not response.error_code and asked >= 0:
            self.epoch = asked + 1
        return response

    async def acquired(self, **fields: Any) -> list[tuple[int, int, int]]:
        """(first, last, delivery count) of what a fetch brings."""
        return acquired(await self.fetch(**fields))

    async def answer(
        self,
        first: int,
        last: int,
        types: list[AcknowledgeType],
        *,
        epoch: int | None = None,
        version: int = 2,
    ) -> ShareAcknowledgeResponse:
        asked = self.epoch if epoch is None else epoch
        one = share_acknowledge.AcknowledgePartition(
            partition_index=0,
            acknowledgement_batches=[
                share_acknowledge.AcknowledgementBatch(
                    first_offset=first, last_offset=last, acknowledge_types=types
                )
            ],
        )
        request = ShareAcknowledgeRequest(
            group_id="g",
            member_id=self.name,
            share_session_epoch=asked,
            is_renew_ack=AcknowledgeType.RENEW in types,
            topics=[share_acknowledge.AcknowledgeTopic(topic_id=self.topic_id, partitions=[one])],
        )
        response = await self.wire.ask(request, version)
        assert isinstance(response, ShareAcknowledgeResponse)
        if not response.error_code and asked >= 0:
            self.epoch = asked + 1
        return response


def acquired(response: ShareFetchResponse) -> list[tuple[int, int, int]]:
    assert response.error_code == ErrorCode.NONE, response
    return [
        (one.first_offset, one.last_offset, one.delivery_count)
        for each in response.responses
        for partition in each.partitions
        for one in partition.acquired_records
    ]


def only(response: ShareFetchResponse) -> PartitionData:
    ((one,),) = [each.partitions for each in response.responses]
    return one


def code(response: ShareAcknowledgeResponse) -> int:
    assert response.error_code == ErrorCode.NONE, response
    ((one,),) = [each.partitions for each in response.responses]
    return one.error_code


async def begin(wire: Wire, topic_id: bytes, *, start: int = 0, epoch: int = 0) -> None:
    one = initialize_share_group_state.PartitionData(partition=0, state_epoch=epoch, start_offset=start)
    request = initialize_share_group_state.InitializeShareGroupStateRequest(
        group_id="g",
        topics=[initialize_share_group_state.InitializeStateData(topic_id=topic_id, partitions=[one])],
    )
    async with asyncio.timeout(10):
        while True:
            response = await wire.ask(request, 0)
            error = response.results[0].partitions[0].error_code
            if error == ErrorCode.NONE:
                return
            assert error in (ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS), error


@asynccontextmanager
async def queue(
    path: Path, *, members: int = 2, start: int = 0, **properties: str
) -> AsyncIterator[tuple[Broker, Wire, list[Member]]]:
    """A broker with topic "t", of which group "g" begins at `start`, and members with connections."""
    settings = {"share_coordinator_state_topic_num_partitions": "1", **properties}
    async with running(path, **settings) as broker, connected(broker) as wire:
        known = broker.metadata.topics.get("t")
        topic_id = known.topic_id if known is not None else await topic(broker)
        await broker.share_states.find("g:AAAAAAAAAAAAAAAAAAAAAA:0")
        if known is None:
            await begin(wire, topic_id, start=start)
        async with AsyncExitStack() as open_wires:
            wires = [await open_wires.enter_async_context(connected(broker)) for _ in range(members)]
            yield broker, wire, [Member(one, topic_id, f"m{place}") for place, one in enumerate(wires)]


async def test_two_members_get_different_records_and_accept_them_one_by_one(tmp_path: Path) -> None:
    async with queue(tmp_path) as (_, wire, (one, two)):
        await wire.produce(batch(b"a", b"b"))
        await wire.produce(batch(b"c"))
        response = await one.fetch(max_records=2)
        assert acquired(response) == [(0, 1, 1)]
        assert [record.value for record in records_in(only(response).records)] == [b"a", b"b"]
        assert await two.acquired() == [(2, 2, 1)]
        assert code(await one.answer(1, 1, ACCEPT)) == ErrorCode.NONE
        assert code(await one.answer(0, 0, ACCEPT)) == ErrorCode.NONE
        assert acquired(await two.fetch((2, 2, ACCEPT))) == []
        assert await one.acquired() == []


async def test_what_is_released_is_delivered_again_to_whoever_waits(tmp_path: Path) -> None:
    async with queue(tmp_path) as (_, wire, (one, two)):
        await wire.produce(batch(b"a"))
        assert await one.acquired() == [(0, 0, 1)]
        waiting = asyncio.ensure_future(two.acquired(max_wait_ms=60_000))
        assert code(await one.answer(0, 0, RELEASE)) == ErrorCode.NONE
        assert await waiting == [(0, 0, 2)]


async def test_a_fetch_waits_for_records(tmp_path: Path) -> None:
    async with queue(tmp_path) as (_, wire, (one, _)):
        waiting = asyncio.ensure_future(one.acquired(max_wait_ms=60_000))
        await wire.produce(batch(b"a"))
        assert await waiting == [(0, 0, 1)]


async def test_a_topic_made_again_is_not_served_from_the_log_of_the_one_before(tmp_path: Path) -> None:
    """The image is ahead of the partitions for as long as these are deleted and opened."""
    async with queue(tmp_path) as (broker, wire, (one, _)):
        await wire.produce(batch(b"of the first"))
        image, again = broker.metadata, b"again" * 3 + b"!"
        for record in (
            RemoveTopicRecord(topic_id=one.topic_id),
            TopicRecord(name="t", topic_id=again),
            PartitionRecord(partition_id=0, topic_id=again, replicas=[1], leader=1, leader_epoch=0, isr=[1]),
        ):
            image.replay(record, image.offset + 1, MetadataChanges())
        await begin(wire, again)
        one.topic_id = again
        response = await one.fetch()
        assert only(response).error_code == ErrorCode.UNKNOWN_TOPIC_ID
        assert acquired(response) == []


async def test_a_lock_that_runs_out_delivers_again(tmp_path: Path) -> None:
    async with queue(tmp_path, **FAST_LOCKS) as (_, wire, (one, two)):
        await wire.produce(batch(b"a"))
        assert (await one.fetch()).acquisition_lock_timeout_ms == 1000
        assert await two.acquired(max_wait_ms=60_000) == [(0, 0, 2)]
        assert code(await one.answer(0, 0, ACCEPT)) == ErrorCode.INVALID_RECORD_STATE


async def test_a_session_that_is_closed_gives_back_what_it_held(tmp_path: Path) -> None:
    async with queue(tmp_path) as (_, wire, (one, two)):
        await wire.produce(batch(b"a", b"b"))
        await one.fetch()
        assert acquired(await one.fetch((0, 0, ACCEPT), epoch=-1)) == []
        assert await two.acquired() == [(1, 1, 1)]
        assert (await one.fetch(epoch=5)).error_code == ErrorCode.SHARE_SESSION_NOT_FOUND


async def test_a_connection_that_is_lost_gives_back_what_its_member_held(tmp_path: Path) -> None:
    async with queue(tmp_path) as (_, wire, (one, two)):
        await wire.produce(batch(b"a"))
        await one.fetch()
        waiting = asyncio.ensure_future(two.acquired(max_wait_ms=60_000))
        one.wire.writer.close()
        assert await waiting == [(0, 0, 1)]


@pytest.mark.parametrize("closes_its_session", [True, False])
async def test_what_was_accepted_is_not_delivered_again_after_a_restart(
    tmp_path: Path, closes_its_session: bool
) -> None:
    async with queue(tmp_path) as (_, wire, (one, _)):
        for value in (b"a", b"b", b"c", b"d"):
            await wire.produce(batch(value))
        await one.fetch()
        assert code(await one.answer(0, 1, ACCEPT)) == ErrorCode.NONE
        assert code(await one.answer(3, 3, ACCEPT)) == ErrorCode.NONE
        if closes_its_session:
            await one.fetch(epoch=-1)
    async with queue(tmp_path) as (_, wire, (one, _)):
        assert await one.acquired() == [(2, 2, 1)]


async def test_epochs_of_a_session_follow_one_another(tmp_path: Path) -> None:
    async with queue(tmp_path) as (_broker, _wire, (one, _)):
        assert (await one.answer(0, 0, ACCEPT, epoch=0)).error_code == ErrorCode.INVALID_SHARE_SESSION_EPOCH
        assert (await one.answer(0, 0, ACCEPT, epoch=1)).error_code == ErrorCode.SHARE_SESSION_NOT_FOUND
        assert (await one.fetch((0, 0, ACCEPT), epoch=0)).error_code == ErrorCode.INVALID_REQUEST
        await one.fetch(max_wait_ms=0)
        assert (await one.fetch(epoch=2)).error_code == ErrorCode.INVALID_SHARE_SESSION_EPOCH
        assert (await one.fetch(epoch=1, max_wait_ms=0)).error_code == ErrorCode.NONE


async def test_what_makes_no_sense_is_refused_share_partition_by_share_partition(tmp_path: Path) -> None:
    async with queue(tmp_path) as (_, wire, (one, _)):
        await wire.produce(batch(b"a"))
        await one.fetch()
        assert code(await one.answer(0, 7, ACCEPT)) == ErrorCode.INVALID_REQUEST
        assert code(await one.answer(1, 0, ACCEPT)) == ErrorCode.INVALID_REQUEST
        assert code(await one.answer(0, 0, [*ACCEPT, *ACCEPT])) == ErrorCode.INVALID_REQUEST
        one.topic_id = b"?" * 16
        assert code(await one.answer(0, 0, ACCEPT)) == ErrorCode.UNKNOWN_TOPIC_ID
        assert only(await one.fetch()).error_code == ErrorCode.UNKNOWN_TOPIC_ID


async def test_a_renewed_lock_holds(tmp_path: Path) -> None:
    async with queue(tmp_path, **FAST_LOCKS) as (_, wire, (one, two)):
        await wire.produce(batch(b"a"))
        await one.fetch()
        waiting = asyncio.ensure_future(two.acquired(max_wait_ms=60_000))
        for _ in range(3):
            await asyncio.wait([waiting], timeout=0.5)
            assert code(await one.answer(0, 0, RENEW)) == ErrorCode.NONE
        assert not waiting.done()
        assert (await one.fetch(is_renew_ack=True)).error_code == ErrorCode.INVALID_REQUEST
        assert code(await one.answer(0, 0, RELEASE)) == ErrorCode.NONE
        assert await waiting == [(0, 0, 2)]


async def test_a_record_limit_is_kept_exactly(tmp_path: Path) -> None:
    async with queue(tmp_path) as (_, wire, (one, two)):
        await wire.produce(batch(b"a", b"b", b"c"))
        assert await one.acquired(max_records=2, share_acquire_mode=1) == [(0, 1, 1)]
        assert await two.acquired(max_records=2, share_acquire_mode=1) == [(2, 2, 1)]


async def test_version_1_is_served(tmp_path: Path) -> None:
    async with queue(tmp_path) as (_, wire, (one, _)):
        await wire.produce(batch(b"a"))
        assert await one.acquired(version=1) == [(0, 0, 1)]
        assert code(await one.answer(0, 0, REJECT, version=1)) == ErrorCode.NONE


async def test_offsets_that_are_altered_end_what_is_in_flight(tmp_path: Path) -> None:
    async with queue(tmp_path) as (_, wire, (one, two)):
        await wire.produce(batch(b"a", b"b"))
        await one.fetch()
        await begin(wire, one.topic_id, start=1, epoch=1)
        assert code(await one.answer(0, 1, ACCEPT)) == ErrorCode.NOT_LEADER_OR_FOLLOWER
        assert await two.acquired() == [(1, 1, 1)]


async def test_what_a_group_never_began_cannot_be_fetched(tmp_path: Path) -> None:
    async with queue(tmp_path) as (broker, _, (one, _)):
        other = await topic(broker, "other")
        one.topic_id = other
        assert only(await one.fetch(max_wait_ms=60_000)).error_code == ErrorCode.UNKNOWN_SERVER_ERROR


async def test_the_beginning_of_who_wants_the_latest_outlasts_a_restart(tmp_path: Path) -> None:
    async with queue(tmp_path, start=-1) as (_, wire, (one, _)):
        await wire.produce(batch(b"before"))
        assert await one.acquired() == []
        await wire.produce(batch(b"after"))
    async with queue(tmp_path) as (_, wire, (one, _)):
        assert await one.acquired() == [(1, 1, 1)]


@pytest.mark.parametrize("group_id, member_id", [(None, "m"), ("g", ""), ("g", None)])
async def test_a_session_needs_a_group_and_a_member(
    tmp_path: Path, group_id: str | None, member_id: str | None
) -> None:
    async with queue(tmp_path, members=1) as (_, wire, _):
        request = ShareFetchRequest(group_id=group_id, member_id=member_id)
        assert (await wire.ask(request, 2)).error_code == ErrorCode.INVALID_REQUEST


async def test_a_group_without_a_name_has_no_states(tmp_path: Path) -> None:
    async with queue(tmp_path, members=1) as (_, wire, (one,)):
        asked = share_fetch.FetchTopic(
            topic_id=one.topic_id, partitions=[share_fetch.FetchPartition(partition_index=0)]
        )
        request = ShareFetchRequest(
            group_id="", member_id="m", max_wait_ms=60_000, max_bytes=1, max_records=1, topics=[asked]
        )
        assert only(await wire.ask(request, 2)).error_code == ErrorCode.UNKNOWN_SERVER_ERROR
        state = read_share_group_state.ReadStateData(
            topic_id=one.topic_id, partitions=[read_share_group_state.PartitionData()]
        )
        read = read_share_group_state.ReadShareGroupStateRequest(group_id="", topics=[state])
        assert (await wire.ask(read, 0)).results == []


async def test_there_are_no_more_sessions_than_configured(tmp_path: Path) -> None:
    async with queue(tmp_path, group_share_max_share_sessions="1") as (_, wire, (one, two)):
        await wire.produce(batch(b"a"))
        await one.fetch()
        assert (await two.fetch(max_wait_ms=1)).error_code == ErrorCode.SHARE_SESSION_LIMIT_REACHED
        await one.fetch(epoch=-1)
        assert await two.acquired() == [(0, 0, 1)]


async def test_the_log_of_states_is_pruned_behind_its_snapshots(tmp_path: Path) -> None:
    settings = {"share_coordinator_snapshot_update_records_per_snapshot": "2"}
    async with queue(tmp_path, **settings) as (broker, wire, (one, _)):
        for value in range(7):
            await wire.produce(batch(b"%d" % value))
            assert await one.acquired(max_wait_ms=60_000) == [(value, value, 1)]
            assert code(await one.answer(value, value, ACCEPT)) == ErrorCode.NONE
        broker.share_states.prune()
        log = broker.partitions.by_name["__share_group_state", 0].log
        assert log.log_end_offset - 3 <= log.log_start_offset < log.log_end_offset
        await wire.produce(batch(b"last"))
    async with queue(tmp_path, **settings) as (_, wire, (one, _)):
        assert await one.acquired() == [(7, 7, 1)]


async def test_what_was_done_is_counted(tmp_path: Path) -> None:
    async with queue(tmp_path) as (broker, wire, (one, _)):
        await wire.produce(batch(b"a", b"b", b"c"))
        await one.fetch()
        await one.answer(0, 2, [*ACCEPT, *ACCEPT, *REJECT])
        counted = {
            (family.name, labels): instrument.value
            for family in broker.metrics.families.values()
            if "share_records" in family.name
            for labels, instrument in family.children.items()
            if isinstance(instrument, Counter)
        }
        assert counted == {
            ("streamkit_share_records_acquired_total", ("g",)): 3,
            ("streamkit_share_records_acknowledged_total", ("g", "accept")): 2,
            ("streamkit_share_records_acknowledged_total", ("g", "reject")): 1,
        }
