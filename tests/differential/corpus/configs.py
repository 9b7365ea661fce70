"""Configs are described, replaced and changed: of topics, brokers, groups and client metrics."""

from __future__ import annotations

from streamkit.protocol.api import ApiKey
from streamkit.protocol.messages import alter_configs, incremental_alter_configs
from streamkit.protocol.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from streamkit.protocol.messages.list_config_resources import ListConfigResourcesRequest
from tests.differential.scenario import Client, Kind, scenario

TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = 0, 1, 2, 3


def describe(
    kind: int, name: str, *keys: str, synonyms: bool = False, documentation: bool = False
) -> DescribeConfigsRequest:
    asked = DescribeConfigsResource(
        resource_type=kind, resource_name=name, configuration_keys=list(keys) or None
    )
    return DescribeConfigsRequest(
        resources=[asked], include_synonyms=synonyms, include_documentation=documentation
    )


@scenario(ApiKey.DESCRIBE_CONFIGS, "1-4")
async def configs_of_topics(client: Client) -> None:
    topic = await client.topic(retention_ms="12345", cleanup_policy="compact")
    await client.valid(describe(TOPIC, topic.name))
    await client.valid(describe(TOPIC, topic.name, synonyms=True))
    await client.valid(
        describe(TOPIC, topic.name, "retention.ms", "segment.bytes", synonyms=True, documentation=True)
    )
    await client.boundary(describe(TOPIC, topic.name, "no.such.key"))
    nothing = DescribeConfigsResource(resource_type=TOPIC, resource_name=topic.name, configuration_keys=[])
    await client.boundary(DescribeConfigsRequest(resources=[nothing]))
    await client.boundary(DescribeConfigsRequest(resources=[]))


COMMON_BROKER_KEYS = (
    "num.partitions", "auto.create.topics.enable", "log.retention.ms", "log.segment.bytes",
    "message.max.bytes", "log.cleanup.policy", "group.initial.rebalance.delay.ms",
    "offsets.topic.num.partitions", "node.id",
    "min.insync.replicas", "default.replication.factor", "num.replica.fetchers", "compression.type",
    "transaction.max.timeout.ms", "socket.request.max.bytes", "unclean.leader.election.enable",
)  # fmt: skip


@scenario(ApiKey.DESCRIBE_CONFIGS, "1-4")
async def configs_of_brokers(client: Client) -> None:
    await client.valid(describe(BROKER, "1", *COMMON_BROKER_KEYS))
    await client.valid(describe(BROKER, "", *COMMON_BROKER_KEYS))
    await client.valid(describe(BROKER, "1", "num.partitions", synonyms=True, documentation=True))
    await client.valid(describe(GROUP, client.name("any")))
    await client.valid(describe(GROUP, client.name("any"), "consumer.session.timeout.ms", synonyms=True))


@scenario(ApiKey.DESCRIBE_CONFIGS, "1-4")
async def configs_of_what_is_not_there(client: Client) -> None:
    await client.wrong(describe(TOPIC, client.name("unknown")))
    await client.wrong(describe(TOPIC, ""))
    await client.wrong(describe(TOPIC, "a b"))
    await client.wrong(describe(BROKER, "7"))
    await client.wrong(describe(BROKER, "x"))
    await client.wrong(describe(BROKER_LOGGER, "7"))
    await client.wrong(describe(BROKER_LOGGER, "x"))
    await client.wrong(describe(GROUP, ""))
    await client.wrong(describe(CLIENT_METRICS, ""))
    await client.wrong(describe(CLIENT_METRICS, client.name("unknown")))
    for kind in (0, 1, 3, 99, -1):
        await client.wrong(describe(kind, "x"))


async def seen(client: Client, kind: int, name: str, key: str, value: str) -> None:
    """A config is effective a moment after the answer that it is set."""
    await client.until(
        describe(kind, name, key), lambda answer: any(one.value == value for one in answer.results[0].configs)
    )


def alter(
    kind: int, name: str, configs: dict[str, str | None], *, validate_only: bool = False
) -> alter_configs.AlterConfigsRequest:
    rows = [alter_configs.AlterableConfig(name=key, value=value) for key, value in configs.items()]
    one = alter_configs.AlterConfigsResource(resource_type=kind, resource_name=name, configs=rows)
    return alter_configs.AlterConfigsRequest(resources=[one], validate_only=validate_only)


