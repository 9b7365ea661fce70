"""Asking the coordinators of share-partitions, wherever they are, and again where they move (KIP-932).

Whoever leads a share-partition reads its state here once and writes every change; the group's coordinator
begins and forgets states, and sums them up. Each share-partition of a request is asked of its own
coordinator: directly where that is this broker. What every API does may be done twice: a write that is
repeated says nothing new, and an older one takes nothing back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from streamkit.broker.coordination.shard import Refusal
from streamkit.broker.server.cluster.broker_links import BrokerLinks
from streamkit.broker.server.share.coordinator_host import ShareCoordinatorHost
from streamkit.broker.server.share.states import (
    DELETE,
    INITIALIZE,
    READ,
    SUMMARIZE,
    WRITE,
    Key,
    Result,
    StateApi,
    Wanted,
    answer,
    coordinator_key,
)
from streamkit.net.peer import PeerError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.delete_share_group_state import (
    DeleteShareGroupStateRequest,
    DeleteShareGroupStateResponse,
)
from streamkit.protocol.messages.initialize_share_group_state import (
    InitializeShareGroupStateRequest,
    InitializeShareGroupStateResponse,
)
from streamkit.protocol.messages.read_share_group_state import (
    ReadShareGroupStateRequest,
    ReadShareGroupStateResponse,
)
from streamkit.protocol.messages.read_share_group_state_summary import (
    ReadShareGroupStateSummaryRequest,
    ReadShareGroupStateSummaryResponse,
)
from streamkit.protocol.messages.write_share_group_state import (
    WriteShareGroupStateRequest,
    WriteShareGroupStateResponse,
)

PATIENCE_S: Final = 15.0
"""How long a coordinator is looked for; less than clients wait for an answer."""
FIRST_BACKOFF_S: Final = 0.02
LONGEST_BACKOFF_S: Final = 0.5
CALL_TIMEOUT_MS: Final = 5_000
PASSING: Final = frozenset(
    (
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    )
)
"""The coordinator has moved, or is about to be one."""


class SharePersister:
    """Never raises: every share-partition named has its result, an error if none succeeded in time."""

    def __init__(self, host: ShareCoordinatorHost, links: BrokerLinks, *, node_id: int) -> None:
        self._host = host
        self._links = links
        self._node_id = node_id

    async def initialize(
        self, message: InitializeShareGroupStateRequest
    ) -> InitializeShareGroupStateResponse:
        return await self._ask(INITIALIZE, message)  # type: ignore[no-any-return]

    async def read(self, message: ReadShareGroupStateRequest) -> ReadShareGroupStateResponse:
        return await self._ask(READ, message)  # type: ignore[no-any-return]

    async def write(self, message: WriteShareGroupStateRequest) -> WriteShareGroupStateResponse:
        return await self._ask(WRITE, message)  # type: ignore[no-any-return]

    async def delete(self, message: DeleteShareGroupStateRequest) -> DeleteShareGroupStateResponse:
        return await self._ask(DELETE, message)  # type: ignore[no-any-return]

    async def read_summary(
        self, message: ReadShareGroupStateSummaryRequest
    ) -> ReadShareGroupStateSummaryResponse:
        return await self._ask(SUMMARIZE, message)  # type: ignore[no-any-return]

    async def _ask(self, api: StateApi, message: Any) -> Any:
        results: dict[Key, Result] = {}
        pending = api.wanted(message)
        loop = asyncio.get_running_loop()
        patience_ends_s, backoff_s = loop.time() + PATIENCE_S, FIRST_BACKOFF_S
        while True:
            results |= await self._attempt(api, message.group_id, pending)
            pending = {key: one for key, one in pending.items() if results[key].error_code in PASSING}
            if not pending or loop.time() >= patience_ends_s:
                return api.response_of(results)
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, LONGEST_BACKOFF_S)

    async def _attempt(self, api: StateApi, group_id: str, wanted: Mapping[Key, Wanted]) -> dict[Key, Result]:
        """Ask each share-partition's coordinator once."""
        by_node: dict[int, dict[Key, Wanted]] = {}
        results: dict[Key, Result] = {}
        for key, one in wanted.items():
            try:
                node_id = await self._host.find(coordinator_key(key))
            except Refusal as refusal:
                results[key] = api.refused(key, refusal.code)
            else:
                by_node.setdefault(node_id, {})[key] = one
        asked = [self._ask_node(api, node_id, group_id, some) for node_id, some in by_node.items()]
        for answered in await asyncio.gather(*asked):
            results |= answered
        return results

    async def _ask_node(
        self, api: StateApi, node_id: int, group_id: str, wanted: Mapping[Key, Wanted]
    ) -> dict[Key, Result]:
        if node_id == self._node_id:
            return await answer(self._host, api, wanted)
        results = {key: api.refused(key, ErrorCode.COORDINATOR_NOT_AVAILABLE) for key in wanted}
        try:
            response = await self._links.call(
                node_id, api.request_for(group_id, wanted), api.version, CALL_TIMEOUT_MS
            )
        except PeerError:
            return results
        return results | api.results_in(group_id, response)
