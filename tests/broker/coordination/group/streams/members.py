"""Threads of Kafka Streams processes, as they play members, on the coordinator of the harness."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from streamkit.broker.coordination.group.cluster import Topic
from streamkit.broker.coordination.group.streams.group import StreamsGroup
from streamkit.broker.coordination.group.streams.heartbeat import CreateInternalTopics
from streamkit.broker.coordination.group.streams.internal_topics import StatusCode
from streamkit.broker.coordination.group.streams.tasks import NOTHING, Task, Tasks, task_ids, tasks_of
from streamkit.broker.coordination.group.vocabulary import Caller
from streamkit.broker.coordination.shard import Decision
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.streams_group_describe import DescribedGroup
from streamkit.protocol.messages.streams_group_heartbeat import (
    StreamsGroupHeartbeatRequest,
    StreamsGroupHeartbeatRequestEndpoint,
    StreamsGroupHeartbeatRequestTaskIds,
    StreamsGroupHeartbeatResponse,
    Subtopology,
    TopicInfo,
    Topology,
)
from tests.broker.coordination.group.harness import GROUP, Coordinator, Waiter

SESSION_MS = 45_000
HEARTBEAT_MS = 5000
DELAY_MS = 3000
INTERVAL_MS = 1000
REVOKE_MS = 60_000

INPUT, REPARTITION, CHANGELOG = "lines", "app-counts-repartition", "app-counts-changelog"
WORD_COUNT = Topology(
    epoch=0,
    subtopologies=[
        Subtopology(subtopology_id="0", source_topics=[INPUT], repartition_sink_topics=[REPARTITION]),
        Subtopology(
            subtopology_id="1",
            state_changelog_topics=[TopicInfo(name=CHANGELOG)],
            repartition_source_topics=[TopicInfo(name=REPARTITION)],
        ),
    ],
)
"""Words are split in 0 and counted in 1."""


def active(subtopology: str, *partitions: int) -> frozenset[Task]:
    return frozenset(Task(subtopology, number) for number in partitions)


class Application:
    """A coordinator with the topics of the word count, and the shell that makes those that it asks for."""

    def __init__(self, partitions: int = 3, **properties: object) -> None:
        self.coordinator = Coordinator(**properties)
        self.wanted: list[CreateInternalTopics] = []
        if partitions:
            self.make(INPUT, partitions)

    def make(self, name: str, partitions: int) -> Topic:
        topic = self.coordinator.cluster.make(name, partitions)
        self.coordinator.shard.topics_changed([name])
        return topic

    def make_wanted(self) -> None:
        """What the broker does with the commands, as soon as it can."""
        for command in self.wanted:
            for topic in command.topics:
                if self.coordinator.cluster.topic(topic.name) is None:
                    self.make(topic.name, topic.partitions)
        self.wanted.clear()

    def ask(self, **fields: Any) -> StreamsGroupHeartbeatResponse:
        """One request, and its answer, which never has to wait."""
        coordinator = self.coordinator
        request = StreamsGroupHeartbeatRequest(group_id=GROUP, **fields)
        waiter, decision = Waiter(), Decision(coordinator.at)
        caller = Caller(0, "client", "/127.0.0.1", "")
        coordinator.shard.streams.heartbeat(request, caller, waiter, decision)
        coordinator.settle(decision)
        coordinator.tick()
        if not waiter.answers:
            return StreamsGroupHeartbeatResponse(error_code=ErrorCode.COORDINATOR_NOT_AVAILABLE)
        self.wanted += [one for one in decision.commands if isinstance(one, CreateInternalTopics)]
        answer = waiter.answer()
        assert isinstance(answer, StreamsGroupHeartbeatResponse)
        return answer

    @property
    def group(self) -> StreamsGroup:
        group = self.coordinator.shard.groups[GROUP]
        assert isinstance(group, StreamsGroup)
        return group

    def describe(self) -> DescribedGroup:
        waiter, decision = Waiter(), Decision(self.coordinator.at)
        self.coordinator.shard.streams.describe(GROUP, waiter, decision)
        self.coordinator.settle(decision)
        answer = waiter.answer()
        assert isinstance(answer, DescribedGroup)
        return answer


@dataclass
class Player:
    """A member that follows the protocol: it runs what it was told, minus what it was told to give up."""

    app: Application
    member_id: str
    process: str = ""
    topology: Topology = WORD_COUNT
    endpoint: StreamsGroupHeartbeatRequestEndpoint | None = None
    epoch: int = 0
    owned: Tasks = NOTHING
    told: Tasks | None = None
    lets_go: bool = True
    """Whether it gives up what it is told to; a slow one does not yet."""
    endpoint_epoch: int = -1
    statuses: list[int] = field(default_factory=list)

    def beat(self, **fields: Any) -> StreamsGroupHeartbeatResponse:
        """One heartbeat, complete on joining; a fenced member drops everything and begins anew."""
        joins = self.epoch == 0
        answer = self.app.ask(
            member_id=self.member_id,
            member_epoch=self.epoch,
            endpoint_information_epoch=self.endpoint_epoch,
            **{**(self.introduction() if joins else {}), **wire(self.owned), **fields},
        )
        self.hear(answer)
        return answer

    def introduction(self) -> dict[str, Any]:
        return {
            "rebalance_timeout_ms": REVOKE_MS,
            "topology": self.topology,
            "process_id": self.process or self.member_id,
            "user_endpoint": self.endpoint,
            "client_tags": [],
        }

    def hear(self, answer: StreamsGroupHeartbeatResponse) -> None:
        if answer.error_code in (ErrorCode.FENCED_MEMBER_EPOCH, ErrorCode.UNKNOWN_MEMBER_ID):
            self.forget()
        elif answer.error_code == ErrorCode.NONE:
            self.epoch, self.endpoint_epoch = answer.member_epoch, answer.endpoint_information_epoch
            self.statuses = [status.status_code for status in answer.status or ()]
            if answer.active_tasks is not None:
                self.told = told(answer)
            self.reconcile()

    def reconcile(self) -> None:
        """Do as told, if it is not slow: first give up, then take."""
        if self.told is not None and (self.lets_go or not (self.owned - self.told)):
            self.owned, self.told = self.told, None

    def leave(self, **fields: Any) -> StreamsGroupHeartbeatResponse:
        answer = self.app.ask(member_id=self.member_id, member_epoch=-1, **fields)
        self.forget()
        return answer

    def forget(self) -> None:
        self.epoch, self.owned, self.told = 0, NOTHING, None


def told(answer: StreamsGroupHeartbeatResponse) -> Tasks:
    return Tasks(
        active=tasks_of(answer.active_tasks or ()),
        standby=tasks_of(answer.standby_tasks or ()),
        warmup=tasks_of(answer.warmup_tasks or ()),
    )


def wire(tasks: Tasks) -> dict[str, list[StreamsGroupHeartbeatRequestTaskIds]]:
    return {
        "active_tasks": task_ids(StreamsGroupHeartbeatRequestTaskIds, tasks.active),
        "standby_tasks": task_ids(StreamsGroupHeartbeatRequestTaskIds, tasks.standby),
        "warmup_tasks": task_ids(StreamsGroupHeartbeatRequestTaskIds, tasks.warmup),
    }


def settle(*players: Player, rounds: int = 12) -> None:
    """Everybody beats, with time passing, until nobody waits and nobody learns anything new."""
    app = players[0].app
    for _ in range(rounds):
        before = [(player.epoch, player.owned) for player in players]
        for player in players:
            assert player.beat().error_code == ErrorCode.NONE
            app.make_wanted()
        app.coordinator.advance(HEARTBEAT_MS)
        rests = before == [(player.epoch, player.owned) for player in players]
        if rests and not any(set(player.statuses) & WAITING for player in players):
            return
    raise AssertionError(f"not settled within {rounds} rounds: {players}")


WAITING = {StatusCode.MISSING_INTERNAL_TOPICS, StatusCode.ASSIGNMENT_DELAYED}


def all_active(players: Iterable[Player]) -> list[Task]:
    return sorted(task for player in players for task in player.owned.active)
