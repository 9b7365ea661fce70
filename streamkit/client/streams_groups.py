"""What an operator asks of streams groups: what an application runs, and who runs which task of it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from streamkit.client.groups import coordinator
from streamkit.client.node import Node, check
from streamkit.protocol.messages.streams_group_describe import (
    DescribedGroup,
    StreamsGroupDescribeRequest,
    TaskIds,
    Topology,
)
from streamkit.protocol.messages.streams_group_describe import Member as DescribedMember


class Task(msgspec.Struct, frozen=True, order=True):
    subtopology: str
    partition: int

    def __str__(self) -> str:
        """As Kafka Streams names it."""
        return f"{self.subtopology}_{self.partition}"


class Member(msgspec.Struct, frozen=True, kw_only=True):
    member: str
    client: str
    host: str
    process: str
    epoch: int
    topology_epoch: int
    active: list[Task]
    standby: list[Task]
    warmup: list[Task]


class StreamsGroup(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    state: str
    epoch: int
    topology_epoch: int | None
    """None before anybody has brought a topology."""
    read_topics: dict[str, list[str]]
    """What each subtopology reads."""
    members: list[Member]

    @property
    def owners(self) -> dict[tuple[str, int], str]:
        """The member that reads each partition: the one that runs its task."""
        return {
            (topic, task.partition): member.member
            for member in self.members
            for task in member.active
            for topic in self.read_topics.get(task.subtopology, ())
        }


async def described(node: Node, name: str) -> StreamsGroup:
    """The streams group of that name; raises AnsweredError."""
    async with coordinator(node, name) as one:
        (group,) = (await one.ask(StreamsGroupDescribeRequest(group_ids=[name]))).groups
    check(group.error_code, group.error_message)
    return _described(group)


def _described(group: DescribedGroup) -> StreamsGroup:
    topology = group.topology
    return StreamsGroup(
        name=group.group_id,
        state=group.group_state,
        epoch=group.group_epoch,
        topology_epoch=None if topology is None else topology.epoch,
        read_topics={} if topology is None else _read_topics(topology),
        members=[_member(one) for one in group.members],
    )


def _read_topics(topology: Topology) -> dict[str, list[str]]:
    return {
        one.subtopology_id: [*one.source_topics, *(topic.name for topic in one.repartition_source_topics)]
        for one in topology.subtopologies or ()
    }


def _member(member: DescribedMember) -> Member:
    return Member(
        member=member.member_id,
        client=member.client_id,
        host=member.client_host,
        process=member.process_id,
        epoch=member.member_epoch,
        topology_epoch=member.topology_epoch,
        active=_tasks(member.assignment.active_tasks),
        standby=_tasks(member.assignment.standby_tasks),
        warmup=_tasks(member.assignment.warmup_tasks),
    )


def _tasks(ids: Iterable[TaskIds]) -> list[Task]:
    return sorted(Task(one.subtopology_id, number) for one in ids for number in one.partitions)
