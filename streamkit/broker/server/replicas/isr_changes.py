"""Asking the controller for other in-sync replica sets: all that wait in one request, one request at a time.

A leader's proposal stays what it is until it is settled: refused by the answer, or accepted or overtaken by
newer metadata. An answer that says that it is accepted settles nothing, for the metadata that makes it so
may follow other news: with a smaller ISR, and without the larger min.insync.replicas that was decided just
before, a leader would commit what its eligible replicas lack. Nor does one that says that this leader is out
of date. A request without an answer may have been carried out, so it is simply made again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog

from streamkit.broker.server.replicas.partition_actor import PartitionActor
from streamkit.errors import StreamkitError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.alter_partition import (
    AlterPartitionRequest,
    AlterPartitionRequestPartitionData,
    AlterPartitionRequestTopicData,
    AlterPartitionResponse,
    AlterPartitionResponsePartitionData,
    BrokerState,
)
from streamkit.protocol.schema import Message
from streamkit.runtime.contracts.spawn import Spawn

log_line = structlog.get_logger(__name__)

RETRY_S: Final = 0.5
REFUSALS: Final = (
    ErrorCode.INELIGIBLE_REPLICA,
    ErrorCode.OPERATION_NOT_ATTEMPTED,
    ErrorCode.INVALID_REQUEST,
)
OUT_OF_DATE: Final = (
    ErrorCode.INVALID_UPDATE_VERSION,
    ErrorCode.FENCED_LEADER_EPOCH,
    ErrorCode.NEW_LEADER_ELECTED,
    ErrorCode.UNKNOWN_TOPIC_ID,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
)

Key = tuple[bytes, int]


class IsrChanges:
    def __init__(
        self,
        ask: Callable[[Message], Awaitable[Any]],
        *,
        node_id: int,
        broker_epoch: Callable[[], int],
        spawn: Spawn,
    ) -> None:
        """`ask` gives a request to the active controller."""
        self._ask = ask
        self._node_id = node_id
        self._broker_epoch = broker_epoch
        self._spawn = spawn
        self._waiting: dict[Key, PartitionActor] = {}
        self._is_running = False

    def propose(self, actor: PartitionActor) -> None:
        """Ask for what the actor's leader proposes; what is asked already is not asked twice."""
        self._waiting[actor.log.topic_id, actor.log.partition] = actor
        if not self._is_running:
            self._is_running = True
            self._spawn.start(self._run(), name="isr changes")

    async def _run(self) -> None:
        try:
            while self._waiting:
                asked, self._waiting = self._waiting, {}
                if not await self._settled(asked):
                    await asyncio.sleep(RETRY_S)
        finally:
            self._is_running = False

    async def _settled(self, asked: dict[Key, PartitionActor]) -> bool:
        """Ask once; whether nothing of it must be asked again."""
        request = self._request(asked)
        if not request.topics:
            return True
        try:
            response: AlterPartitionResponse = await self._ask(request)
        except StreamkitError as error:
            log_line.info("no controller for another ISR", reason=error.message)
            self._again(asked)
            return False
        if response.error_code != ErrorCode.NONE:
            log_line.info("another ISR refused", error=_name(response.error_code))
            self._again(asked)
            return False
        answers = {
            (topic.topic_id, one.partition_index): one
            for topic in response.topics
            for one in topic.partitions
        }
        unsettled = {key: actor for key, actor in asked.items() if not _applied(actor, answers.get(key))}
        self._again(unsettled)
        return not unsettled

    def _again(self, actors: dict[Key, PartitionActor]) -> None:
        self._waiting = {**actors, **self._waiting}

    def _request(self, asked: dict[Key, PartitionActor]) -> AlterPartitionRequest:
        topics: dict[bytes, list[AlterPartitionRequestPartitionData]] = {}
        for (topic_id, partition), actor in asked.items():
            proposal = None if actor.leader is None else actor.leader.proposal
            if proposal is None:
                continue
            topics.setdefault(topic_id, []).append(
                AlterPartitionRequestPartitionData(
                    partition_index=partition,
                    leader_epoch=proposal.leader_epoch,
                    partition_epoch=proposal.partition_epoch,
                    new_isr_with_epochs=[
                        BrokerState(
                            broker_id=broker_id,
                            broker_epoch=self._broker_epoch() if broker_id == self._node_id else epoch,
                        )
                        for broker_id, epoch in proposal.isr
                    ],
                )
            )
        return AlterPartitionRequest(
            broker_id=self._node_id,
            broker_epoch=self._broker_epoch(),
            topics=[
                AlterPartitionRequestTopicData(topic_id=topic_id, partitions=some)
                for topic_id, some in topics.items()
            ],
        )


def _applied(actor: PartitionActor, answer: AlterPartitionResponsePartitionData | None) -> bool:
    """Take over what the controller answered; False if it must be asked again."""
    leader = actor.leader
    if leader is None or leader.proposal is None:
        return True
    if answer is None:
        return False
    code = answer.error_code
    if code == ErrorCode.NONE:
        if answer.leader_epoch != leader.leader_epoch:
            return True  # what ends this epoch is on its way
        if answer.partition_epoch <= leader.partition_epoch:
            leader.refused()
        return True
    log_line.info("another ISR refused", log=actor.log.name, error=_name(code))
    if code in REFUSALS:
        leader.refused()
        return True
    return code in OUT_OF_DATE


def _name(code: int) -> str:
    return str(ErrorCode(code).name)  # type: ignore[call-arg]  # looked up by value
