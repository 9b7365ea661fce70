"""Members of the new protocol, as clients play them, on the coordinator of the harness."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamkit.broker.coordination.group.consumer.group import ConsumerGroup
from streamkit.broker.coordination.group.modern.partitions import Partition
from streamkit.broker.coordination.group.vocabulary import Caller
from streamkit.broker.coordination.shard import Decision
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.consumer_group_describe import DescribedGroup
from streamkit.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatRequestTopicPartitions,
    ConsumerGroupHeartbeatResponse,
)
from streamkit.protocol.messages.list_groups import ListedGroup
from tests.broker.coordination.group.harness import GROUP, Coordinator, Waiter

SESSION_MS = 45_000
HEARTBEAT_MS = 5000
REVOKE_MS = 60_000


def heartbeat(coordinator: Coordinator, version: int = 1, **fields: object) -> ConsumerGroupHeartbeatResponse:
    """One request, and its answer, which never has to wait."""
    request = ConsumerGroupHeartbeatRequest(group_id=GROUP, **fields)  # type: ignore[arg-type]
    waiter, decision = Waiter(), Decision(coordinator.at)
    caller = Caller(version, "client", "/127.0.0.1", coordinator.fresh_id())
    coordinator.shard.consumers.heartbeat(request, caller, waiter, decision)
    coordinator.settle(decision)
    coordinator.tick()
    if not waiter.answers:
        return ConsumerGroupHeartbeatResponse(error_code=ErrorCode.COORDINATOR_NOT_AVAILABLE)
    answer = waiter.answer()
    assert isinstance(answer, ConsumerGroupHeartbeatResponse)
    return answer


def wire(partitions: set[Partition]) -> list[ConsumerGroupHeartbeatRequestTopicPartitions]:
    topics: dict[bytes, list[int]] = {}
    for partition in sorted(partitions):
        topics.setdefault(partition.topic_id, []).append(partition.number)
    return [
        ConsumerGroupHeartbeatRequestTopicPartitions(topic_id=topic_id, partitions=numbers)
        for topic_id, numbers in topics.items()
    ]


@dataclass
class Player:
    """A member that follows the protocol: it owns what it was told, minus what it was told to give up."""

    coordinator: Coordinator
    member_id: str
    topics: list[str] | None = field(default_factory=lambda: ["topic"])
    regex: str | None = None
    instance: str | None = None
    assignor: str | None = None
    epoch: int = 0
    owned: set[Partition] = field(default_factory=set)
    lets_go: bool = True
    """Whether it gives up what it is told to; a slow one does not yet."""
    told: set[Partition] | None = None

    def beat(self) -> ConsumerGroupHeartbeatResponse:
        """One heartbeat, complete on joining; a fenced member drops everything and begins anew."""
        joins = self.epoch == 0
        answer = heartbeat(
            self.coordinator,
            member_id=self.member_id,
            member_epoch=self.epoch,
            instance_id=self.instance,
            rebalance_timeout_ms=REVOKE_MS if joins else -1,
            subscribed_topic_names=self.topics if joins else None,
            subscribed_topic_regex=self.regex if joins else None,
            server_assignor=self.assignor if joins else None,
            topic_partitions=wire(self.owned),
        )
        self.hear(answer)
        return answer

    def hear(self, answer: ConsumerGroupHeartbeatResponse) -> None:
        if answer.error_code in (ErrorCode.FENCED_MEMBER_EPOCH, ErrorCode.UNKNOWN_MEMBER_ID):
            self.forget()
        elif answer.error_code == ErrorCode.NONE:
            self.epoch = answer.member_epoch
            if answer.assignment is not None:
                self.told = {
                    Partition(topic.topic_id, number)
                    for topic in answer.assignment.topic_partitions
                    for number in topic.partitions
                }
            self.reconcile()

    def reconcile(self) -> None:
        """Do as told, if it is not slow: first give up, then take."""
        if self.told is not None and (self.lets_go or self.owned <= self.told):
            self.owned, self.told = self.told, None

    def subscribe(self, *topics: str) -> None:
        self.topics = list(topics)
        self.hear(
            heartbeat(
                self.coordinator,
                member_id=self.member_id,
                member_epoch=self.epoch,
                subscribed_topic_names=self.topics,
                topic_partitions=wire(self.owned),
            )
        )

    def leave(self, epoch: int = -1) -> int:
        answer = heartbeat(
            self.coordinator, member_id=self.member_id, member_epoch=epoch, instance_id=self.instance
        )
        self.forget()
        return answer.error_code

    def forget(self) -> None:
        self.epoch, self.owned, self.told = 0, set(), None

    @property
    def numbers(self) -> list[int]:
        return sorted(partition.number for partition in self.owned)


def settle(*players: Player, rounds: int = 8) -> None:
    """Everybody beats until nobody learns anything new; within this many rounds."""
    for _ in range(rounds):
        before = [(player.epoch, set(player.owned)) for player in players]
        for player in players:
            assert player.beat().error_code == ErrorCode.NONE
        if before == [(player.epoch, set(player.owned)) for player in players]:
            return
    raise AssertionError(f"not settled within {rounds} rounds: {players}")


def group_of(coordinator: Coordinator) -> ConsumerGroup:
    group = coordinator.shard.groups[GROUP]
    assert isinstance(group, ConsumerGroup)
    return group


def describe(coordinator: Coordinator) -> DescribedGroup:
    waiter, decision = Waiter(), Decision(coordinator.at)
    coordinator.shard.consumers.describe(GROUP, waiter, decision)
    coordinator.settle(decision)
    answer = waiter.answer()
    assert isinstance(answer, DescribedGroup)
    return answer


def listed(coordinator: Coordinator, *, states: str = "", types: str = "") -> list[ListedGroup]:
    return coordinator.shard.list(set(states.split()), set(types.split()))
