"""One error for all of a request: the answer to give where the request was not looked into at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from streamkit.protocol.api import APIS, ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.alter_configs import (
    AlterConfigsRequest,
    AlterConfigsResourceResponse,
    AlterConfigsResponse,
)
from streamkit.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopicResult,
)
from streamkit.protocol.messages.create_topics import (
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from streamkit.protocol.messages.delete_topics import (
    DeletableTopicResult,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DeleteTopicState,
)
from streamkit.protocol.messages.incremental_alter_configs import (
    AlterConfigsResourceResponse as IncrementalAlterConfigsResourceResponse,
)
from streamkit.protocol.messages.incremental_alter_configs import (
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from streamkit.protocol.schema import Message


def refused(message: Message, code: ErrorCode, reason: str | None = None) -> Message:
    """The response to `message` that says `code` of everything that was asked."""
    item_by_item = _ITEM_BY_ITEM.get(message.KEY)
    if item_by_item is not None:
        return item_by_item(message, code, reason)
    response: Any = APIS[message.KEY].response
    return response(error_code=code)  # type: ignore[no-any-return]


def _create_topics(message: CreateTopicsRequest, code: ErrorCode, reason: str | None) -> Message:
    return CreateTopicsResponse(
        topics=[
            CreatableTopicResult(name=topic.name, error_code=code, error_message=reason)
            for topic in message.topics
        ]
    )


def _delete_topics(message: DeleteTopicsRequest, code: ErrorCode, reason: str | None) -> Message:
    targets = [*message.topics, *(DeleteTopicState(name=name) for name in message.topic_names)]
    return DeleteTopicsResponse(
        responses=[
            DeletableTopicResult(
                name=target.name, topic_id=target.topic_id, error_code=code, error_message=reason
            )
            for target in targets
        ]
    )


def _create_partitions(message: CreatePartitionsRequest, code: ErrorCode, reason: str | None) -> Message:
    return CreatePartitionsResponse(
        results=[
            CreatePartitionsTopicResult(name=topic.name, error_code=code, error_message=reason)
            for topic in message.topics
        ]
    )


def _alter_configs(message: AlterConfigsRequest, code: ErrorCode, reason: str | None) -> Message:
    return AlterConfigsResponse(
        responses=[
            AlterConfigsResourceResponse(
                error_code=code,
                error_message=reason,
                resource_type=one.resource_type,
                resource_name=one.resource_name,
            )
            for one in message.resources
        ]
    )


def _incremental_alter_configs(
    message: IncrementalAlterConfigsRequest, code: ErrorCode, reason: str | None
) -> Message:
    return IncrementalAlterConfigsResponse(
        responses=[
            IncrementalAlterConfigsResourceResponse(
                error_code=code,
                error_message=reason,
                resource_type=one.resource_type,
                resource_name=one.resource_name,
            )
            for one in message.resources
        ]
    )


_ITEM_BY_ITEM: Final[Mapping[int, Callable[[Any, ErrorCode, str | None], Message]]] = {
    ApiKey.CREATE_TOPICS: _create_topics,
    ApiKey.DELETE_TOPICS: _delete_topics,
    ApiKey.CREATE_PARTITIONS: _create_partitions,
    ApiKey.ALTER_CONFIGS: _alter_configs,
    ApiKey.INCREMENTAL_ALTER_CONFIGS: _incremental_alter_configs,
}
