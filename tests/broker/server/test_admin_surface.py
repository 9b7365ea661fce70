"""What administrators ask for beside topics: features, configurations of every kind, log levels, directories.

Real clients where they have words for it (kafka-python, librdkafka), our own frames for the rest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from confluent_kafka import Producer
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import KafkaError

from streamkit.broker.controller.image import ResourceType
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirTopic,
)
from streamkit.protocol.messages.api_versions import ApiVersionsRequest
from streamkit.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)
from streamkit.protocol.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from streamkit.protocol.messages.find_coordinator import FindCoordinatorRequest
from streamkit.protocol.messages.get_telemetry_subscriptions import GetTelemetrySubscriptionsRequest
from streamkit.protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from streamkit.protocol.messages.list_config_resources import ListConfigResourcesRequest
from streamkit.protocol.messages.push_telemetry import PushTelemetryRequest
from streamkit.protocol.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest
from streamkit.protocol.records.compression import Codec, compress
from streamkit.telemetry.log_levels import log_levels
from tests.broker.client_metrics.otlp_writer import gauge, metrics_data, point
from tests.broker.server.wire import Wire, connected, running, topic
from tests.support.broker_process import BrokerProcess

SET, DELETE = 0, 1
LOADING = (
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.NOT_COORDINATOR,
)


async def alter(wire: Wire, kind: int, name: str, **values: str | None) -> tuple[int, str | None]:
    """Set these keys (`_` for `.`), or delete those that are None; the error and its message."""
    configs = [
        AlterableConfig(
            name=key.replace("_", "."), config_operation=DELETE if value is None else SET, value=value
        )
        for key, value in values.items()
    ]
    resource = AlterConfigsResource(resource_type=kind, resource_name=name, configs=configs)
    (answer,) = (await wire.ask(IncrementalAlterConfigsRequest(resources=[resource]))).responses
    return answer.error_code, answer.error_message


async def described(wire: Wire, kind: int, name: str) -> dict[str, str | None]:
    request = DescribeConfigsRequest(
        resources=[DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=None)]
    )
    (result,) = (await wire.ask(request)).results
    assert result.error_code == 0, result.error_message
    return {one.name: one.value for one in result.configs}


async def advertised(wire: Wire) -> set[int]:
    response = await wire.ask(ApiVersionsRequest(client_software_name="probe", client_software_version="1"))
    return {one.api_key for one in response.api_keys}


# -- inside a broker -----------------------------------------------------------------------------------------


async def test_what_is_altered_for_brokers_is_in_force_at_once(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await alter(wire, ResourceType.BROKER, "", max_connections="1", log_cleaner_backoff_ms="7")
        await alter(wire, ResourceType.BROKER, "1", producer_id_expiration_ms="9", max_connections="2")
        (listener,) = broker.listeners.values()
        assert listener.limits.max_connections == 2
        assert broker._cleaner_limits().backoff_ms == 7
        assert broker.directory._shelf.producer_id_expiration_ms == 9
        async with connected(broker), connected(broker) as third:
            assert await third.is_closed()
        assert (await described(wire, ResourceType.BROKER, ""))["max.connections"] == "1"
        await alter(wire, ResourceType.BROKER, "1", max_connections=None, producer_id_expiration_ms=None)
        assert listener.limits.max_connections == 1


async def test_what_is_altered_is_in_force_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await alter(wire, ResourceType.BROKER, "", max_connections_per_ip="5")
        await alter(wire, ResourceType.CLIENT_METRICS, "all", metrics="*")
    async with running(tmp_path) as broker, connected(broker) as wire:
        (listener,) = broker.listeners.values()
        assert listener.limits.max_connections_per_host == 5
        assert ApiKey.PUSH_TELEMETRY in await advertised(wire)


async def test_a_broker_alters_nobody_elses_configuration(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        assert await alter(wire, ResourceType.BROKER, "2", max_connections="1") == (
            ErrorCode.INVALID_REQUEST,
            "Unexpected broker id, expected 1, but received 2",
        )
        assert (await alter(wire, ResourceType.BROKER, "x", max_connections="1"))[0] == 42
        assert (await alter(wire, ResourceType.BROKER_LOGGER, "2", root="WARN"))[0] == 42


async def test_a_groups_configuration_steers_its_members(tmp_path: Path) -> None:
    """KIP-848: the next heartbeat tells them, and another group of theirs is left alone."""

    async def heartbeat(wire: Wire, group: str, epoch: int) -> ConsumerGroupHeartbeatResponse:
        first = {"rebalance_timeout_ms": 5000, "subscribed_topic_names": ["t"], "topic_partitions": []}
        request = ConsumerGroupHeartbeatRequest(
            group_id=group, member_id="one", member_epoch=epoch, **({} if epoch else first)
        )
        while (response := await wire.ask(request)).error_code in LOADING:
            await asyncio.sleep(0.01)
        assert response.error_code == 0, response.error_message
        return response

    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker, "t")
        await wire.ask(FindCoordinatorRequest(key_type=0, coordinator_keys=["slow"]))
        await alter(wire, ResourceType.GROUP, "slow", consumer_heartbeat_interval_ms="7000")
        slow = await heartbeat(wire, "slow", 0)
        assert slow.heartbeat_interval_ms == 7000
        assert (await heartbeat(wire, "other", 0)).heartbeat_interval_ms == 5000
        await alter(wire, ResourceType.GROUP, "slow", consumer_heartbeat_interval_ms=None)
        assert (await heartbeat(wire, "slow", slow.member_epoch)).heartbeat_interval_ms == 5000


async def test_metrics_are_asked_for_pushed_and_forgotten(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        async with connected(broker) as wire:
            assert not {ApiKey.GET_TELEMETRY_SUBSCRIPTIONS, ApiKey.PUSH_TELEMETRY} & await advertised(wire)
            match = "client_software_name=pro.*"
            await alter(wire, ResourceType.CLIENT_METRICS, "all", metrics="a,b", match=match)
            assert {ApiKey.GET_TELEMETRY_SUBSCRIPTIONS, ApiKey.PUSH_TELEMETRY} <= await advertised(wire)
            asked = await wire.ask(GetTelemetrySubscriptionsRequest())
            assert (asked.error_code, asked.requested_metrics) == (0, ["a", "b"])
            data = metrics_data(gauge("org.apache.kafka.a", point(1.5)), gauge("b", point(2)))
            push = PushTelemetryRequest(
                client_instance_id=asked.client_instance_id,
                subscription_id=asked.subscription_id,
                compression_type=Codec.ZSTD,
                metrics=compress(Codec.ZSTD, data),
            )
            assert (await wire.ask(push)).error_code == 0
            (shown,) = broker.metrics.families["streamkit_client_a"].children.values()
            assert shown.value == 1.5  # type: ignore[union-attr]
            assert (await wire.ask(push)).error_code == ErrorCode.THROTTLING_QUOTA_EXCEEDED
        for _ in range(1000):
            if "streamkit_client_a" not in broker.metrics.families:
                break
            await topic(broker, f"t{_}")  # anything that takes turns of the loop
        assert "streamkit_client_a" not in broker.metrics.families, "it went with its connection"


async def test_damaged_and_swollen_metrics_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await alter(wire, ResourceType.CLIENT_METRICS, "all", metrics="*")
        for codec, data in (
            (Codec.NONE, b"\x0f"),
            (Codec.GZIP, b"no gzip"),
            (Codec.GZIP, compress(Codec.GZIP, bytes(3 << 20))),
        ):
            asked = await wire.ask(GetTelemetrySubscriptionsRequest())
            push = PushTelemetryRequest(
                client_instance_id=asked.client_instance_id,
                subscription_id=asked.subscription_id,
                compression_type=codec,
                metrics=data,
            )
            assert (await wire.ask(push)).error_code == ErrorCode.INVALID_RECORD


async def test_log_levels_of_a_broker(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        logger = "streamkit.broker.server.replicas.partitions"
        assert (await described(wire, ResourceType.BROKER_LOGGER, "1"))[logger] == "INFO"
        try:
            request = AlterConfigsResource(
                resource_type=ResourceType.BROKER_LOGGER,
                resource_name="1",
                configs=[AlterableConfig(name="streamkit.broker", config_operation=SET, value="ERROR")],
            )
            only = IncrementalAlterConfigsRequest(resources=[request], validate_only=True)
            assert (await wire.ask(only)).responses[0].error_code == 0
            assert (await described(wire, ResourceType.BROKER_LOGGER, "1"))[logger] == "INFO"
            real = IncrementalAlterConfigsRequest(resources=[request])
            assert (await wire.ask(real)).responses[0].error_code == 0
            assert (await described(wire, ResourceType.BROKER_LOGGER, "1"))[logger] == "ERROR"
            assert not log_levels.allows(logger, "warning") and log_levels.allows(logger, "error")
        finally:
            log_levels.set("streamkit.broker", None)
        for name, value, code in (
            ("root", "debug", ErrorCode.INVALID_CONFIG),
            ("root", None, ErrorCode.INVALID_REQUEST),
            ("nobody", "INFO", ErrorCode.INVALID_CONFIG),
        ):
            assert (await alter(wire, ResourceType.BROKER_LOGGER, "1", **{name: value}))[0] == code


async def test_what_has_a_configuration(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker, "t")
        await alter(wire, ResourceType.GROUP, "g", consumer_heartbeat_interval_ms="6000")
        await alter(wire, ResourceType.CLIENT_METRICS, "m", interval_ms="1000")

        async def names(version: int, *types: int) -> list[tuple[int, str]]:
            found = await wire.ask(ListConfigResourcesRequest(resource_types=list(types)), version)
            assert found.error_code == 0
            return [(one.resource_type, one.resource_name) for one in found.config_resources]

        assert await names(0) == [(ResourceType.CLIENT_METRICS, "m")]
        assert set(await names(1)) == {(2, "t"), (4, "1"), (8, "1"), (16, "m"), (32, "g")}
        assert await names(1, ResourceType.GROUP) == [(32, "g")]
        refused = await wire.ask(ListConfigResourcesRequest(resource_types=[64]), 1)
        assert refused.error_code == ErrorCode.UNSUPPORTED_VERSION


@pytest.mark.parametrize("version", [1, 2])
async def test_replicas_stay_in_the_one_directory(tmp_path: Path, version: int) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker, "t")

        async def codes(path: str, name: str, *partitions: int) -> list[int]:
            wanted = AlterReplicaLogDirTopic(name=name, partitions=list(partitions))
            request = AlterReplicaLogDirsRequest(dirs=[AlterReplicaLogDir(path=path, topics=[wanted])])
            (result,) = (await wire.ask(request, version)).results
            return [one.error_code for one in result.partitions]

        assert await codes(str(tmp_path), "t", 0, 9) == [0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
        assert await codes("/elsewhere", "t", 0) == [ErrorCode.LOG_DIR_NOT_FOUND]


@pytest.mark.parametrize("version", [0, 1, 2])
async def test_features_in_every_version(tmp_path: Path, version: int) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:

        async def finalized() -> dict[str, int]:
            request = ApiVersionsRequest(client_software_name="x", client_software_version="1")
            response = await wire.ask(request, 4)
            return {one.name: one.max_version_level for one in response.finalized_features}

        wanted = FeatureUpdateKey(feature="group.version", allow_downgrade=version == 0, upgrade_type=2)
        if version == 0:
            wanted = FeatureUpdateKey(feature="group.version", allow_downgrade=True)
        before = await finalized()
        assert (before["group.version"], before["kraft.version"]) == (1, 1)
        response = await wire.ask(UpdateFeaturesRequest(feature_updates=[wanted]), version)
        assert response.error_code == 0
        assert "group.version" not in await finalized()
        assert broker.metadata.offset >= 0


# -- a broker process ----------------------------------------------------------------------------------------


@pytest.fixture
def python(broker: BrokerProcess) -> Iterator[KafkaAdminClient]:
    client = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    yield client
    client.close()


def test_kafka_python_sees_and_changes_features(python: KafkaAdminClient) -> None:
    told = python.describe_features()
    assert "metadata.version" in str(told) and "kraft.version" in str(told)
    python.update_features({"group.version": ("SAFE_DOWNGRADE", 0)}, validate_only=True)
    with pytest.raises(KafkaError):
        python.update_features({"group.version": 9})


def test_kafka_python_configures_groups_and_subscriptions(python: KafkaAdminClient, name: str) -> None:
    group = ConfigResource(ConfigResourceType.GROUP, name, {"consumer.session.timeout.ms": "50000"})
    python.alter_configs([group])
    found = python.describe_configs([ConfigResource(ConfigResourceType.GROUP, name)])
    assert "50000" in str(found)
    assert name in str(python.list_config_resources([ConfigResourceType.GROUP]))
    too_short = ConfigResource(ConfigResourceType.GROUP, name, {"consumer.session.timeout.ms": "1"})
    assert "must be greater than or equal to" in str(python.alter_configs([too_short]))


def test_librdkafka_pushes_its_metrics(new_broker: Callable[..., BrokerProcess], name: str) -> None:
    broker = new_broker("--http", "127.0.0.1:0").start()
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    subscription = {"metrics": "org.apache.kafka.producer.", "interval.ms": "200"}
    admin.alter_configs([ConfigResource(ConfigResourceType.CLIENT_METRICS, "all", subscription)])
    admin.close()
    producer = Producer(
        {"bootstrap.servers": broker.bootstrap, "client.id": name, "enable.metrics.push": True}
    )
    wanted = f'client_id="{name}"'
    end_s = time.monotonic() + 20
    while True:
        producer.produce("t", b"x")
        producer.poll(0.05)
        with urlopen(f"http://{broker.http}/metrics") as page:
            lines = page.read().decode().splitlines()
        pushed = [line for line in lines if wanted in line]
        if any(line.startswith("streamkit_client_producer_") for line in pushed):
            break
        assert time.monotonic() < end_s, "librdkafka pushed nothing"
    assert producer.flush(10) == 0
