"""The way from share groups to the states of their share-partitions, which share coordinators keep.

What a group decides about states (`coordination/group/share`) is a command: begin these, delete those. Here
it is carried out, however long that takes, and the group is told what became of it. A shard that was loaded
anew meanwhile has forgotten the command, refused whoever waited for it, and asks again by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from streamkit.broker.coordination.group.coordinator import GroupCoordinator
from streamkit.broker.coordination.group.share.offsets import DeleteStates
from streamkit.broker.coordination.group.share.target import InitializeStates
from streamkit.broker.coordination.shard import Decision
from streamkit.broker.server.coordinators.hosted_shard import HostedShard
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


class Work(NamedTuple):
    """A command of a group, and the shard that it came from, as it was then."""

    command: InitializeStates | DeleteStates
    shard: HostedShard[GroupCoordinator]
    decided_by: GroupCoordinator


class ShareGroupStates:
    """Commands of one group are carried out one after the other, in the order of their decisions: a state
    that is wanted again must not be deleted by what was decided before.

    `persister` gives the way to the share coordinators, once there is one.
    """

    def __init__(self, persister: Callable[[], Persister], spawn: Spawn) -> None:
        self._persister = persister
        self._spawn = spawn
        self._queues: dict[str, deque[Work]] = {}
        """Of each group that has anything to do."""

    def start(self, command: InitializeStates | DeleteStates, shard: HostedShard[GroupCoordinator]) -> None:
        if shard.coordinator is None:
            return
        group_id, work = command.request.group_id, Work(command, shard, shard.coordinator)
        if group_id in self._queues:
            self._queues[group_id].append(work)
            return
        self._queues[group_id] = deque([work])
        self._spawn.start(self._drain(group_id), name=f"share states of {group_id}")

    async def _drain(self, group_id: str) -> None:
        queue = self._queues[group_id]
        try:
            while queue:
                command, shard, decided_by = queue.popleft()
                tell = await self._carried_out(command)
                if shard.coordinator is decided_by:
                    shard.tell(tell)
        finally:
            del self._queues[group_id]

    async def _carried_out(
        self, command: InitializeStates | DeleteStates
    ) -> Callable[[GroupCoordinator, Decision], None]:
        if isinstance(command, InitializeStates):
            begun = await self._persister().initialize(command.request)
            return lambda groups, decision: groups.shares.initialized(command, begun, decision)
        deleted = await self._persister().delete(command.request)
        return lambda groups, decision: groups.shares.deleted(command, deleted, decision)
