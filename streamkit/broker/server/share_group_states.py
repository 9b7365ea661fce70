"""The way from share groups to the states of their share-partitions, which share coordinators keep.

What a group decides about states (`coordination/group/share`) is a command: begin these, delete those. Here
it is carried out, however long that takes, and the group is told what became of it. A shard that was loaded
anew meanwhile has forgotten the command, refused whoever waited for it, and asks again by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from streamkit.broker.coordination.group.coordinator import GroupCoordinator
from streamkit.broker.coordination.group.share.offsets import DeleteStates
from streamkit.broker.coordination.group.share.target import InitializeStates
from streamkit.broker.coordination.shard import Decision
from streamkit.broker.server.hosted_shard import HostedShard
from streamkit.protocol.messages.delete_share_group_state import (
    DeleteShareGroupStateRequest,
    DeleteShareGroupStateResponse,
)
from streamkit.protocol.messages.initialize_share_group_state import (
    InitializeShareGroupStateRequest,
    InitializeShareGroupStateResponse,
)
from streamkit.runtime.contracts.spawn import Spawn


class Persister(Protocol):
    """Never raises: every share-partition named has its result, an error if none succeeded in time."""

    async def initialize(
        self, message: InitializeShareGroupStateRequest
    ) -> InitializeShareGroupStateResponse: ...

    async def delete(self, message: DeleteShareGroupStateRequest) -> DeleteShareGroupStateResponse: ...


class ShareGroupStates:
    """`persister` gives the way to the share coordinators, once there is one."""

    def __init__(self, persister: Callable[[], Persister], spawn: Spawn) -> None:
        self._persister = persister
        self._spawn = spawn

    def start(self, command: InitializeStates | DeleteStates, shard: HostedShard[GroupCoordinator]) -> None:
        decided_by = shard.coordinator
        if decided_by is None:
            return

        async def work() -> None:
            tell = await self._carried_out(command)
            if shard.coordinator is decided_by:
                shard.tell(tell)

        self._spawn.start(work(), name=f"share states of {command.request.group_id}")

    async def _carried_out(
        self, command: InitializeStates | DeleteStates
    ) -> Callable[[GroupCoordinator, Decision], None]:
        if isinstance(command, InitializeStates):
            begun = await self._persister().initialize(command.request)
            return lambda groups, decision: groups.shares.initialized(command, begun, decision)
        deleted = await self._persister().delete(command.request)
        return lambda groups, decision: groups.shares.deleted(command, deleted, decision)
