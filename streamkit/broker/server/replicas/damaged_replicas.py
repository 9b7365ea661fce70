"""Replicas whose logs are damaged: told to the controller, set aside, and fetched anew from their leaders.

    a log is offline ──► tell the controller that it is lost ──► another leads, and nobody counts on this one
        ──► its directory is set aside (`…-damaged`), an empty log follows the leader ──► in sync again

Damage is found by recovery, by a read, or by the look that is taken at everything that was found on disk; a
start waits a little for that. It is told before the broker goes live, so no such replica is elected. While
this one is the last that may hold all that was committed, the controller does not let it go: the partition
halts and nothing is set aside. A log that is offline for another reason (it could not be opened) gives its
leadership away just so, but is left as it is for the next start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import structlog

from streamkit.broker.controller.image import MetadataImage
from streamkit.broker.controller.lost_replicas import LOST
from streamkit.broker.server.replicas.partition_actor import PartitionActor
from streamkit.broker.server.replicas.partitions import Partitions, counts
from streamkit.broker.storage.errors import LogOfflineError
from streamkit.errors import StreamkitError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.assign_replicas_to_dirs import (
    AssignReplicasToDirsRequest,
    AssignReplicasToDirsRequestDirectoryData,
    AssignReplicasToDirsRequestPartitionData,
    AssignReplicasToDirsRequestTopicData,
    AssignReplicasToDirsResponse,
)
from streamkit.protocol.schema import Message
from streamkit.runtime.contracts.spawn import Spawn

log_line = structlog.get_logger(__name__)

ATTEND_MS: Final = 500
"""How often somebody looks for logs that went offline."""
LOOK_FIRST_S: Final = 0.3
"""How long a start waits for the look at what is on disk."""
PAUSE_S: Final = 0.005
"""After each mebibyte that is looked at in the background."""


class DamagedReplicas:
    def __init__(
        self,
        partitions: Partitions,
        ask: Callable[[Message], Awaitable[Any]],
        *,
        node_id: int,
        broker_epoch: Callable[[], int],
        image: Callable[[], MetadataImage],
        spawn: Spawn,
    ) -> None:
        """`ask` gives a request to the active controller."""
        self._partitions = partitions
        self._ask = ask
        self._node_id = node_id
        self._broker_epoch = broker_epoch
        self._image = image
        self._spawn = spawn
        self._halted: dict[PartitionActor, None] = {}
        self._in_background = False

    async def begin(self) -> None:
        """Look at what is on disk, first in haste and then at leisure; tell of what is damaged already."""
        looking = self._spawn.start(self._look(), name="look at what is on disk")
        loop = asyncio.get_running_loop()
        patience_ends_s = loop.time() + LOOK_FIRST_S
        while not looking.done() and loop.time() < patience_ends_s:
            await asyncio.sleep(PAUSE_S)
        self._in_background = True
        while not await self._told(self._offline()):
            await asyncio.sleep(ATTEND_MS / 1000)

    async def attend(self) -> None:
        """Tell of what went offline, and begin anew what nobody counts on any more."""
        offline = self._offline()
        if offline and await self._told(offline):
            for actor in offline:
                if actor.log.is_damaged:
                    await self._begin_anew(actor)

    async def _begin_anew(self, actor: PartitionActor) -> None:
        try:
            await self._partitions.begin_anew(actor)
        except LogOfflineError as error:
            log_line.error("damaged replica stays as it is", log=actor.log.name, reason=error.message)

    async def _look(self) -> None:
        for actor in self._partitions:
            await actor.log.check_segments(self._pause)

    async def _pause(self) -> None:
        await asyncio.sleep(PAUSE_S if self._in_background else 0)

    def _offline(self) -> list[PartitionActor]:
        return [actor for actor in self._partitions if actor.log.offline_reason]

    async def _told(self, offline: Sequence[PartitionActor]) -> bool:
        """Whether the controller knows of all of these by now."""
        untold = [actor for actor in offline if self._is_counted_on(actor)]
        if not untold:
            return True
        try:
            response: AssignReplicasToDirsResponse = await self._ask(self._request(untold))
        except StreamkitError as error:
            log_line.info("no controller to tell of damage", reason=error.message)
            return False
        if response.error_code != ErrorCode.NONE:
            return False
        codes = {
            (topic.topic_id, one.partition_index): one.error_code
            for directory in response.directories
            for topic in directory.topics
            for one in topic.partitions
        }
        for actor in untold:
            self._heard(actor, codes.get((actor.log.topic_id, actor.log.partition), ErrorCode.NONE))
        return True

    def _is_counted_on(self, actor: PartitionActor) -> bool:
        topic = self._image().topics_by_id.get(actor.log.topic_id)
        if topic is None:
            return False
        registration = topic.partitions[actor.log.partition]
        if registration.replicas == (self._node_id,):
            self._halts(actor)
            return False
        return counts(registration, self._node_id)

    def _heard(self, actor: PartitionActor, code: int) -> None:
        if code == ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE:
            self._halts(actor)

    def _halts(self, actor: PartitionActor) -> None:
        if actor not in self._halted:
            self._halted[actor] = None
            log_line.error(
                "partition halts: no other replica holds all that was acknowledged",
                log=actor.log.name,
                reason=actor.log.offline_reason,
            )

    def _request(self, actors: Sequence[PartitionActor]) -> AssignReplicasToDirsRequest:
        topics: dict[bytes, list[AssignReplicasToDirsRequestPartitionData]] = {}
        for actor in actors:
            one = AssignReplicasToDirsRequestPartitionData(partition_index=actor.log.partition)
            topics.setdefault(actor.log.topic_id, []).append(one)
        lost = [
            AssignReplicasToDirsRequestTopicData(topic_id=topic_id, partitions=some)
            for topic_id, some in topics.items()
        ]
        return AssignReplicasToDirsRequest(
            broker_id=self._node_id,
            broker_epoch=self._broker_epoch(),
            directories=[AssignReplicasToDirsRequestDirectoryData(id=LOST, topics=lost)],
        )
