"""The five APIs of a share coordinator (83–87), as one: what each asks a shard, and how its answer is made.

All of them name a group and share-partitions of it, and answer partition by partition. A share-partition's
shard is found by a key of its own, `group:topicId:partition`, so one request may need many.
"""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from streamkit.broker.coordination.shard import Decision, Refusal, Token
from streamkit.broker.coordination.share.coordinator import ShareCoordinator
from streamkit.broker.coordination.share.states import SharePartitionKey
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages import (
    delete_share_group_state,
    initialize_share_group_state,
    read_share_group_state,
    read_share_group_state_summary,
    write_share_group_state,
)
from streamkit.protocol.schema import Message

if TYPE_CHECKING:
    from streamkit.broker.server.share.coordinator_host import ShareCoordinatorHost

Wanted: TypeAlias = Any
"""A `PartitionData` of one of the APIs."""
Result: TypeAlias = Any
"""A `PartitionResult` of one of them."""
Key: TypeAlias = SharePartitionKey

UUID_LENGTH: Final = 22


class StateApi(NamedTuple):
    """One of the APIs: its messages, the version spoken between brokers, and what decides."""

    key: ApiKey
    version: int
    request: Any
    topic: Any
    response: Any
    topic_result: Any
    result: Any
    decide: Callable[[ShareCoordinator, Key, Wanted, Token, Decision], None]

    def wanted(self, message: Any) -> dict[Key, Wanted]:
        return {
            SharePartitionKey(message.group_id, topic.topic_id, one.partition): one
            for topic in message.topics
            for one in topic.partitions
        }

    def request_for(self, group_id: str, wanted: Mapping[Key, Wanted]) -> Message:
        topics = [
            self.topic(topic_id=topic_id, partitions=partitions)
            for topic_id, partitions in _by_topic(wanted.items())
        ]
        return self.request(group_id=group_id, topics=topics)  # type: ignore[no-any-return]

    def response_of(self, results: Mapping[Key, Result]) -> Any:
        topics = [
            self.topic_result(topic_id=topic_id, partitions=partitions)
            for topic_id, partitions in _by_topic(results.items())
        ]
        return self.response(results=topics)

    def results_in(self, group_id: str, response: Any) -> dict[Key, Result]:
        return {
            SharePartitionKey(group_id, topic.topic_id, one.partition): one
            for topic in response.results
            for one in topic.partitions
        }

    def refused(self, key: Key, code: ErrorCode, reason: str | None = None) -> Result:
        return self.result(partition=key.partition, error_code=code, error_message=reason or code.name)


def _by_topic(items: Iterable[tuple[Key, Any]]) -> Iterable[tuple[bytes, list[Any]]]:
    topics: dict[bytes, list[Any]] = {}
    for key, one in items:
        topics.setdefault(key.topic_id, []).append(one)
    return topics.items()


INITIALIZE: Final = StateApi(
    ApiKey.INITIALIZE_SHARE_GROUP_STATE,
    0,
    initialize_share_group_state.InitializeShareGroupStateRequest,
    initialize_share_group_state.InitializeStateData,
    initialize_share_group_state.InitializeShareGroupStateResponse,
    initialize_share_group_state.InitializeStateResult,
    initialize_share_group_state.PartitionResult,
    ShareCoordinator.initialize,
)
READ: Final = StateApi(
    ApiKey.READ_SHARE_GROUP_STATE,
    0,
    read_share_group_state.ReadShareGroupStateRequest,
    read_share_group_state.ReadStateData,
    read_share_group_state.ReadShareGroupStateResponse,
    read_share_group_state.ReadStateResult,
    read_share_group_state.PartitionResult,
    ShareCoordinator.read,
)
WRITE: Final = StateApi(
    ApiKey.WRITE_SHARE_GROUP_STATE,
    1,
    write_share_group_state.WriteShareGroupStateRequest,
    write_share_group_state.WriteStateData,
    write_share_group_state.WriteShareGroupStateResponse,
    write_share_group_state.WriteStateResult,
    write_share_group_state.PartitionResult,
    ShareCoordinator.write,
)
DELETE: Final = StateApi(
    ApiKey.DELETE_SHARE_GROUP_STATE,
    0,
    delete_share_group_state.DeleteShareGroupStateRequest,
    delete_share_group_state.DeleteStateData,
    delete_share_group_state.DeleteShareGroupStateResponse,
    delete_share_group_state.DeleteStateResult,
    delete_share_group_state.PartitionResult,
    ShareCoordinator.delete,
)
SUMMARIZE: Final = StateApi(
    ApiKey.READ_SHARE_GROUP_STATE_SUMMARY,
    1,
    read_share_group_state_summary.ReadShareGroupStateSummaryRequest,
    read_share_group_state_summary.ReadStateSummaryData,
    read_share_group_state_summary.ReadShareGroupStateSummaryResponse,
    read_share_group_state_summary.ReadStateSummaryResult,
    read_share_group_state_summary.PartitionResult,
    ShareCoordinator.summarize,
)


async def answer(
    host: ShareCoordinatorHost, api: StateApi, wanted: Mapping[Key, Wanted]
) -> dict[Key, Result]:
    """What the shards led here say of each share-partition; never raises."""
    asked = [_ask(host, api, key, one) for key, one in wanted.items()]
    return dict(zip(wanted, await asyncio.gather(*asked), strict=True))


async def _ask(host: ShareCoordinatorHost, api: StateApi, key: Key, wanted: Wanted) -> Result:
    def decide(coordinator: ShareCoordinator, token: Token, decision: Decision) -> None:
        api.decide(coordinator, key, wanted, token, decision)

    try:
        return await host.ask(coordinator_key(key), decide)
    except Refusal as refusal:
        return api.refused(key, refusal.code, str(refusal))


def coordinator_key(key: Key) -> str:
    """By what the coordinator of a share-partition is found."""
    topic_id = urlsafe_b64encode(key.topic_id).decode().rstrip("=")
    return f"{key.group_id}:{topic_id}:{key.partition}"


def is_coordinator_key(text: str) -> bool:
    """Whether it names a group, a topic's id and a partition."""
    group_id, _, rest = text.partition(":")
    topic_id, colon, partition = rest.partition(":")
    if not (group_id and colon and len(topic_id) == UUID_LENGTH and partition.isdecimal()):
        return False
    try:
        return len(urlsafe_b64decode(topic_id + "==")) == 16
    except ValueError:
        return False
