"""DescribeConfigs (32), AlterConfigs (33), IncrementalAlterConfigs (44)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from streamkit.broker.config_description import (
    ConfigEntry,
    describe_all_brokers,
    describe_broker,
    describe_group,
    describe_topic,
)
from streamkit.broker.controller.decision import Refusal
from streamkit.broker.controller.image import ConfigResource, ResourceType
from streamkit.broker.controller.topic_names import invalid_reason
from streamkit.broker.server.dispatch import RequestContext, Route
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.alter_configs import AlterConfigsRequest, AlterConfigsResponse
from streamkit.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)
from streamkit.protocol.messages.incremental_alter_configs import (
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker


def describe_configs(
    broker: Broker, request: RequestContext, message: DescribeConfigsRequest
) -> DescribeConfigsResponse:
    return DescribeConfigsResponse(
        results=[_described(broker, message, resource) for resource in message.resources]
    )


def _described(
    broker: Broker, message: DescribeConfigsRequest, resource: DescribeConfigsResource
) -> DescribeConfigsResult:
    code, reason = ErrorCode.NONE, None
    configs: list[DescribeConfigsResourceResult] = []
    # Null and empty both ask for every key.
    wanted = set(resource.configuration_keys or ())
    try:
        configs = [
            _result(entry, synonyms=message.include_synonyms, documentation=message.include_documentation)
            for entry in _entries(broker, resource)
            if not wanted or entry.name in wanted
        ]
    except Refusal as refusal:
        code, reason = refusal.code, refusal.message
        broker.count_failure(ApiKey.DESCRIBE_CONFIGS, code)
    return DescribeConfigsResult(
        error_code=code,
        error_message=reason,
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
        configs=configs,
    )


def _entries(broker: Broker, resource: DescribeConfigsResource) -> Iterable[ConfigEntry]:
    layers = broker.metadata.broker_layers(broker.config.node_id)
    name = resource.resource_name
    match resource.resource_type:
        case ResourceType.TOPIC:
            _check_topic(broker, name)
            return describe_topic(broker.config, layers, broker.metadata.topic_overrides(name))
        case ResourceType.BROKER if not name:
            return describe_all_brokers(layers)
        case ResourceType.BROKER if name == str(broker.config.node_id):
            return describe_broker(broker.config, layers)
        case ResourceType.BROKER:
            raise Refusal(
                ErrorCode.INVALID_REQUEST,
                f"Broker {name} is asked about at broker {broker.config.node_id}.",
            )
        case ResourceType.GROUP:
            own = broker.metadata.config(ConfigResource(ResourceType.GROUP, name))
            return describe_group(broker.config, own)
        case other:
            raise Refusal(ErrorCode.INVALID_REQUEST, f"Resources of type {other} have no configuration here.")


def _check_topic(broker: Broker, name: str) -> None:
    reason = invalid_reason(name)
    if reason is not None:
        raise Refusal(ErrorCode.INVALID_TOPIC_EXCEPTION, reason)
    if name not in broker.metadata.topics:
        raise Refusal(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition.")


def _result(entry: ConfigEntry, *, synonyms: bool, documentation: bool) -> DescribeConfigsResourceResult:
    return DescribeConfigsResourceResult(
        name=entry.name,
        value=entry.value,
        read_only=entry.read_only,
        config_source=entry.source,
        is_sensitive=False,
        synonyms=[
            DescribeConfigsSynonym(name=one.name, value=one.value, source=one.source)
            for one in (entry.synonyms if synonyms else ())
        ],
        config_type=entry.type,
        documentation=entry.doc if documentation else None,
    )


async def alter_configs(
    broker: Broker, request: RequestContext, message: AlterConfigsRequest
) -> AlterConfigsResponse:
    response = await broker.controller.submit(lambda controller: controller.replace_configs(message))
    broker.count_failures(ApiKey.ALTER_CONFIGS, (one.error_code for one in response.responses))
    return response


async def incremental_alter_configs(
    broker: Broker, request: RequestContext, message: IncrementalAlterConfigsRequest
) -> IncrementalAlterConfigsResponse:
    response = await broker.controller.submit(lambda controller: controller.alter_configs(message))
    broker.count_failures(ApiKey.INCREMENTAL_ALTER_CONFIGS, (one.error_code for one in response.responses))
    return response


ROUTES = (
    Route(ApiKey.DESCRIBE_CONFIGS, 1, 4, describe_configs),
    Route(ApiKey.ALTER_CONFIGS, 0, 2, alter_configs, by_controller=True),
    Route(ApiKey.INCREMENTAL_ALTER_CONFIGS, 0, 1, incremental_alter_configs, by_controller=True),
)
