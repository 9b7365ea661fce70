"""A whole node: what it does at its start and its end, and when its disk fails."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from pathlib import Path

import pytest

from streamkit.broker.config import BrokerConfig
from streamkit.broker.server.node import Broker
from streamkit.errors import RefusedError
from streamkit.protocol.messages.delete_topics import DeleteTopicsRequest
from streamkit.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from streamkit.protocol.messages.produce import ProduceResponse
from streamkit.runtime.os.disk import OsDisk
from streamkit.runtime.os.ports import os_ports
from streamkit.telemetry.instruments import Registry
from tests.broker.server.wire import batch, connected, produce_request, running, topic


async def refused(path: Path, **properties: str) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        async with running(path, **properties):
            pass
    return caught.value


async def test_a_taken_port_is_refused_and_the_directory_not_touched(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = await refused(tmp_path / "data", listeners=f"PLAINTEXT://127.0.0.1:{port}")
    assert f"127.0.0.1:{port} is taken" in error.message
    assert not (tmp_path / "data").exists()


async def test_an_address_of_another_machine_is_refused(tmp_path: Path) -> None:
    error = await refused(tmp_path, listeners="PLAINTEXT://203.0.113.1:0")
    assert "cannot listen at 203.0.113.1:0" in error.message


async def test_a_directory_that_another_broker_uses_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path):
        assert "another process uses" in (await refused(tmp_path)).message


async def test_a_directory_of_another_node_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path):
        pass
    await refused(tmp_path, node_id="2")


async def test_metadata_tells_the_real_port(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        response = await wire.ask(MetadataRequest(topics=[]), 9)
        told = [(one.node_id, one.host, one.port) for one in response.brokers]
        assert told == [(1, "127.0.0.1", broker.listeners["PLAINTEXT"].port)]


async def test_metadata_tells_the_advertised_address(tmp_path: Path) -> None:
    advertised = {"advertised_listeners": "PLAINTEXT://broker.example:1234"}
    async with running(tmp_path, **advertised) as broker, connected(broker) as wire:
        response = await wire.ask(MetadataRequest(topics=[]), 9)
        assert [(one.host, one.port) for one in response.brokers] == [("broker.example", 1234)]


async def test_an_auto_created_topic_is_served_as_soon_as_it_is_told(tmp_path: Path) -> None:
    async with running(tmp_path, num_partitions="2") as broker, connected(broker) as wire:
        request = MetadataRequest(topics=[MetadataRequestTopic(name="new")], allow_auto_topic_creation=True)
        response = await wire.ask(request, 9)
        assert [one.partition_index for one in response.topics[0].partitions] == [0, 1]
        assert (await wire.produce(batch(b"x"), topic="new", partition=1)).error_code == 0


async def test_a_deleted_topic_is_gone_and_its_name_free(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        for _ in range(2):
            await topic(broker)
            assert (await wire.produce(batch(b"x"))).base_offset == 0
            request = DeleteTopicsRequest(topic_names=["t"])
            await broker.controller.submit(
                lambda controller, request=request: controller.delete_topics(request)
            )
            assert (await wire.produce(batch(b"x"))).error_code == 3
            assert len(broker.partitions) == 0


async def test_a_partition_that_cannot_be_opened_answers_storage_errors_and_the_others_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = OsDisk.make_directory

    def full(disk: OsDisk, path: str) -> None:
        if path.endswith("/t-1"):
            raise OSError(errno.ENOSPC, "no space left on device", path)
        real(disk, path)

    async with running(tmp_path) as broker, connected(broker) as wire:
        monkeypatch.setattr(OsDisk, "make_directory", full)
        await topic(broker, partitions=3)
        codes = [(await wire.produce(batch(b"x"), partition=number)).error_code for number in range(3)]
        assert codes == [0, 56, 0]
        monkeypatch.setattr(OsDisk, "make_directory", real)
    async with running(tmp_path) as broker, connected(broker) as wire:
        assert (await wire.produce(batch(b"x"), partition=1)).error_code == 0


async def test_a_topic_of_many_partitions_is_deleted_for_good(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        await topic(broker, "kept")
        await topic(broker, "many", partitions=500)
        request = DeleteTopicsRequest(topic_names=["many"])
        await broker.controller.submit(lambda controller: controller.delete_topics(request))
        assert not list(tmp_path.glob("many-*[0-9]"))
        assert (tmp_path / "kept-0").exists()
    async with running(tmp_path) as broker:
        assert len(broker.partitions) == 1
        assert not list(tmp_path.glob("many-*"))


async def test_a_topic_whose_deletion_was_interrupted_is_deleted_by_the_next_start(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        await topic(broker, "kept")
    (tmp_path / "ghost-0").mkdir()
    async with running(tmp_path) as broker:
        assert not (tmp_path / "ghost-0").exists()
        assert (tmp_path / "kept-0").exists()


async def test_topics_and_configurations_are_there_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        await topic(broker, partitions=3, max_message_bytes="5000")
    async with running(tmp_path) as broker:
        assert len(broker.partitions) == 3
        actor = broker.partitions.get("t", 2)
        assert actor is not None and actor.log.config.max_message_bytes == 5000


async def test_changelogs_of_stream_engines_may_say_what_they_want_of_a_cleaner(tmp_path: Path) -> None:
    wanted = {
        "cleanup_policy": "compact",
        "min_compaction_lag_ms": "300000",
        "delete_retention_ms": "86400000",
        "unclean_leader_election_enable": "false",
    }
    async with running(tmp_path) as broker:
        await topic(broker, **wanted)
        with pytest.raises(AssertionError):
            await topic(broker, "hasty", cleanup_policy="compact", preallocate="true")
    async with running(tmp_path) as broker:
        actor = broker.partitions.get("t", 0)
        assert actor is not None and actor.log.config.min_compaction_lag_ms == 300_000


async def test_an_altered_configuration_holds_for_the_next_batch(tmp_path: Path) -> None:
    from streamkit.protocol.messages.incremental_alter_configs import (
        AlterableConfig,
        AlterConfigsResource,
        IncrementalAlterConfigsRequest,
    )

    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker)
        assert (await wire.produce(batch(bytes(500)))).error_code == 0
        change = AlterableConfig(name="max.message.bytes", config_operation=0, value="100")
        request = IncrementalAlterConfigsRequest(
            resources=[AlterConfigsResource(resource_type=2, resource_name="t", configs=[change])]
        )
        await wire.ask(request, 1)
        assert (await wire.produce(batch(bytes(500)))).error_code == 10


async def test_a_clean_stop_answers_what_was_appended(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker)
        for n in range(20):
            wire.send(produce_request(batch(b"%d" % n)), 9)
        first = await wire.receive(ProduceResponse, 9)
        assert first[1].responses[0].partition_responses[0].error_code == 0
        await broker.stop()
        answered = 1
        while True:
            try:
                frame = await wire.frame()
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            answered += 1
            assert struct.unpack_from(">i", frame)[0] == answered
    async with running(tmp_path) as broker, connected(broker) as wire:
        assert len(await wire.values()) >= answered


async def test_a_failed_directory_answers_storage_errors_and_ends_the_node(tmp_path: Path) -> None:
    ended = asyncio.Event()
    ports = os_ports(lambda name, error: None)
    config = BrokerConfig.from_properties({"log.dir": str(tmp_path), "listeners": "PLAINTEXT://127.0.0.1:0"})
    broker = Broker(config, ports, Registry(), on_end=ended.set)
    await broker.start()
    async with connected(broker) as wire:
        await topic(broker)
        assert (await wire.produce(batch(b"x"))).error_code == 0
        broker.directory.flusher.fail("the disk said no")
        await asyncio.wait_for(ended.wait(), 10)
        assert broker.failure is not None and "the disk said no" in broker.failure.message
        assert (await wire.produce(batch(b"x"))).error_code == 56
        response = await wire.fetch()
        assert response.responses[0].partitions[0].error_code == 56
    await broker.stop()
    ports.disk.close()


async def test_metrics_count_what_happens(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker, partitions=2)
        await wire.produce(batch(b"a", b"b"))
        await wire.produce(batch(b"x"), topic="nowhere")
        await wire.values()
        for callback in broker.metrics.on_scrape:
            callback()

        def value(name: str, *labels: str) -> float:
            return broker.metrics.families[f"streamkit_{name}"].labels(*labels).value  # type: ignore[union-attr]

        assert value("broker_records_in_total", "t") == 2
        assert value("broker_bytes_in_total", "t") == len(batch(b"a", b"b"))
        assert value("broker_bytes_out_total", "t") == len(batch(b"a", b"b"))
        assert value("broker_failed_requests_total", "PRODUCE", "UNKNOWN_TOPIC_OR_PARTITION") == 1
        assert value("partitions", "leader") == 2
        assert value("connections", "PLAINTEXT") == 1
        assert value("log_size_bytes", "t") == len(batch(b"a", b"b"))
        assert value("inflight_requests") == 0
        assert (
            sum(broker.metrics.families["streamkit_request_duration_seconds"].labels("PRODUCE").counts) == 2
        )
