"""AlterConfigs (33), IncrementalAlterConfigs (44): by the controller, but for what is one process's own.

The configuration of a single broker is altered where it applies, so that one that nobody runs is not altered
by mistake; the levels of its loggers live in its process and in no log. Everything else any broker passes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec.structs import replace

from streamkit.broker.controller.decision import Refusal
from streamkit.broker.controller.image import ResourceType
from streamkit.broker.server.cluster.passing_on import pass_on
from streamkit.broker.server.dispatch import InnerRequest, RequestContext, Route
from streamkit.broker.server.log_level_changes import alter_log_levels
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages import alter_configs as replacing
from streamkit.protocol.messages import incremental_alter_configs as incremental

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker

Outcome: TypeAlias = tuple[ErrorCode, str | None]


# -- at the broker that is asked -----------------------------------------------------------------------------


async def replace_anywhere(
    broker: Broker, request: RequestContext, message: replacing.AlterConfigsRequest
) -> replacing.AlterConfigsResponse:
    answers = await _answers(
        broker, request, message, lambda one: _elsewhere(broker, one), replacing.AlterConfigsResourceResponse
    )
    return replacing.AlterConfigsResponse(responses=answers)


async def alter_anywhere(
    broker: Broker, request: RequestContext, message: incremental.IncrementalAlterConfigsRequest
) -> incremental.IncrementalAlterConfigsResponse:
    times = Counter((one.resource_type, one.resource_name) for one in message.resources)

    def here(one: incremental.AlterConfigsResource) -> Outcome | None:
        is_once = times[one.resource_type, one.resource_name] == 1
        if one.resource_type != ResourceType.BROKER_LOGGER or not is_once:
            return _elsewhere(broker, one)
        try:
            alter_log_levels(one, node_id=broker.config.node_id, validate_only=message.validate_only)
        except Refusal as refusal:
            return refusal.code, refusal.message
        return ErrorCode.NONE, None

    answers = await _answers(broker, request, message, here, incremental.AlterConfigsResourceResponse)
    return incremental.IncrementalAlterConfigsResponse(responses=answers)


def _elsewhere(broker: Broker, resource: Any) -> Outcome | None:
    """Why this broker does not pass a resource on; None if it does."""
    own, name = str(broker.config.node_id), resource.resource_name
    if resource.resource_type != ResourceType.BROKER or name in ("", own):
        return None
    if not name.removeprefix("-").isdecimal():
        return ErrorCode.INVALID_REQUEST, f"Node id must be an integer, but it is: {name}"
    return ErrorCode.INVALID_REQUEST, f"Unexpected broker id, expected {own}, but received {name}"


async def _answers(
    broker: Broker,
    request: RequestContext,
    message: Any,
    here: Callable[[Any], Outcome | None],
    response: Callable[..., Any],
) -> list[Any]:
    """What `here` says of each resource, and the controller of the others, in the request's order."""
    outcomes = [here(one) for one in message.resources]
    passed_on = [one for one, outcome in zip(message.resources, outcomes, strict=True) if outcome is None]
    decided: Iterator[Any] = iter(())
    if passed_on:
        whole: Any = await pass_on(broker, request, replace(message, resources=passed_on))
        decided = iter(whole.responses)
    answers: list[Any] = []
    for one, outcome in zip(message.resources, outcomes, strict=True):
        if outcome is None:
            answers.append(next(decided))
            continue
        code, reason = outcome
        if code is not ErrorCode.NONE:
            broker.count_failure(ApiKey(message.KEY), code)
        answers.append(
            response(
                error_code=code,
                error_message=reason,
                resource_type=one.resource_type,
                resource_name=one.resource_name,
            )
        )
    return answers


# -- at the controller ---------------------------------------------------------------------------------------


async def replace_configs(
    broker: Broker, request: InnerRequest, message: replacing.AlterConfigsRequest
) -> replacing.AlterConfigsResponse:
    response = await broker.controller.submit(lambda controller: controller.replace_configs(message))
    broker.count_failures(ApiKey.ALTER_CONFIGS, (one.error_code for one in response.responses))
    return response


async def alter_configs(
    broker: Broker, request: InnerRequest, message: incremental.IncrementalAlterConfigsRequest
) -> incremental.IncrementalAlterConfigsResponse:
    response = await broker.controller.submit(lambda controller: controller.alter_configs(message))
    broker.count_failures(ApiKey.INCREMENTAL_ALTER_CONFIGS, (one.error_code for one in response.responses))
    return response


ROUTES = (
    Route(ApiKey.ALTER_CONFIGS, 0, 2, replace_anywhere),
    Route(ApiKey.INCREMENTAL_ALTER_CONFIGS, 0, 1, alter_anywhere),
)
CONTROLLER_ROUTES = (
    Route(ApiKey.ALTER_CONFIGS, 0, 2, replace_configs, by_controller=True),
    Route(ApiKey.INCREMENTAL_ALTER_CONFIGS, 0, 1, alter_configs, by_controller=True),
)
