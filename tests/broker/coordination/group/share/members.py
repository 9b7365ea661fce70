"""Members of a share group, as clients play them, and share coordinators, for the harness."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamkit.broker.coordination.group.modern.partitions import Partition
from streamkit.broker.coordination.group.share.group import ShareGroup
from streamkit.broker.coordination.group.share.offsets import DeleteStates
from streamkit.broker.coordination.group.share.target import InitializeStates
from streamkit.broker.coordination.group.vocabulary import Caller
from streamkit.broker.coordination.shard import Decision
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages import delete_share_group_state as deleting
from streamkit.protocol.messages import initialize_share_group_state as initializing
from streamkit.protocol.messages.share_group_describe import DescribedGroup
from streamkit.protocol.messages.share_group_heartbeat import (
    ShareGroupHeartbeatRequest,
    ShareGroupHeartbeatResponse,
)
from streamkit.protocol.schema import Message
from tests.broker.coordination.group.harness import GROUP, Coordinator, Waiter

SESSION_MS = 45_000
HEARTBEAT_MS = 5000


def heartbeat(coordinator: Coordinator, **fields: object) -> ShareGroupHeartbeatResponse:
    """One request, and its answer, which never has to wait."""
    request = ShareGroupHeartbeatRequest(group_id=GROUP, **fields)  # type: ignore[arg-type]
    caller = Caller(1, "client", "/127.0.0.1", coordinator.fresh_id())
    waiter, decision = Waiter(), Decision(coordinator.at)
    coordinator.shard.shares.heartbeat(request, caller, waiter, decision)
    coordinator.settle(decision)
    coordinator.tick()
    answer = waiter.answer()
    assert isinstance(answer, ShareGroupHeartbeatResponse)
    return answer


def group_of(coordinator: Coordinator) -> ShareGroup:
    group = coordinator.shard.groups[GROUP]
    assert isinstance(group, ShareGroup)
    return group


def describe(coordinator: Coordinator) -> DescribedGroup:
    waiter, decision = Waiter(), Decision(coordinator.at)
    coordinator.shard.shares.describe(GROUP, waiter, decision)
    coordinator.settle(decision)
    answer = waiter.answer()
    assert isinstance(answer, DescribedGroup)
    return answer


@dataclass
class Player:
    """A member that follows the protocol: it looks into what it was told."""

    coordinator: Coordinator
    member_id: str
    topics: list[str] = field(default_factory=lambda: ["topic"])
    epoch: int = 0
    has: set[Partition] = field(default_factory=set)

    def beat(self) -> ShareGroupHeartbeatResponse:
        answer = heartbeat(
            self.coordinator,
            member_id=self.member_id,
            member_epoch=self.epoch,
            subscribed_topic_names=self.topics if self.epoch == 0 else None,
        )
        self.hear(answer)
        return answer

    def subscribe(self, *topics: str) -> None:
        self.topics = list(topics)
        self.hear(
            heartbeat(
                self.coordinator,
                member_id=self.member_id,
                member_epoch=self.epoch,
                subscribed_topic_names=self.topics,
            )
        )

    def hear(self, answer: ShareGroupHeartbeatResponse) -> None:
        if answer.error_code != ErrorCode.NONE:
            self.epoch, self.has = 0, set()
            return
        self.epoch = answer.member_epoch
        if answer.assignment is not None:
            self.has = {
                Partition(topic.topic_id, number)
                for topic in answer.assignment.topic_partitions
                for number in topic.partitions
            }

    def leave(self) -> int:
        answer = heartbeat(self.coordinator, member_id=self.member_id, member_epoch=-1)
        self.epoch, self.has = 0, set()
        return answer.error_code

    @property
    def numbers(self) -> list[int]:
        return sorted(partition.number for partition in self.has)


class States:
    """All share coordinators in one: what was begun, at which offset and in which state epoch."""

    def __init__(self, coordinator: Coordinator) -> None:
        self.coordinator = coordinator
        self.begun: dict[Partition, tuple[int, int]] = {}
        self.broken = False

    def answer(self, most: int = 99) -> int:
        """Do what the group asked for, in order; how much that was."""
        commands = self.coordinator.commands[:most]
        del self.coordinator.commands[:most]
        for command in commands:
            decision = Decision(self.coordinator.at)
            if isinstance(command, InitializeStates):
                self.coordinator.shard.shares.initialized(command, self._begin(command), decision)
            else:
                assert isinstance(command, DeleteStates)
                self.coordinator.shard.shares.deleted(command, self._delete(command), decision)
            self.coordinator.settle(decision)
        return len(commands)

    @property
    def code(self) -> ErrorCode:
        return ErrorCode.COORDINATOR_NOT_AVAILABLE if self.broken else ErrorCode.NONE

    def _begin(self, command: InitializeStates) -> initializing.InitializeShareGroupStateResponse:
        results = []
        for topic in command.request.topics:
            parts = []
            for one in topic.partitions:
                if not self.broken:
                    self.begun[Partition(topic.topic_id, one.partition)] = (one.state_epoch, one.start_offset)
                parts.append(initializing.PartitionResult(partition=one.partition, error_code=self.code))
            results.append(initializing.InitializeStateResult(topic_id=topic.topic_id, partitions=parts))
        return initializing.InitializeShareGroupStateResponse(results=results)

    def _delete(self, command: DeleteStates) -> deleting.DeleteShareGroupStateResponse:
        results = []
        for topic in command.request.topics:
            parts = []
            for one in topic.partitions:
                if not self.broken:
                    self.begun.pop(Partition(topic.topic_id, one.partition), None)
                parts.append(deleting.PartitionResult(partition=one.partition, error_code=self.code))
            results.append(deleting.DeleteStateResult(topic_id=topic.topic_id, partitions=parts))
        return deleting.DeleteShareGroupStateResponse(results=results)


def settle(states: States, *players: Player, rounds: int = 8) -> None:
    """Everybody beats, and what was asked for is done, until nobody learns anything new."""
    for _ in range(rounds):
        before = [(player.epoch, set(player.has)) for player in players]
        for player in players:
            assert player.beat().error_code == ErrorCode.NONE
        did_something = states.answer()
        if not did_something and before == [(player.epoch, set(player.has)) for player in players]:
            return
    raise AssertionError(f"not settled within {rounds} rounds: {players}")


def ask(coordinator: Coordinator, method: str, request: Message | str) -> Waiter:
    """An operator's request; it may have to wait for share coordinators."""
    waiter, decision = Waiter(), Decision(coordinator.at)
    if method == "delete_group":
        assert isinstance(request, str)
        coordinator.shard.delete(request, waiter, decision)
    else:
        getattr(coordinator.shard.shares, method)(request, waiter, decision)
    coordinator.settle(decision)
    return waiter
