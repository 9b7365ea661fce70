"""DescribeConfigs (32): what is configured, and where each value comes from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from streamkit.broker.config_description import (
    ConfigEntry,
    ConfigSource,
    describe_all_brokers,
    describe_broker,
    describe_client_metrics,
    describe_group,
    describe_topic,
)
from streamkit.broker.controller.decision import Refusal
from streamkit.broker.controller.image import ConfigResource, ResourceType
from streamkit.broker.controller.topic_names import invalid_reason
from streamkit.broker.server.dispatch import RequestContext, Route
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)
from streamkit.telemetry.log_levels import log_levels

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
    code, reason = ErrorCode.NONE, ""  # as Kafka says nothing
    configs: list[DescribeConfigsResourceResult] = []
    # Null and empty both ask for every key.
    wanted = set(resource.configuration_keys or ())
    try:
        configs = [one for one in _results(broker, message, resource) if not wanted or one.name in wanted]
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


def _results(
    broker: Broker, message: DescribeConfigsRequest, resource: DescribeConfigsResource
) -> list[DescribeConfigsResourceResult]:
    if resource.resource_type == ResourceType.BROKER_LOGGER:
        return _log_levels(broker, resource.resource_name)
    return [
        _result(entry, synonyms=message.include_synonyms, documentation=message.include_documentation)
        for entry in _entries(broker, resource)
    ]


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
            _check_is_number(name)
            own_id = broker.config.node_id
            raise Refusal(
                ErrorCode.INVALID_REQUEST,
                f"Unexpected broker id, expected {own_id} or empty string, but received {name}",
            )
        case ResourceType.GROUP if not name:
            raise Refusal(ErrorCode.INVALID_REQUEST, "Group name must not be empty")
        case ResourceType.GROUP:
            own = broker.metadata.config(ConfigResource(ResourceType.GROUP, name))
            return describe_group(broker.config, own)
        case ResourceType.CLIENT_METRICS if not name:
            raise Refusal(ErrorCode.INVALID_REQUEST, "Client metrics subscription name must not be empty")
        case ResourceType.CLIENT_METRICS:
            own = broker.metadata.config(ConfigResource(ResourceType.CLIENT_METRICS, name))
            return describe_client_metrics(own)
        case other:
            raise Refusal(ErrorCode.INVALID_REQUEST, f"Resources of type {other} have no configuration here.")


def _log_levels(broker: Broker, name: str) -> list[DescribeConfigsResourceResult]:
    """The levels of this broker's loggers; they have neither a type nor anything above them."""
    if not name:
        raise Refusal(ErrorCode.INVALID_REQUEST, "Broker id must not be empty")
    _check_is_number(name)
    if name != str(broker.config.node_id):
        raise Refusal(
            ErrorCode.INVALID_REQUEST,
            f"Unexpected broker id, expected {broker.config.node_id} but received {name}",
        )
    return [
        DescribeConfigsResourceResult(name=logger, value=level, config_source=ConfigSource.BROKER_LOGGER)
        for logger, level in log_levels.known().items()
    ]


def _check_is_number(name: str) -> None:
    if not name.removeprefix("-").isdecimal():
        raise Refusal(ErrorCode.INVALID_REQUEST, f"Broker id must be an integer, but it is: {name}")


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


ROUTES = (Route(ApiKey.DESCRIBE_CONFIGS, 1, 4, describe_configs),)
