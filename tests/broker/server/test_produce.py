"""Produce over a socket: PROTOCOL's traps 12–19, and what several partitions make of one request."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from streamkit.broker.storage.partition_log import PartitionLog
from streamkit.protocol.messages.api_versions import ApiVersionsRequest
from streamkit.protocol.messages.fetch import FetchPartition
from streamkit.protocol.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from streamkit.protocol.records.batch import parse_header
from streamkit.protocol.records.compression import Codec
from tests.broker.server.wire import batch, connected, produce_request, running, topic

SOFTWARE = ApiVersionsRequest(client_software_name="test", client_software_version="1.0")


@pytest.mark.parametrize("acks", [0, 1, -1])
@pytest.mark.parametrize("flush_mode", ["durable", "relaxed"])
async def test_what_is_produced_can_be_fetched(tmp_path: Path, acks: int, flush_mode: str) -> None:
    async with running(tmp_path, streamkit_flush_mode=flush_mode) as broker, connected(broker) as wire:
        await topic(broker)
        if acks == 0:
            wire.send(produce_request(batch(b"a", b"b"), acks=0), 9)
        else:
            result = await wire.produce(batch(b"a", b"b"), acks=acks)
            assert (result.error_code, result.base_offset, result.log_start_offset) == (0, 0, 0)
        while await wire.values() != [b"a", b"b"]:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("version", range(3, 14))
async def test_every_version_appends(tmp_path: Path, version: int) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        topic_id = await topic(broker)
        request = ProduceRequest(
            acks=1,
            topic_data=[
                TopicProduceData(
                    name="t",
                    topic_id=topic_id,
                    partition_data=[PartitionProduceData(index=0, records=batch(b"v"))],
                )
            ],
        )
        response = await wire.ask(request, version)
        (one,) = response.responses
        assert (one.topic_id if version >= 13 else one.name) == (topic_id if version >= 13 else "t")
        assert (one.partition_responses[0].error_code, one.partition_responses[0].base_offset) == (0, 0)


async def test_trap_12_acks_0_is_not_answered(tmp_path: Path) -> None:
    async with running(tmp_path, streamkit_flush_mode="relaxed") as broker, connected(broker) as wire:
        await topic(broker)
        wire.send(produce_request(batch(b"silent"), acks=0), 9)
        assert (await wire.ask(SOFTWARE, 3)).error_code == 0
        assert await wire.values() == [b"silent"]


async def test_trap_12_an_error_with_acks_0_closes_the_connection(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        wire.send(produce_request(batch(b"x"), topic="nowhere", acks=0), 9)
        assert await wire.is_closed()


async def test_an_unknown_number_of_acks_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker)
        assert (await wire.produce(batch(b"x"), acks=2)).error_code == 21
        assert await wire.values() == []


BAD_MAGIC = bytearray(batch(b"x"))
BAD_MAGIC[16] = 1
FUTURE_MAGIC = BAD_MAGIC[:16] + b"\3" + BAD_MAGIC[17:]
TRANSACTIONAL = batch(b"x", producer_id=1, producer_epoch=0, base_sequence=0, transactional=True)


@pytest.mark.parametrize(
    ("data", "version", "code"),
    [
        pytest.param(None, 9, 87, id="trap 13 no batch"),
        pytest.param(b"", 9, 87, id="trap 13 an empty batch"),
        pytest.param(batch(b"a") + batch(b"b"), 9, 87, id="trap 13 two batches"),
        pytest.param(bytes(BAD_MAGIC), 9, 87, id="trap 13 another magic"),
        pytest.param(batch(b"a", codec=Codec.ZSTD), 6, 76, id="trap 13 zstd before version 7"),
        pytest.param(batch(b"a")[:-1] + b"!", 9, 2, id="trap 14 a wrong checksum"),
        pytest.param(bytes(FUTURE_MAGIC), 9, 2, id="a magic to come"),
        pytest.param(batch(b"a")[:-1], 9, 87, id="cut off"),
        pytest.param(batch(b"a", producer_id=5, producer_epoch=0), 9, 87, id="trap 15 no sequence"),
        pytest.param(batch(b"a", control=True), 9, 87, id="trap 15 a control batch"),
        pytest.param(batch(b"a", timestamp=1 << 60), 9, 32, id="trap 15 a timestamp far ahead"),
        pytest.param(batch(bytes(2_000)), 9, 10, id="trap 16 over max.message.bytes"),
        pytest.param(TRANSACTIONAL, 9, 53, id="a transaction without a transactional id"),
    ],
)
async def test_a_bad_batch_is_refused_and_nothing_is_written(
    tmp_path: Path, data: bytes | None, version: int, code: int
) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker, max_message_bytes="1500")
        result = await wire.produce(data, version=version)  # type: ignore[arg-type]
        assert (result.error_code, result.base_offset) == (code, -1)
        assert await wire.values() == []


async def test_trap_14_the_leader_epoch_of_a_batch_is_the_brokers(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker)
        await wire.produce(batch(b"a", leader_epoch=77))
        response = await wire.fetch()
        header = parse_header(response.responses[0].partitions[0].records)
        assert header.leader_epoch == broker.metadata.topics["t"].partitions[0].leader_epoch


async def test_trap_17_log_append_time_is_told_and_stored(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker, message_timestamp_type="LogAppendTime")
        before_ms = broker.clock.now_ms()
        result = await wire.produce(batch(b"a"))
        assert before_ms <= result.log_append_time_ms <= broker.clock.now_ms()
        response = await wire.fetch()
        header = parse_header(response.responses[0].partitions[0].records)
        assert (header.attributes & 8, header.max_timestamp) == (8, result.log_append_time_ms)


async def test_trap_17_without_it_the_time_is_minus_one(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker)
        assert (await wire.produce(batch(b"a"))).log_append_time_ms == -1


async def test_trap_19_an_unknown_topic_id_is_error_100_and_an_unknown_name_error_3(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker)
        by_id = ProduceRequest(
            acks=1,
            topic_data=[
                TopicProduceData(
                    topic_id=b"x" * 16, partition_data=[PartitionProduceData(index=0, records=batch(b"v"))]
                )
            ],
        )
        response = await wire.ask(by_id, 13)
        assert response.responses[0].partition_responses[0].error_code == 100
        assert (await wire.produce(batch(b"v"), topic="nowhere")).error_code == 3
        assert (await wire.produce(batch(b"v"), partition=1)).error_code == 3


async def test_no_more_in_sync_replicas_are_asked_for_than_there_are_replicas(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker, min_insync_replicas="2")
        assert (await wire.produce(batch(b"all"), acks=-1)).error_code == 0


async def test_clients_do_not_write_to_internal_topics(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker, "__consumer_offsets")
        assert (await wire.produce(batch(b"x"), topic="__consumer_offsets")).error_code == 17


async def test_each_partition_of_a_request_has_its_own_result(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker, "a", partitions=2)
        await topic(broker, "b")
        request = ProduceRequest(
            acks=-1,
            topic_data=[
                TopicProduceData(
                    name="a",
                    partition_data=[
                        PartitionProduceData(index=1, records=batch(b"a1", b"a1")),
                        PartitionProduceData(index=9, records=batch(b"lost")),
                        PartitionProduceData(index=0, records=batch(b"a0")),
                    ],
                ),
                TopicProduceData(
                    name="b", partition_data=[PartitionProduceData(index=0, records=batch(b"bad")[:-2])]
                ),
            ],
        )
        response: ProduceResponse = await wire.ask(request, 9)
        told = [
            (topic.name, one.index, one.error_code, one.base_offset)
            for topic in response.responses
            for one in topic.partition_responses
        ]
        assert told == [("a", 1, 0, 0), ("a", 9, 3, -1), ("a", 0, 0, 0), ("b", 0, 87, -1)]
        assert await wire.values(topic="a", partition=1) == [b"a1", b"a1"]


async def test_a_request_without_partitions_is_answered(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        assert (await wire.ask(ProduceRequest(acks=1), 9)).responses == []
        empty = ProduceRequest(acks=1, topic_data=[TopicProduceData(name="t")])
        assert (await wire.ask(empty, 9)).responses == []


async def test_trap_20_a_duplicate_gets_the_original_offset_and_a_gap_error_45(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker)

        def numbered(sequence: int, *values: bytes) -> bytes:
            return batch(*values, producer_id=9, producer_epoch=0, base_sequence=sequence)

        assert (await wire.produce(numbered(0, b"a", b"b"))).base_offset == 0
        assert (await wire.produce(numbered(2, b"c"))).base_offset == 2
        again = await wire.produce(numbered(0, b"a", b"b"))
        assert (again.error_code, again.base_offset, again.log_append_time_ms) == (0, 0, 1_000)
        assert (await wire.produce(numbered(5, b"gap"))).error_code == 45
        assert await wire.values() == [b"a", b"b", b"c"]


async def test_many_pipelined_requests_share_writes_and_keep_their_order(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker, partitions=3)
        for n in range(600):
            wire.send(produce_request(batch(b"%d" % n), partition=n % 3), 9)
        for n in range(600):
            _, response = await wire.receive(ProduceResponse, 9)
            (one,) = response.responses[0].partition_responses
            assert (one.index, one.error_code, one.base_offset) == (n % 3, 0, n // 3)
        assert await wire.values(partition=1) == [b"%d" % n for n in range(1, 600, 3)]


async def test_what_was_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker)
        for n in range(5):
            await wire.produce(batch(b"%d" % n))
    async with running(tmp_path) as broker, connected(broker) as wire:
        assert await wire.values() == [b"0", b"1", b"2", b"3", b"4"]
        assert (await wire.produce(batch(b"5"))).base_offset == 5
        wanted = FetchPartition(partition=0, fetch_offset=5, partition_max_bytes=1000)
        response = await wire.fetch(wanted)
        assert response.responses[0].partitions[0].high_watermark == 6


async def test_a_defect_while_appending_is_answered_and_the_next_batch_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker)
        with monkeypatch.context() as patch:
            patch.setattr(PartitionLog, "append", lambda *args, **options: 1 / 0)
            assert (await wire.produce(batch(b"x"))).error_code == -1
        assert (await wire.produce(batch(b"x"))).error_code == 0
