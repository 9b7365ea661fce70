"""What an operator asks of groups of any kind: which there are, where they are, and that they go away.

A coordinator may be on its way, elected for the first time or loading what its predecessor kept: it is waited
for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager

import msgspec

from streamkit.client.cluster import members as cluster_members
from streamkit.client.node import AnsweredError, Node, check
from streamkit.errors import NotFoundError, RefusedError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.delete_groups import DeleteGroupsRequest
from streamkit.protocol.messages.find_coordinator import (
    Coordinator,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)
from streamkit.protocol.messages.leave_group import LeaveGroupRequest, MemberIdentity
from streamkit.protocol.messages.list_groups import ListedGroup as Answered
from streamkit.protocol.messages.list_groups import ListGroupsRequest
from streamkit.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from streamkit.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchResponse,
)

GROUP_KEY = 0
BY_NAME = 9  # the last version of OffsetFetch in which topics have their names
PATIENCE_S = 15.0
AGAIN_S = 0.1
ON_ITS_WAY = {
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.NOT_COORDINATOR,
}
CLASSIC, CONSUMER, SHARE, STREAMS = TYPES = ("classic", "consumer", "share", "streams")


class ListedGroup(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    state: str
    type: str
    """Of TYPES."""


async def listed(
    node: Node, *, types: Collection[str] = (), states: Collection[str] = ()
) -> list[ListedGroup]:
    """The groups of the cluster: each broker knows those that it coordinates."""
    found = []
    request = ListGroupsRequest(states_filter=list(states), types_filter=list(types))
    for broker in (await cluster_members(node)).brokers:
        if broker.is_fenced:
            continue
        async with node.other(broker.host, broker.port) as one:
            answer = await one.ask(request)
        check(answer.error_code)
        found += [_listed(group) for group in answer.groups]
    return sorted(found, key=lambda group: group.name)


async def find(node: Node, name: str) -> ListedGroup:
    """The group of that name. Raises NotFoundError."""
    async with coordinator(node, name) as one:
        answer = await one.ask(ListGroupsRequest())
    check(answer.error_code)
    for group in answer.groups:
        if group.group_id == name:
            return _listed(group)
    raise no_such_group(name, node.address)


def _listed(group: Answered) -> ListedGroup:
    """Brokers before KIP-848 tell no types, and have but one."""
    return ListedGroup(name=group.group_id, state=group.group_state, type=group.group_type.lower() or CLASSIC)


async def remove_members(node: Node, name: str, members: Iterable[tuple[str, str | None]]) -> None:
    """Have a classic group forget these members, each an id and, if it is static, its instance. They may be
    gone already, and those that live will join again.
    """
    leaving = [
        MemberIdentity(member_id="" if instance else member, group_instance_id=instance, reason="removed")
        for member, instance in members
    ]
    async with coordinator(node, name) as one:
        answer = await one.ask(LeaveGroupRequest(group_id=name, members=leaving))
    for code in (answer.error_code, *(member.error_code for member in answer.members)):
        if code != ErrorCode.UNKNOWN_MEMBER_ID:
            check(code)


async def delete(node: Node, name: str) -> None:
    """Delete a group without members, with all its offsets. Raises RefusedError, NotFoundError."""
    async with coordinator(node, name) as one:
        (result,) = (await one.ask(DeleteGroupsRequest(groups_names=[name]))).results
    if result.error_code == ErrorCode.GROUP_ID_NOT_FOUND:
        raise no_such_group(name, node.address)
    refuse_members(name, result.error_code)
    check(result.error_code)


async def delete_offsets(node: Node, name: str, places: Iterable[tuple[str, int]]) -> None:
    """Forget what the group committed in these partitions; raises RefusedError while it reads the topic."""
    topics: dict[str, list[OffsetDeleteRequestPartition]] = {}
    for topic, number in places:
        topics.setdefault(topic, []).append(OffsetDeleteRequestPartition(partition_index=number))
    request = OffsetDeleteRequest(
        group_id=name,
        topics=[
            OffsetDeleteRequestTopic(name=topic, partitions=numbers) for topic, numbers in topics.items()
        ],
    )
    async with coordinator(node, name) as one:
        answer = await one.ask(request)
    refuse_members(name, answer.error_code)
    check(answer.error_code)
    for topic in answer.topics:
        for partition in topic.partitions:
            if partition.error_code == ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC:
                raise has_members(name)
            check(partition.error_code)


async def committed(node: Node, name: str) -> dict[tuple[str, int], int]:
    """Every partition that the group has committed an offset of, and that; nothing of an unknown group."""
    deadline = _now() + PATIENCE_S
    while True:
        try:
            return await _committed(node, name)
        except AnsweredError as error:
            if error.code not in ON_ITS_WAY or _now() > deadline:
                raise
        await asyncio.sleep(AGAIN_S)


async def _committed(node: Node, name: str) -> dict[tuple[str, int], int]:
    group = OffsetFetchRequestGroup(group_id=name, topics=None)
    request = OffsetFetchRequest(group_id=name, topics=None, groups=[group])
    async with coordinator(node, name) as one:
        answer: OffsetFetchResponse = await one.ask(request, newest=BY_NAME)
    found = answer.groups[0] if answer.groups else answer  # before version 8 it is about one group
    check(found.error_code)
    offsets = {}
    for topic in found.topics:
        for partition in topic.partitions:
            check(partition.error_code)
            if partition.committed_offset >= 0:
                offsets[topic.name, partition.partition_index] = partition.committed_offset
    return offsets


@asynccontextmanager
async def coordinator(node: Node, name: str) -> AsyncIterator[Node]:
    """A connection to the broker that coordinates the group; raises AnsweredError."""
    deadline = _now() + PATIENCE_S
    while (found := await _coordinator(node, name)).error_code in ON_ITS_WAY and _now() < deadline:
        await asyncio.sleep(AGAIN_S)
    check(found.error_code, found.error_message)
    async with node.other(found.host, found.port) as one:
        yield one


async def _coordinator(node: Node, name: str) -> Coordinator | FindCoordinatorResponse:
    """The answer, with an error where there is none."""
    answer: FindCoordinatorResponse = await node.ask(
        FindCoordinatorRequest(key=name, key_type=GROUP_KEY, coordinator_keys=[name])
    )
    return answer.coordinators[0] if answer.coordinators else answer  # before version 4 it is about one key


def _now() -> float:
    return asyncio.get_running_loop().time()


def refuse_members(name: str, code: int) -> None:
    """Raise RefusedError if that is what a broker answered."""
    if code == ErrorCode.NON_EMPTY_GROUP:
        raise has_members(name)


def has_members(name: str) -> RefusedError:
    return RefusedError(
        f"group {name!r} has members; stop them first", hint=f"streamkit group describe {name}"
    )


def no_such_group(name: str, address: str) -> NotFoundError:
    return NotFoundError(f"there is no group {name!r} at {address}", hint="streamkit group list")