@scenario(ApiKey.ALTER_CONFIGS, "0-2")
async def all_configs_are_replaced(client: Client) -> None:
    name = (await client.topic()).name
    await client.valid(alter(TOPIC, name, {"retention.ms": "5000", "cleanup.policy": "compact"}))
    await seen(client, TOPIC, name, "retention.ms", "5000")
    await client.valid(describe(TOPIC, name))
    await client.valid(alter(TOPIC, name, {"max.message.bytes": "2000"}))
    await seen(client, TOPIC, name, "max.message.bytes", "2000")
    await client.valid(describe(TOPIC, name))
    await client.valid(alter(TOPIC, name, {"retention.ms": "1"}, validate_only=True))
    await client.valid(alter(TOPIC, name, {}))
    await seen(client, TOPIC, name, "max.message.bytes", "1048588")
    await client.valid(describe(TOPIC, name))
    await client.boundary(alter_configs.AlterConfigsRequest())


@scenario(ApiKey.ALTER_CONFIGS, "0-2")
async def configs_are_not_replaced(client: Client) -> None:
    name = (await client.topic()).name
    await client.wrong(alter(TOPIC, client.name("unknown"), {}))
    await client.wrong(alter(TOPIC, "", {}))
    for key, value in BAD_VALUES:
        await client.wrong(alter(TOPIC, name, {key: value}))
    await client.wrong(alter(BROKER, "x", {}))
    await client.wrong(alter(BROKER, "7", {}))
    await client.wrong(alter(BROKER, "1", {"node.id": "5"}))
    await client.wrong(alter(BROKER_LOGGER, "1", {}))
    await client.wrong(alter(0, "x", {}))
    await client.wrong(alter(99, "x", {}))
    resource = alter(TOPIC, name, {}).resources
    await client.ask(
        Kind.WRONG, alter_configs.AlterConfigsRequest(resources=[*resource, *resource]), answer_s=1
    )


BAD_VALUES: tuple[tuple[str, str | None], ...] = (
    ("no.such", "1"), ("retention.ms", "abc"), ("retention.ms", "-2"), ("cleanup.policy", "shred"),
    ("retention.ms", None), ("retention.ms", ""), ("", "1"), ("min.insync.replicas", "0"),
    ("segment.bytes", "13"),
)  # fmt: skip


def change(
    kind: int, name: str, *operations: tuple[str, int, str | None], validate_only: bool = False
) -> incremental_alter_configs.IncrementalAlterConfigsRequest:
    rows = [
        incremental_alter_configs.AlterableConfig(name=key, config_operation=operation, value=value)
        for key, operation, value in operations
    ]
    one = incremental_alter_configs.AlterConfigsResource(resource_type=kind, resource_name=name, configs=rows)
    return incremental_alter_configs.IncrementalAlterConfigsRequest(
        resources=[one], validate_only=validate_only
    )


@scenario(ApiKey.INCREMENTAL_ALTER_CONFIGS, "0-1")
async def configs_are_changed(client: Client) -> None:
    name = (await client.topic()).name
    await client.valid(change(TOPIC, name, ("retention.ms", SET, "5000")))
    await client.valid(change(TOPIC, name, ("cleanup.policy", APPEND, "compact")))
    await seen(client, TOPIC, name, "cleanup.policy", "delete,compact")
    await client.valid(describe(TOPIC, name))
    await client.valid(
        change(TOPIC, name, ("cleanup.policy", SUBTRACT, "delete"), ("retention.ms", DELETE, None))
    )
    await seen(client, TOPIC, name, "cleanup.policy", "compact")
    await client.valid(describe(TOPIC, name))
    await client.valid(change(TOPIC, name, ("retention.ms", SET, "1"), validate_only=True))
    await client.boundary(change(TOPIC, name, ("cleanup.policy", APPEND, "compact")))
    await client.boundary(change(TOPIC, name, ("retention.bytes", DELETE, None)))
    await client.boundary(change(TOPIC, name))
    await client.boundary(change(TOPIC, name, ("retention.ms", SET, None)))
    await client.boundary(describe(TOPIC, name))


