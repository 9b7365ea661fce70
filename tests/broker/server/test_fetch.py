"""Fetch over a socket: PROTOCOL's traps 27–32."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from streamkit.broker.server.handlers.fetch import PendingFetch, Read
from streamkit.broker.server.node import Broker
from streamkit.protocol.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    ForgottenTopic,
    PartitionData,
)
from streamkit.protocol.records.batch import batches
from tests.broker.server.wire import Wire, batch, connected, records_in, running, topic


def part(partition: int = 0, offset: int = 0, max_bytes: int = 1 << 20, **fields: Any) -> FetchPartition:
    return FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=max_bytes, **fields)


def only(response: FetchResponse) -> PartitionData:
    ((one,),) = [topic.partitions for topic in response.responses]
    return one


async def is_parked(broker: Broker, topic: str = "t", partition: int = 0) -> None:
    """Wait until some fetch waits for this partition."""
    actor = broker.partitions.get(topic, partition)
    assert actor is not None
    async with asyncio.timeout(10):
        while not actor._readers:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("version", range(4, 19))
async def test_every_version_reads(tmp_path: Path, version: int) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        topic_id = await topic(broker)
        await wire.produce(batch(b"a", b"b"))
        request = FetchRequest(topics=[FetchTopic(topic="t", topic_id=topic_id, partitions=[part()])])
        response = await wire.ask(request, version)
        one = only(response)
        assert [record.value for record in records_in(one.records)] == [b"a", b"b"]
        assert (one.high_watermark, one.last_stable_offset) == (2, 2)
        assert response.responses[0].topic_id == (topic_id if version >= 13 else bytes(16))


async def test_trap_27_a_fetch_waits_for_min_bytes(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as reader, connected(broker) as writer:
        await topic(broker)
        size = len(batch(b"x" * 100))
        waiting = asyncio.ensure_future(
            reader.fetch(part(), max_wait_ms=60_000, min_bytes=3 * size, max_bytes=1 << 20)
        )
        await is_parked(broker)
        for _ in range(2):
            await writer.produce(batch(b"x" * 100))
        assert not waiting.done()
        await writer.produce(batch(b"x" * 100))
        assert len(only(await waiting).records) == 3 * size


async def test_trap_27_max_wait_ends_a_fetch_with_what_there_is(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker)
        await wire.produce(batch(b"x"))
        response = await wire.fetch(part(), max_wait_ms=30, min_bytes=10_000)
        assert [record.value for record in records_in(only(response).records)] == [b"x"]
        assert only(await wire.fetch(part(offset=1), max_wait_ms=30, min_bytes=1)).records == b""
        actor = broker.partitions.get("t", 0)
        assert actor is not None and not actor._readers


@pytest.mark.parametrize(("written", "looks"), [(False, 1), (True, 2)])
async def test_a_fetch_that_nothing_happened_to_looks_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool, looks: int
) -> None:
    """With a thousand idle partitions each look costs; whoever waits is told when there is something."""
    looked: list[PendingFetch] = []
    look = PendingFetch._look

    def counted(self: PendingFetch) -> list[Read]:
        looked.append(self)
        return look(self)

    monkeypatch.setattr(PendingFetch, "_look", counted)
    async with running(tmp_path) as broker, connected(broker) as reader, connected(broker) as writer:
        await topic(broker)
        waiting = asyncio.ensure_future(reader.fetch(part(), max_wait_ms=300, min_bytes=10_000))
        await is_parked(broker)
        if written:
            await writer.produce(batch(b"x"))
        one = only(await waiting)
        assert (one.error_code, one.high_watermark, len(looked)) == (0, int(written), looks)


async def test_trap_27_an_error_answers_at_once(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker)
        response = await wire.fetch(part(), part(partition=7), max_wait_ms=60_000, min_bytes=1)
        assert [one.error_code for one in response.responses[0].partitions] == [0, 3]


async def test_a_parked_fetch_ends_when_its_topic_is_deleted(tmp_path: Path) -> None:
    from streamkit.protocol.messages.delete_topics import DeleteTopicsRequest

    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker)
        waiting = asyncio.ensure_future(wire.fetch(part(), max_wait_ms=60_000, min_bytes=1))
        await is_parked(broker)
        request = DeleteTopicsRequest(topic_names=["t"])
        await broker.controller.submit(lambda controller: controller.delete_topics(request))
        assert only(await waiting).error_code == 3


async def test_a_client_that_leaves_takes_its_parked_fetch_along(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        await topic(broker)
        async with connected(broker) as wire:
            wire.send(
                FetchRequest(
                    max_wait_ms=60_000, min_bytes=1, topics=[FetchTopic(topic="t", partitions=[part()])]
                ),
                12,
            )
            await is_parked(broker)
        actor = broker.partitions.get("t", 0)
        assert actor is not None
        async with asyncio.timeout(10):
            while actor._readers:
                await asyncio.sleep(0.001)


async def test_trap_28_the_first_batch_is_returned_whole_however_large(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker, partitions=2)
        for partition in (0, 1):
            for _ in range(3):
                await wire.produce(batch(b"x" * 1000), partition=partition)
        response = await wire.fetch(part(0, max_bytes=1), part(1, max_bytes=1), max_bytes=1)
        sizes = [len(one.records) for one in response.responses[0].partitions]
        assert sizes == [len(batch(b"x" * 1000)), 0]


async def test_max_bytes_bound_each_partition_and_the_response(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker, partitions=3)
        size = len(batch(b"x" * 1000))
        for partition in range(3):
            for _ in range(4):
                await wire.produce(batch(b"x" * 1000), partition=partition)
        parts = [part(n, max_bytes=2 * size) for n in range(3)]
        response = await wire.fetch(*parts, max_bytes=3 * size)
        assert [len(one.records) for one in response.responses[0].partitions] == [2 * size, size, 0]


async def test_trap_29_a_fetch_starts_at_the_batch_that_contains_its_offset(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker)
        await wire.produce(batch(b"a", b"b", b"c"))
        await wire.produce(batch(b"d"))
        response = await wire.fetch(part(offset=2))
        assert [header.base_offset for header, _ in batches(only(response).records)] == [0, 3]


async def test_trap_30_consumers_end_at_the_high_watermark(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker)
        await wire.produce(batch(b"a"))
        for isolation_level, aborted in ((0, None), (1, [])):
            one = only(await wire.fetch(part(), isolation_level=isolation_level))
            assert (one.high_watermark, one.last_stable_offset, one.aborted_transactions) == (1, 1, aborted)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        pytest.param({"offset": 3}, 1, id="trap 32 beyond the end"),
        pytest.param({"offset": -1}, 1, id="trap 32 before the start"),
        pytest.param({"offset": 2}, 0, id="trap 32 at the end"),
        pytest.param({"current_leader_epoch": 99}, 75, id="trap 32 an epoch to come"),
        pytest.param({"current_leader_epoch": -2}, 0, id="no epoch at all"),
        pytest.param({"last_fetched_epoch": 99}, 1, id="records of an epoch to come"),
        pytest.param({"last_fetched_epoch": -2}, 0, id="records of no epoch at all"),
        pytest.param({"partition": 5}, 3, id="no such partition"),
    ],
)
async def test_what_a_partition_cannot_answer(tmp_path: Path, fields: dict[str, int], code: int) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker)
        await wire.produce(batch(b"a", b"b"))
        one = only(await wire.fetch(part(**fields)))
        assert one.error_code == code
        assert one.high_watermark == (-1 if code else 2)


async def test_trap_32_an_old_leader_epoch_is_fenced_and_told_the_new_one(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker)
        actor = broker.partitions.get("t", 0)
        assert actor is not None
        actor.leader.leader_epoch = 5
        assert only(await wire.fetch(part(current_leader_epoch=4))).error_code == 74
        assert only(await wire.fetch(part(current_leader_epoch=5))).error_code == 0


async def test_an_unknown_topic_id_is_error_100(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        request = FetchRequest(topics=[FetchTopic(topic_id=b"y" * 16, partitions=[part()])])
        assert only(await wire.ask(request, 13)).error_code == 100


async def test_a_fetch_sees_what_was_sent_before_it_on_its_connection(tmp_path: Path) -> None:
    from streamkit.protocol.messages.produce import ProduceResponse
    from tests.broker.server.wire import produce_request

    async with running(tmp_path, streamkit_flush_mode="relaxed") as broker, connected(broker) as wire:
        await topic(broker)
        for n in range(50):
            wire.send(produce_request(batch(b"%d" % n)), 9)
            wire.send(FetchRequest(topics=[FetchTopic(topic="t", partitions=[part(offset=n)])]), 12)
            await wire.receive(ProduceResponse, 9)
            _, response = await wire.receive(FetchResponse, 12)
            assert [record.value for record in records_in(only(response).records)] == [b"%d" % n]


class Session:
    """A consumer with an incremental fetch session on topic `t`."""

    def __init__(self, wire: Wire, version: int = 12, topic_id: bytes = bytes(16)) -> None:
        self.wire, self.version, self.topic_id = wire, version, topic_id
        self.id, self.epoch = 0, 0

    async def fetch(self, *parts: FetchPartition, forget: list[int] | None = None) -> FetchResponse:
        named = {"topic": "t", "topic_id": self.topic_id}
        request = FetchRequest(
            session_id=self.id,
            session_epoch=self.epoch,
            topics=[FetchTopic(partitions=list(parts), **named)] if parts else [],
            forgotten_topics_data=[ForgottenTopic(partitions=forget, **named)] if forget else [],
        )
        response: FetchResponse = await self.wire.ask(request, self.version)
        if not response.error_code:
            self.id, self.epoch = response.session_id, self.epoch + 1
        return response


def partitions_of(response: FetchResponse) -> list[int]:
    return [one.partition_index for topic in response.responses for one in topic.partitions]


async def test_trap_31_a_session_answers_only_what_is_new(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire, connected(broker) as writer:
        await topic(broker, partitions=4)
        session = Session(wire)
        first = await session.fetch(*(part(n) for n in range(3)))
        assert first.session_id > 0
        assert partitions_of(first) == [0, 1, 2]
        assert partitions_of(await session.fetch()) == []
        await writer.produce(batch(b"x"), partition=1)
        assert partitions_of(await session.fetch()) == [1]
        assert partitions_of(await session.fetch(part(1, offset=1))) == []
        assert partitions_of(await session.fetch(part(3))) == [3]
        await writer.produce(batch(b"x"), partition=2)
        assert partitions_of(await session.fetch(forget=[2])) == []
        assert partitions_of(await session.fetch(part(1, offset=99))) == [1]
        assert partitions_of(await session.fetch()) == [1], "an error is told every time"


async def test_trap_31_partitions_that_gave_records_go_to_the_end(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker, partitions=3)
        for n in range(3):
            await wire.produce(batch(b"x"), partition=n)
        session = Session(wire)
        request = FetchRequest(
            session_epoch=0,
            max_bytes=1,
            topics=[FetchTopic(topic="t", partitions=[part(n) for n in range(3)])],
        )
        response = await wire.ask(request, 12)
        session.id, order = response.session_id, []
        for epoch in range(1, 4):
            order += [one.partition_index for one in response.responses[0].partitions if one.records]
            request = FetchRequest(session_id=session.id, session_epoch=epoch, max_bytes=1)
            response = await wire.ask(request, 12)
        assert order == [0, 1, 2], "each gets its turn although the first has records all the time"


async def test_a_session_may_begin_without_partitions(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker)
        session = Session(wire)
        assert (await session.fetch()).session_id > 0
        assert partitions_of(await session.fetch(part())) == [0]


async def test_trap_31_errors_of_sessions(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        topic_id = await topic(broker)
        session = Session(wire, topic_id=topic_id)
        await session.fetch(part())
        session.epoch = 7
        assert (await session.fetch()).error_code == 71
        session.epoch, session.version = 1, 13
        assert (await session.fetch()).error_code == 106
        session.version, known = 12, session.id
        session.id = known + 1
        assert (await session.fetch()).error_code == 70
        session.id, session.epoch = known, -1
        closed = await session.fetch(part())
        assert (closed.error_code, closed.session_id, partitions_of(closed)) == (0, 0, [0])
        session.id, session.epoch = known, 1
        assert (await session.fetch()).error_code == 70


async def test_trap_31_without_room_for_a_session_every_fetch_is_full(tmp_path: Path) -> None:
    async with (
        running(tmp_path, max_incremental_fetch_session_cache_slots="1") as broker,
        connected(broker) as wire,
    ):
        await topic(broker)
        assert (await Session(wire).fetch(part())).session_id > 0
        assert (await Session(wire).fetch(part())).session_id == 0
