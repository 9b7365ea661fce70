"""Configurations altered: of topics, of one broker, of all brokers.

What a resource would hold afterwards is judged as a whole, so a request with one bad value changes nothing of
that resource. Of a broker's keys only those that it re-reads while it runs can be altered.

Settings that decide who is in sync and who may lead take effect on partitions in the same batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Final

from streamkit.broker.client_metrics.client_match import ClientMatch, IllegalMatchError
from streamkit.broker.client_metrics_config import (
    CLIENT_METRICS_KEYS,
    LONGEST_INTERVAL_MS,
    SHORTEST_INTERVAL_MS,
    ClientMetricsConfig,
)
from streamkit.broker.config import DYNAMIC_KEYS, PROPERTY_NAMES, BrokerConfig
from streamkit.broker.config_description import BrokerLayers, describe_broker, describe_topic
from streamkit.broker.config_key import ConfigType, InvalidValueError, nearest
from streamkit.broker.controller.decision import Decision, Refusal
from streamkit.broker.controller.image import ALL_BROKERS, ConfigResource, MetadataImage, ResourceType
from streamkit.broker.controller.leadership import with_configs
from streamkit.broker.controller.partition_rules import ELECTION_KEYS, MIN_INSYNC_REPLICAS
from streamkit.broker.controller.records import ConfigRecord, MetadataRecord
from streamkit.broker.controller.topic_names import invalid_reason
from streamkit.broker.group_config import GROUP_KEYS
from streamkit.broker.topic_config import TOPIC_KEYS, TopicConfig
from streamkit.errors import UsageError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages import alter_configs as replacing
from streamkit.protocol.messages import incremental_alter_configs as incremental

# Of the spellings of a key the first alone can be altered at run time, as in Kafka.
ALTERABLE: Final = frozenset(key.spellings[0].name for key in DYNAMIC_KEYS.values())


class Operation(IntEnum):
    """What IncrementalAlterConfigs does to a key (KIP-339)."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


def check_topic_config(overrides: Mapping[str, str]) -> None:
    """Refuse overrides that no topic can have."""
    for name in overrides:
        if name not in TOPIC_KEYS:
            close = nearest(name, sorted(TOPIC_KEYS))
            hint = f"; did you mean {close}?" if close else ""
            raise Refusal(ErrorCode.INVALID_CONFIG, f"Unknown topic config name: {name}{hint}")
    try:
        TopicConfig().altered(overrides)
    except InvalidValueError as error:
        raise Refusal(ErrorCode.INVALID_CONFIG, str(error)) from None


def check_client_metrics(name: str, after: Mapping[str, str]) -> None:
    """Refuse what no subscription of clients' metrics can be (KIP-714)."""
    if not name:
        raise Refusal(ErrorCode.INVALID_REQUEST, "Subscription name can't be empty")
    for key in after:
        if key not in CLIENT_METRICS_KEYS:
            raise Refusal(ErrorCode.INVALID_REQUEST, f"Unknown client metrics configuration: {key}")
    try:
        config = ClientMetricsConfig.given(after)
        ClientMatch(config.match)
    except (InvalidValueError, IllegalMatchError) as error:
        raise Refusal(ErrorCode.INVALID_CONFIG, str(error)) from None
    if not SHORTEST_INTERVAL_MS <= config.interval_ms <= LONGEST_INTERVAL_MS:
        raise Refusal(
            ErrorCode.INVALID_REQUEST,
            f"Invalid value {config.interval_ms} for interval.ms, interval must be between "
            f"{SHORTEST_INTERVAL_MS} and {LONGEST_INTERVAL_MS} (1 hour)",
        )


