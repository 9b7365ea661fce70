"""The states of share-partitions, for the other brokers: 83 to 87."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from streamkit.broker.server.dispatch import RequestContext, Route
from streamkit.broker.server.share.states import (
    DELETE,
    INITIALIZE,
    READ,
    SUMMARIZE,
    WRITE,
    StateApi,
    answer,
)
from streamkit.protocol.schema import Message

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker


def _answering(api: StateApi) -> Callable[[Broker, RequestContext, Any], Awaitable[Message]]:
    async def handle(broker: Broker, request: RequestContext, message: Any) -> Message:
        wanted = api.wanted(message) if message.group_id else {}  # as Kafka: nothing is said of no group
        results = await answer(broker.share_states, api, wanted)
        broker.count_failures(api.key, (one.error_code for one in results.values()))
        return api.response_of(results)  # type: ignore[no-any-return]

    return handle


ROUTES = tuple(
    Route(api.key, 0, api.version, _answering(api)) for api in (INITIALIZE, READ, WRITE, DELETE, SUMMARIZE)
)
