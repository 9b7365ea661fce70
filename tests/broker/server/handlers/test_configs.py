"""DescribeConfigs and the two ways to alter, in every version."""

from __future__ import annotations

from typing import Any

import pytest

from streamkit.broker.broker_keys import BROKER_KEYS
from streamkit.broker.config_description import ConfigSource
from streamkit.broker.config_key import ConfigType
from streamkit.broker.controller.image import ResourceType
from streamkit.broker.group_config import GROUP_KEYS
from streamkit.broker.server.handlers.config_alterations import alter_configs, replace_configs
from streamkit.broker.server.handlers.configs import describe_configs
from streamkit.broker.topic_config import TOPIC_KEYS
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages import alter_configs as replacing
from streamkit.protocol.messages import incremental_alter_configs as incremental
from streamkit.protocol.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from tests.broker.controller.cluster import Cluster, topic
from tests.broker.server.handlers.stub import StubBroker, ask


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster(log_retention_hours="1")
    made.create(topic("a", configs={"cleanup.policy": "compact"}))
    return made


async def described(
    cluster: Cluster,
    kind: int,
    name: str,
    *,
    keys: list[str] | None = None,
    version: int = 4,
    more: bool = False,
) -> Any:
    request = DescribeConfigsRequest(
        resources=[DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=keys)],
        include_synonyms=more,
        include_documentation=more and version >= 3,
    )
    broker = StubBroker(cluster, log_retention_hours="1")
    (result,) = (await ask(describe_configs, broker, request, version)).results
    assert (result.resource_type, result.resource_name) == (kind, name)
    return result


@pytest.mark.parametrize("version", range(1, 5))
async def test_a_topic_in_every_version(cluster: Cluster, version: int) -> None:
    result = await described(cluster, ResourceType.TOPIC, "a", version=version, more=True)
    found = {one.name: one for one in result.configs}
    assert found.keys() == TOPIC_KEYS.keys()
    policy, retention = found["cleanup.policy"], found["retention.ms"]
    assert (policy.value, policy.config_source, policy.read_only) == ("compact", ConfigSource.TOPIC, False)
    assert (retention.value, retention.config_source) == ("3600000", ConfigSource.STATIC_BROKER)
    assert [(one.name, one.value, one.source) for one in retention.synonyms] == [
        ("log.retention.hours", "3600000", ConfigSource.STATIC_BROKER),
        ("log.retention.ms", "604800000", ConfigSource.DEFAULT),
    ]
    if version >= 3:
        assert (policy.config_type, retention.config_type) == (ConfigType.LIST, ConfigType.LONG)
        assert retention.documentation == TOPIC_KEYS["retention.ms"].doc


async def test_without_being_asked_neither_synonyms_nor_documentation(cluster: Cluster) -> None:
    result = await described(cluster, ResourceType.TOPIC, "a")
    assert all(one.synonyms == [] and one.documentation is None for one in result.configs)


async def test_only_the_keys_asked_for_and_all_of_them_for_an_empty_list(cluster: Cluster) -> None:
    some = await described(cluster, ResourceType.TOPIC, "a", keys=["retention.ms", "nope"])
    assert [one.name for one in some.configs] == ["retention.ms"]
    everything = await described(cluster, ResourceType.TOPIC, "a", keys=[])
    assert len(everything.configs) == len(TOPIC_KEYS)


async def test_a_broker(cluster: Cluster) -> None:
    result = await described(cluster, ResourceType.BROKER, "1")
    found = {one.name: one for one in result.configs}
    of_topics = [key for key in TOPIC_KEYS.values() if key.spellings]
    assert len(found) == len(BROKER_KEYS) + len(of_topics) + len(GROUP_KEYS)
    assert found["num.partitions"].read_only is True
    assert (found["log.retention.ms"].value, found["log.retention.ms"].read_only) == ("3600000", False)
    assert (await described(cluster, ResourceType.BROKER, "")).configs == []


@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [
        (ResourceType.TOPIC, "none", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (ResourceType.TOPIC, "a/b", ErrorCode.INVALID_TOPIC_EXCEPTION),
        (ResourceType.BROKER, "2", ErrorCode.INVALID_REQUEST),
        (ResourceType.BROKER, "x", ErrorCode.INVALID_REQUEST),
        (ResourceType.BROKER_LOGGER, "2", ErrorCode.INVALID_REQUEST),
        (ResourceType.BROKER_LOGGER, "", ErrorCode.INVALID_REQUEST),
        (ResourceType.GROUP, "", ErrorCode.INVALID_REQUEST),
        (ResourceType.CLIENT_METRICS, "", ErrorCode.INVALID_REQUEST),
        (99, "1", ErrorCode.INVALID_REQUEST),
    ],
)
async def test_resources_that_have_no_configuration(
    cluster: Cluster, kind: int, name: str, code: int
) -> None:
    result = await described(cluster, kind, name)
    assert result.error_code == code and result.error_message and result.configs == []


@pytest.mark.parametrize("version", range(2))
async def test_incremental_alteration_in_every_version(cluster: Cluster, version: int) -> None:
    request = incremental.IncrementalAlterConfigsRequest(
        resources=[
            incremental.AlterConfigsResource(
                resource_type=kind,
                resource_name=name,
                configs=[incremental.AlterableConfig(name=key, config_operation=0, value="7")],
            )
            for kind, name, key in (
                (ResourceType.TOPIC, "a", "retention.ms"),
                (ResourceType.BROKER, "", "log.segment.ms"),
                (ResourceType.BROKER, "", "log.roll.ms"),
            )
        ]
    )
    responses = (await ask(alter_configs, StubBroker(cluster), request, version)).responses
    assert [one.error_code for one in responses] == [0, ErrorCode.INVALID_REQUEST, ErrorCode.INVALID_REQUEST]
    found = {one.name: one.value for one in (await described(cluster, ResourceType.TOPIC, "a")).configs}
    assert (found["retention.ms"], found["cleanup.policy"]) == ("7", "compact")


@pytest.mark.parametrize("version", range(3))
async def test_replacing_alteration_in_every_version(cluster: Cluster, version: int) -> None:
    request = replacing.AlterConfigsRequest(
        resources=[
            replacing.AlterConfigsResource(
                resource_type=ResourceType.TOPIC,
                resource_name="a",
                configs=[replacing.AlterableConfig(name="retention.ms", value="7")],
            )
        ]
    )
    (response,) = (await ask(replace_configs, StubBroker(cluster), request, version)).responses
    assert response.error_code == 0
    assert cluster.image.topic_overrides("a") == {"retention.ms": "7"}