class ConfigDecisions:
    """The rules of one moment: what may become of configurations on this image."""

    def __init__(self, image: MetadataImage, config: BrokerConfig, layers: BrokerLayers) -> None:
        self._image = image
        self._config = config
        self._layers = layers

    def alter(
        self, request: incremental.IncrementalAlterConfigsRequest
    ) -> Decision[incremental.IncrementalAlterConfigsResponse]:
        """Change single keys, leaving the others."""
        times = Counter((one.resource_type, one.resource_name) for one in request.resources)
        batch = _Batch()
        responses = []
        for one in request.resources:
            resource = ConfigResource(one.resource_type, one.resource_name)
            error, message = ErrorCode.NONE, None
            try:
                _check_once(times.pop(resource, 0))
                after = self._operated(resource, one.configs)
                batch.add(resource, after, self._records(resource, after))
            except Refusal as refusal:
                error, message = refusal.code, refusal.message
            responses.append(
                incremental.AlterConfigsResourceResponse(
                    error_code=error,
                    error_message=message,
                    resource_type=one.resource_type,
                    resource_name=one.resource_name,
                )
            )
        reply = incremental.IncrementalAlterConfigsResponse(responses=responses)
        return Decision([] if request.validate_only else self._with_partitions(batch), reply)

    def replace(self, request: replacing.AlterConfigsRequest) -> Decision[replacing.AlterConfigsResponse]:
        """Put these keys in place of all that a resource has."""
        times = Counter((one.resource_type, one.resource_name) for one in request.resources)
        batch = _Batch()
        responses = []
        for one in request.resources:
            resource = ConfigResource(one.resource_type, one.resource_name)
            error, message = ErrorCode.NONE, None
            try:
                _check_once(times.pop(resource, 0))
                _check_keys(config.name for config in one.configs)
                _check_values((config.name, config.value) for config in one.configs)
                after = {config.name: config.value or "" for config in one.configs}
                batch.add(resource, after, self._records(resource, after))
            except Refusal as refusal:
                error, message = refusal.code, refusal.message
            responses.append(
                replacing.AlterConfigsResourceResponse(
                    error_code=error,
                    error_message=message,
                    resource_type=one.resource_type,
                    resource_name=one.resource_name,
                )
            )
        reply = replacing.AlterConfigsResponse(responses=responses)
        return Decision([] if request.validate_only else self._with_partitions(batch), reply)

    def _with_partitions(self, batch: _Batch) -> list[MetadataRecord]:
        """The configurations, and what becomes of partitions by them."""
        resources = {
            ConfigResource(record.resource_type, record.resource_name)
            for record in batch.records
            if record.name in ELECTION_KEYS
        }
        topics: Iterable[str] = [one.name for one in resources if one.type == ResourceType.TOPIC]
        if ALL_BROKERS in resources:
            topics = self._image.topics
        return [*batch.records, *with_configs(self._image, self._config, batch.after, topics)]

    def _operated(
        self, resource: ConfigResource, configs: list[incremental.AlterableConfig]
    ) -> dict[str, str]:
        """What the resource holds after these operations."""
        _check_keys(config.name for config in configs)
        _check_values(
            (config.name, config.value) for config in configs if config.config_operation != Operation.DELETE
        )
        after = dict(self._image.config(resource))
        for config in configs:
            text = config.value or ""
            match config.config_operation:
                case Operation.SET:
                    after[config.name] = text
                case Operation.DELETE:
                    after.pop(config.name, None)
                case Operation.APPEND:
                    members = self._members(resource, config.name, "APPEND")
                    added = [word for word in _split(text) if word not in members]
                    after[config.name] = ",".join([*members, *added])
                case Operation.SUBTRACT:
                    members = self._members(resource, config.name, "SUBTRACT")
                    removed = _split(text)
                    after[config.name] = ",".join(word for word in members if word not in removed)
                case unknown:
                    raise Refusal(ErrorCode.INVALID_REQUEST, f"Unknown config operation {unknown}.")
        return after

    def _members(self, resource: ConfigResource, name: str, operation: str) -> list[str]:
        """The members of a list key in force: the resource's own, or what it would inherit."""
        if resource.type == ResourceType.TOPIC:
            entries = describe_topic(self._config, self._layers, self._image.config(resource))
        else:
            entries = describe_broker(self._config, BrokerLayers(this_broker=self._image.config(resource)))
        for entry in entries:
            if entry.name == name and entry.type is ConfigType.LIST:
                return _split(entry.value)
        raise Refusal(
            ErrorCode.INVALID_CONFIG, f"Can't {operation} to key {name} because its type is not LIST."
        )

    def _records(self, resource: ConfigResource, after: Mapping[str, str]) -> list[ConfigRecord]:
        """The records that lead from what the resource holds to `after`."""
        self._check(resource, after)
        before = self._image.config(resource)
        return [
            ConfigRecord(
                resource_type=resource.type, resource_name=resource.name, name=name, value=after.get(name)
            )
            for name in {**before, **after}
            if before.get(name) != after.get(name)
        ]

    def _check(self, resource: ConfigResource, after: Mapping[str, str]) -> None:
        match resource.type:
            case ResourceType.TOPIC:
                self._check_topic(resource.name, after)
            case ResourceType.BROKER:
                self._check_broker(resource.name, after)
            case ResourceType.GROUP:
                self._check_group(resource.name, after)
            case ResourceType.CLIENT_METRICS:
                check_client_metrics(resource.name, after)
            case other:
                raise Refusal(ErrorCode.INVALID_REQUEST, f"Resources of type {other} cannot be altered.")

    def _check_topic(self, name: str, after: Mapping[str, str]) -> None:
        if not name:
            raise Refusal(ErrorCode.INVALID_REQUEST, "Default topic resources are not allowed.")
        reason = invalid_reason(name)
        if reason is not None:
            raise Refusal(ErrorCode.INVALID_TOPIC_EXCEPTION, reason)
        if name not in self._image.topics:
            raise Refusal(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition."
            )
        check_topic_config(after)

    def _check_group(self, name: str, after: Mapping[str, str]) -> None:
        """A group need not exist to be configured."""
        if not name:
            raise Refusal(ErrorCode.INVALID_REQUEST, "Default group resources are not allowed.")
        for key in after:
            if key not in GROUP_KEYS:
                raise Refusal(ErrorCode.INVALID_CONFIG, f"Unknown group config name: {key}")
        try:
            self._config.group_defaults.altered(after).check(self._config)
        except InvalidValueError as error:
            raise Refusal(ErrorCode.INVALID_CONFIG, str(error)) from None

    def _check_broker(self, name: str, after: Mapping[str, str]) -> None:
        if name and not name.isdecimal():
            raise Refusal(ErrorCode.INVALID_REQUEST, "Unable to parse broker name as a base 10 number.")
        if name and int(name) not in self._image.brokers:
            raise Refusal(ErrorCode.BROKER_ID_NOT_REGISTERED, f"No broker with id {name} found.")
        before = self._image.config(ConfigResource(ResourceType.BROKER, name))
        if name and self._image.has_elr and before.get(MIN_INSYNC_REPLICAS) != after.get(MIN_INSYNC_REPLICAS):
            # Eligible leaders are sound only if every leader waits for as many replicas as we think here.
            raise Refusal(
                ErrorCode.INVALID_CONFIG,
                f"Broker-level {MIN_INSYNC_REPLICAS} cannot be altered while ELR is enabled.",
            )
        if not name and self._image.has_elr and MIN_INSYNC_REPLICAS in before.keys() - after.keys():
            # What each broker was started with may differ, and so may what leaders wait for.
            raise Refusal(
                ErrorCode.INVALID_CONFIG,
                f"Cluster-level {MIN_INSYNC_REPLICAS} cannot be removed while ELR is enabled.",
            )
        for key in after:
            if key not in PROPERTY_NAMES:
                raise Refusal(ErrorCode.INVALID_CONFIG, f"Unknown broker config name: {key}")
            if key not in ALTERABLE and key not in before:
                raise Refusal(ErrorCode.INVALID_REQUEST, f"Cannot update these configs dynamically: [{key}]")
        try:
            self._config.altered(after)
        except UsageError as error:
            raise Refusal(ErrorCode.INVALID_REQUEST, error.message) from None


class _Batch:
    """What all resources of a request come to."""

    def __init__(self) -> None:
        self.records: list[ConfigRecord] = []
        self.after: dict[ConfigResource, Mapping[str, str]] = {}

    def add(
        self, resource: ConfigResource, after: Mapping[str, str], records: Iterable[ConfigRecord]
    ) -> None:
        self.records += records
        self.after[resource] = after


def _check_once(times: int) -> None:
    """A resource that is named more than once is refused wherever it stands."""
    if times != 1:
        raise Refusal(ErrorCode.INVALID_REQUEST, "Duplicate resource.")


def _check_keys(names: Iterable[str]) -> None:
    if any(times > 1 for times in Counter(names).values()):
        raise Refusal(ErrorCode.INVALID_REQUEST, "Error due to duplicate config keys")


def _check_values(configs: Iterable[tuple[str, str | None]]) -> None:
    without = [name for name, value in configs if value is None]
    if without:
        raise Refusal(ErrorCode.INVALID_REQUEST, f"Null value not supported for : {','.join(without)}")


def _split(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
