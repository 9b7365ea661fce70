"""A node's metadata on a real directory: durable before the reply, one decision at a time, then replayed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.decision import Decision
from streamkit.broker.controller.features import FEATURES
from streamkit.broker.controller.image import Endpoint, MetadataChanges, MetadataImage
from streamkit.broker.controller.records import (
    ConfigRecord,
    FeatureLevelRecord,
    MetadataRecord,
    PartitionRecord,
    RemoveTopicRecord,
    decode_record,
    encode_record,
)
from streamkit.broker.log.append import Origin
from streamkit.broker.server.cluster.broker_lifecycle import UNKNOWN_EPOCH, registration_request
from streamkit.broker.server.cluster.controller_client import ControllerClient
from streamkit.broker.server.controller.active_controller import (
    ActiveController,
    MetadataLogError,
    NotControllerError,
)
from streamkit.broker.server.controller.metadata_publisher import MetadataPublisher
from streamkit.broker.server.controller.quorum import Quorum
from streamkit.broker.server.controller.quorum_opening import open_quorum
from streamkit.broker.server.handlers.brokers import allocate_producer_ids, register_broker
from streamkit.broker.server.handlers.topics import create_topics
from streamkit.broker.server.timers import Timers
from streamkit.broker.storage.log_directory import LogDirectory
from streamkit.errors import RefusedError
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.create_topics import CreateTopicsRequest
from streamkit.protocol.records.batch import batches, check_batch
from streamkit.protocol.records.control import ControlType, decode_key
from streamkit.protocol.records.record import Record, decode_records, encode_batch
from streamkit.runtime.contracts.ports import Ports
from streamkit.runtime.contracts.spawn import Spawn
from streamkit.runtime.os.clock import SystemClock
from streamkit.runtime.os.disk import OsDisk
from streamkit.runtime.os.network import TcpNetwork
from streamkit.runtime.os.rng import SystemRng
from streamkit.runtime.os.spawn import TaskSpawn
from streamkit.telemetry.instruments import Histogram, Registry
from tests.broker.controller.cluster import state, topic
from tests.broker.server.wire import running

CLUSTER_ID = "cluster"


class LocalChannel:
    """The channel of a node that decides itself: the handlers, without listeners and routes."""

    def __init__(self, controller: ActiveController) -> None:
        self.controller = controller

    def count_failures(self, api: int, codes: object) -> None: ...

    async def ask(self, message: Any, **how: object) -> Any:
        handlers: dict[int, Any] = {
            ApiKey.CREATE_TOPICS: create_topics,
            ApiKey.BROKER_REGISTRATION: register_broker,
            ApiKey.ALLOCATE_PRODUCER_IDS: allocate_producer_ids,
        }
        return await handlers[message.KEY](self, None, message)


class Metadata(ControllerClient):
    """A quorum, what it committed, and whoever decides, as a node joins them."""

    def __init__(self, quorum: Quorum, config: BrokerConfig, spawn: Spawn, metrics: Registry) -> None:
        self.quorum = quorum
        self.log = quorum._log
        self.publisher = MetadataPublisher(quorum, spawn=spawn, metrics=metrics)
        quorum.on_committed = self.publisher.on_committed
        self.controller = ActiveController(
            quorum,
            self.publisher,
            config,
            clock=SystemClock(),
            rng=SystemRng(),
            spawn=spawn,
            metrics=metrics,
            cluster_id=lambda: CLUSTER_ID,
        )
        self.submit = self.controller.submit
        channel: Any = LocalChannel(self.controller)
        super().__init__(channel, self.publisher, 1)

    def failed(self, reason: str) -> None:
        self.controller.failed(reason)
        self.quorum.failed(reason)


@asynccontextmanager
async def opened(
    path: Path, *, flush_mode: str = "durable", metrics: Registry | None = None
) -> AsyncIterator[Metadata]:
    config = BrokerConfig.from_properties({"log.dir": str(path), "streamkit.flush.mode": flush_mode})
    spawn = TaskSpawn(lambda name, error: None)
    directory = await LogDirectory.open(
        OsDisk(),
        str(path),
        node_id=1,
        clock=SystemClock(),
        rng=SystemRng(),
        spawn=spawn,
        flush_mode=flush_mode,
    )
    try:
        metrics = metrics or Registry()
        ports = Ports(clock=SystemClock(), disk=OsDisk(), network=TcpNetwork(), rng=SystemRng(), spawn=spawn)
        timers = Timers(ports.clock)
        quorum = await open_quorum(directory, config, ports=ports, timers=timers, metrics=metrics)
        metadata = Metadata(quorum, config, spawn, metrics)
        await metadata.publisher.catch_up()
        metadata.publisher.follow()
        if not metadata.image.brokers:
            await metadata.register(
                registration_request(
                    config,
                    cluster_id=CLUSTER_ID,
                    incarnation_id=bytes(16),
                    endpoints=[Endpoint(name="PLAINTEXT", host="127.0.0.1", port=9092)],
                    directory_id=bytes([7]) * 16,
                    previous_broker_epoch=UNKNOWN_EPOCH,
                )
            )
        yield metadata
    finally:
        await directory.close()
        await spawn.close()


async def test_a_restart_knows_what_was_decided(tmp_path: Path) -> None:
    async with opened(tmp_path) as metadata:
        assert metadata.broker_epoch == 3 + len(FEATURES)
        assert await metadata.create_missing(["orders", "bad name"]) == {
            "orders": ErrorCode.NONE,
            "bad name": ErrorCode.INVALID_TOPIC_EXCEPTION,
        }
        await metadata.create_topic(
            "ours", partitions=3, replication_factor=1, configs={"retention.ms": "-1"}
        )
        assert await metadata.allocate_producer_ids() == range(1000)
        before = state(metadata.image)
    async with opened(tmp_path) as metadata:
        metadata.broker_epoch = metadata.image.brokers[1].epoch
        # the record of the restart's election changes nothing that was decided
        assert state(metadata.image) == {**before, "offset": before["offset"] + 1}
        assert await metadata.allocate_producer_ids() == range(1000, 2000)


async def test_the_files_are_kafkas(tmp_path: Path) -> None:
    async with opened(tmp_path) as metadata:
        await metadata.create_missing(["orders"])
    data = (tmp_path / "__cluster_metadata-0" / f"{0:020}.log").read_bytes()
    found = [(check_batch(batch), decode_records(batch)) for _, batch in batches(data)]
    assert [len(records) for _, records in found] == [3, len(FEATURES) + 1, 2]
    assert [header.is_control for header, _ in found] == [True, False, False]
    assert {header.leader_epoch for header, _ in found} == {1}
    control = [decode_key(record.key) for record in found.pop(0)[1]]
    assert control == [ControlType.LEADER_CHANGE, ControlType.KRAFT_VERSION, ControlType.KRAFT_VOTERS]
    names = [type(decode_record(record.value or b"")).__name__ for _, records in found for record in records]
    features = ["FeatureLevelRecord"] * len(FEATURES)
    assert names == [*features, "RegisterBrokerRecord", "TopicRecord", "PartitionRecord"]
    assert all(record.key is None for _, records in found for record in records)


@pytest.mark.parametrize("flush_mode", ["durable", "relaxed"])
async def test_a_reply_means_that_the_records_are_on_disk(tmp_path: Path, flush_mode: str) -> None:
    async with opened(tmp_path, flush_mode=flush_mode) as metadata:
        await metadata.create_missing(["orders"])
        assert metadata.log.recovery_point == metadata.log.log_end_offset == metadata.image.offset + 1


async def test_subscribers_are_done_before_the_reply(tmp_path: Path) -> None:
    seen: list[str] = []

    async def subscriber(image: MetadataImage, changes: MetadataChanges) -> None:
        await asyncio.sleep(0)
        seen.extend(created.name for created in changes.created)
        assert all(created.name in image.topics for created in changes.created)

    async with opened(tmp_path) as metadata:
        await metadata.publisher.subscribe(subscriber)
        await metadata.create_missing(["orders"])
        assert seen == ["orders"]


async def test_concurrent_decisions_see_each_other(tmp_path: Path) -> None:
    request = CreateTopicsRequest(topics=[topic("orders")])
    async with opened(tmp_path) as metadata:
        responses = await asyncio.gather(
            *(metadata.submit(lambda controller: controller.create_topics(request)) for _ in range(5))
        )
        codes = [response.topics[0].error_code for response in responses]
        assert sorted(codes) == [ErrorCode.NONE] + [ErrorCode.TOPIC_ALREADY_EXISTS] * 4
        assert await metadata.create_missing(["orders"]) == {"orders": ErrorCode.NONE}


async def test_a_caller_that_gives_up_does_not_stop_its_decision(tmp_path: Path) -> None:
    async with opened(tmp_path) as metadata:
        impatient = asyncio.ensure_future(metadata.create_missing(["orders"]))
        await asyncio.sleep(0)
        impatient.cancel()
        await metadata.create_missing(["other"])
        assert set(metadata.image.topics) == {"orders", "other"}


async def test_a_decision_that_raises_harms_no_other(tmp_path: Path) -> None:
    def broken(controller: object) -> Decision[None]:
        raise ZeroDivisionError

    async with opened(tmp_path) as metadata:
        with pytest.raises(ZeroDivisionError):
            await metadata.submit(broken)
        assert await metadata.create_missing(["orders"]) == {"orders": ErrorCode.NONE}


async def test_after_a_failure_nothing_is_decided(tmp_path: Path) -> None:
    async with opened(tmp_path) as metadata:
        metadata.failed("the disk is gone")
        before = state(metadata.image)
        with pytest.raises(MetadataLogError, match="the disk is gone") as refused:
            await metadata.create_missing(["orders"])
        assert state(metadata.image) == before
        assert isinstance(refused.value, NotControllerError), "another node is asked then"


async def test_a_torn_decision_is_lost_whole(tmp_path: Path) -> None:
    async with opened(tmp_path) as metadata:
        await metadata.create_missing(["orders"])
        before = state(metadata.image)
        recovery_point = metadata.log.log_end_offset
    log = tmp_path / "__cluster_metadata-0" / f"{0:020}.log"
    whole = log.read_bytes()
    async with opened(tmp_path) as metadata:
        await metadata.create_missing(["torn"])
        assert metadata.log.log_end_offset > recovery_point
    # As after a power cut in the middle of the last write: half a batch, and no clean stop.
    log.write_bytes(log.read_bytes()[: len(whole) + 30])
    (tmp_path / ".kafka_cleanshutdown").unlink()
    for checkpoint in ("recovery-point-offset-checkpoint", "replication-offset-checkpoint"):
        (tmp_path / checkpoint).unlink(missing_ok=True)
    async with opened(tmp_path) as metadata:
        assert set(metadata.image.topics) == {"orders"}
        assert state(metadata.image)["topics"] == before["topics"]


async def test_a_record_of_the_future_refuses_to_start(tmp_path: Path) -> None:
    async with opened(tmp_path) as metadata:
        unknown = encode_batch([Record(timestamp=0, value=b"\x01\x7f\x00")])
        metadata.log.append([unknown], leader_epoch=metadata.quorum.epoch, origin=Origin.COORDINATOR)
    with pytest.raises(RefusedError, match="cannot be read: metadata record 127"):
        async with opened(tmp_path):
            pass


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (FeatureLevelRecord(name="metadata.version", feature_level=99), "metadata.version is 99"),
        (
            ConfigRecord(resource_type=2, resource_name="t", name="key.of.the.future", value="1"),
            "the configuration key.of.the.future of t is not known",
        ),
        (
            ConfigRecord(resource_type=4, resource_name="", name="num.future", value="1"),
            "the configuration num.future of all brokers is not known",
        ),
        (
            ConfigRecord(resource_type=2, resource_name="t", name="cleanup.policy", value="shred"),
            "Invalid value shred for configuration cleanup.policy",
        ),
        (PartitionRecord(partition_id=0, topic_id=bytes(15) + b"x"), "what follows offset"),
        (RemoveTopicRecord(topic_id=bytes(15) + b"x"), "what follows offset"),
    ],
)
async def test_what_this_version_does_not_know_refuses_to_start(
    tmp_path: Path, record: MetadataRecord, words: str
) -> None:
    async with opened(tmp_path) as metadata:
        unknown = encode_batch([Record(timestamp=0, value=encode_record(record))])
        metadata.log.append([unknown], leader_epoch=metadata.quorum.epoch, origin=Origin.COORDINATOR)
    with pytest.raises(RefusedError, match="cannot be read: ") as caught:
        async with opened(tmp_path):
            pass
    assert words in caught.value.message
    assert "start with the version that wrote it" in caught.value.hint


async def test_metrics_say_who_decides_and_how_long_it_takes(tmp_path: Path) -> None:
    metrics = Registry()
    async with opened(tmp_path, metrics=metrics) as metadata:
        await metadata.create_missing(["orders"])
        values = scrape(metrics)
        assert values["streamkit_controller_active", ()] == 1
        assert values["streamkit_quorum_leader_id", ()] == 1
        assert values["streamkit_brokers", ("live",)] == 1
        assert values["streamkit_quorum_commit_seconds", ()] == 2
        metadata.failed("the disk is gone")
        assert scrape(metrics)["streamkit_controller_active", ()] == 0


def scrape(metrics: Registry) -> dict[tuple[str, tuple[str, ...]], float]:
    """The value of each gauge and the number of observations of each histogram."""
    for callback in metrics.on_scrape:
        callback()
    return {
        (name, labels): sum(child.counts) if isinstance(child, Histogram) else child.value
        for name, family in metrics.families.items()
        for labels, child in family.children.items()
    }


async def test_a_restart_begins_with_the_snapshot_where_the_log_was_trimmed(tmp_path: Path) -> None:
    between = {"metadata_log_max_record_bytes_between_snapshots": "1000"}
    async with running(tmp_path, **between) as broker:
        for n in range(30):
            await broker.controller_client.create_missing([f"t{n}"])
        await broker.controller_client.create_missing(["last"])
        async with asyncio.timeout(10):
            while not broker.quorum._log.log_start_offset:
                await broker.controller_client.create_missing([f"more{len(broker.metadata.topics)}"])
        before = state(broker.metadata)
    async with running(tmp_path, **between) as broker:
        after = state(broker.metadata)
        assert (after["topics"], after["configs"]) == (before["topics"], before["configs"])