@scenario(ApiKey.INCREMENTAL_ALTER_CONFIGS, "0-1")
async def configs_of_groups_are_changed(client: Client) -> None:
    group = client.name("g")
    await client.valid(change(GROUP, group, ("consumer.session.timeout.ms", SET, "50000")))
    await seen(client, GROUP, group, "consumer.session.timeout.ms", "50000")
    await client.valid(describe(GROUP, group))
    await client.valid(change(GROUP, group, ("consumer.session.timeout.ms", DELETE, None)))
    await client.wrong(change(GROUP, group, ("consumer.session.timeout.ms", SET, "1")))
    await client.wrong(change(GROUP, group, ("no.such", SET, "1")))
    await client.wrong(change(GROUP, "", ("consumer.session.timeout.ms", SET, "50000")))


@scenario(ApiKey.INCREMENTAL_ALTER_CONFIGS, "0-1")
async def configs_are_not_changed(client: Client) -> None:
    name = (await client.topic()).name
    await client.wrong(change(TOPIC, client.name("unknown"), ("retention.ms", SET, "5")))
    await client.wrong(change(TOPIC, "", ("retention.ms", SET, "5")))
    for key, value in BAD_VALUES:
        await client.wrong(change(TOPIC, name, (key, SET, value)))
    await client.wrong(change(TOPIC, name, ("retention.ms", APPEND, "5")))
    await client.wrong(change(TOPIC, name, ("retention.ms", SUBTRACT, "5")))
    await client.wrong(change(TOPIC, name, ("cleanup.policy", APPEND, "shred")))
    await client.wrong(change(TOPIC, name, ("cleanup.policy", APPEND, None)))
    await client.wrong(change(TOPIC, name, ("retention.ms", 9, "5")))
    await client.wrong(change(TOPIC, name, ("retention.ms", -1, "5")))
    await client.wrong(change(TOPIC, name, ("retention.ms", SET, "5"), ("retention.ms", SET, "6")))
    await client.wrong(change(BROKER, "7", ("log.retention.ms", SET, "5000")))
    await client.wrong(change(BROKER, "x", ("log.retention.ms", SET, "5000")))
    await client.wrong(change(BROKER, "1", ("node.id", SET, "5")))
    await client.wrong(change(BROKER_LOGGER, "7", ("root", SET, "INFO")))
    await client.wrong(change(0, "x", ("a", SET, "5")))
    await client.wrong(change(99, "x", ("a", SET, "5")))
    resource = change(TOPIC, name, ("retention.ms", SET, "5")).resources
    await client.wrong(
        incremental_alter_configs.IncrementalAlterConfigsRequest(resources=[*resource, *resource])
    )
    await client.boundary(incremental_alter_configs.IncrementalAlterConfigsRequest())


@scenario(ApiKey.INCREMENTAL_ALTER_CONFIGS, "0-1")
async def configs_of_brokers_are_changed(client: Client) -> None:
    await client.wrong(change(BROKER, "", ("no.such", SET, "5"), validate_only=True))
    for name in ("1", ""):
        await client.valid(change(BROKER, name, ("log.retention.ms", SET, "77777777")))
        await seen(client, BROKER, name, "log.retention.ms", "77777777")
        await client.valid(describe(BROKER, name, "log.retention.ms"))
        await client.valid(change(BROKER, name, ("log.retention.ms", DELETE, None)))
        await client.wrong(change(BROKER, name, ("log.retention.ms", SET, "abc")))
        await client.wrong(change(BROKER, name, ("log.retention.ms", SET, "-7")))
        await client.setup(change(BROKER, name, ("log.retention.ms", DELETE, None)))


def resources(*kinds: int) -> ListConfigResourcesRequest:
    return ListConfigResourcesRequest(resource_types=list(kinds))


@scenario(ApiKey.LIST_CONFIG_RESOURCES, "0-1")
async def resources_with_configs(client: Client) -> None:
    await client.setup(change(GROUP, client.name("g"), ("consumer.session.timeout.ms", SET, "50000")))
    await client.topic()
    await client.valid(resources())
    for kind in (GROUP, CLIENT_METRICS, BROKER, BROKER_LOGGER, TOPIC):
        await client.valid(resources(kind))
    await client.boundary(resources(GROUP, BROKER, GROUP))
    for kind in (0, 1, 99, -1):
        await client.wrong(resources(kind))
