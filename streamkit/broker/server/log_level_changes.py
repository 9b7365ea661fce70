"""The levels of this broker's loggers, altered like a configuration and gone with the process (KIP-412)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from streamkit.broker.controller.config_decisions import Operation
from streamkit.broker.controller.decision import Refusal
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.incremental_alter_configs import AlterableConfig, AlterConfigsResource
from streamkit.telemetry.log_levels import LEVELS, ROOT, log_levels

VALID_LEVELS: Final = ", ".join(sorted(LEVELS))


def alter_log_levels(resource: AlterConfigsResource, *, node_id: int, validate_only: bool) -> None:
    """Raises Refusal, and then nothing is altered."""
    if not resource.resource_name.removeprefix("-").isdecimal():
        raise Refusal(
            ErrorCode.INVALID_REQUEST, f"Node id must be an integer, but it is: {resource.resource_name}"
        )
    if resource.resource_name != str(node_id):
        raise Refusal(
            ErrorCode.INVALID_REQUEST,
            f"Unexpected node id. Expected {node_id}, but received {resource.resource_name}",
        )
    changes = dict(_changes(resource.configs))
    if not validate_only:
        for name, level in changes.items():
            log_levels.set(name, level)


def _changes(configs: Iterable[AlterableConfig]) -> Iterable[tuple[str, str | None]]:
    known = log_levels.known()
    for config in configs:
        if config.config_operation in (Operation.APPEND, Operation.SUBTRACT):
            operation = Operation(config.config_operation).name
            raise Refusal(
                ErrorCode.INVALID_REQUEST,
                f"{operation} operation is not allowed for the BROKER_LOGGER resource",
            )
        if config.config_operation not in (Operation.SET, Operation.DELETE):
            raise Refusal(ErrorCode.INVALID_REQUEST, f"Unknown operations type {config.config_operation}")
        if config.name not in known:
            raise Refusal(ErrorCode.INVALID_CONFIG, f"Logger {config.name} does not exist!")
        yield config.name, _level(config)


def _level(config: AlterableConfig) -> str | None:
    if config.config_operation == Operation.DELETE:
        if config.name == ROOT:
            raise Refusal(
                ErrorCode.INVALID_REQUEST, "Removing the log level of the root logger is not allowed"
            )
        return None
    if config.value not in LEVELS:
        raise Refusal(
            ErrorCode.INVALID_CONFIG,
            f"Cannot set the log level of {config.name} to {config.value} as it is not a supported log "
            f"level. Valid log levels are {VALID_LEVELS}",
        )
    return config.value
