"""Members of groups that are there for their group's sake: static ones, and visitors.

A *static member* is known by its instance id. All of them join one group with a session that never ends, so
once each has its assignment nothing is left that could begin a rebalance: whoever crashes comes back under a
new member id into the same generation. The old id is tried once more then, as a duplicate that does not know
of its successor.

A *visitor* is the only member of its group. It joins, commits a position, stays a while and leaves; the empty
group has to keep the position for as long as it is configured to.
"""

from __future__ import annotations

import asyncio

import msgspec

from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from streamkit.protocol.messages.join_group import (
    JoinGroupRequest,
    JoinGroupRequestProtocol,
    JoinGroupResponse,
)
from streamkit.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberIdentity
from streamkit.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from streamkit.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestTopic,
    OffsetFetchResponse,
)
from streamkit.protocol.messages.sync_group import (
    SyncGroupRequest,
    SyncGroupRequestAssignment,
    SyncGroupResponse,
)
from streamkit.simulation.workload.client import REQUEST_TIMEOUT_MS, Client
from streamkit.simulation.workload.consumer import assignment, subscription
from streamkit.simulation.workload.coordinator import ELSEWHERE, Coordinator
from streamkit.simulation.workload.history import History, Kept, Presence, StaticAct, StaticJoin

JOIN_VERSION = 5
SYNC_VERSION = 3
HEARTBEAT_VERSION = 3
COMMIT_VERSION = 7
LEAVE_VERSION = 3
FETCH_VERSION = 5
REBALANCE_MS = 4000
ENDLESS_MS = 1_800_000
"""A session that outlives every run."""
SHORT_MS = 6000
HEARTBEAT_S = 1.0


class Place(msgspec.Struct, frozen=True):
    """Where a member stands in its group."""

    member_id: str
    generation: int


class Member:
    """What both kinds of members do: join, tell that they live, commit."""

    def __init__(self, client: Client, topic: str, group: str, instance: str | None, session_ms: int) -> None:
        self.place: Place | None = None
        self._topic = topic
        self._group = group
        self._instance = instance
        self._session_ms = session_ms
        self._coordinator = Coordinator(client, group)

    async def join(self) -> Place | None:
        """Become a member and take the assignment; None if that did not succeed this time."""
        joined = await self._join("")
        if joined is not None and joined.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            joined = await self._join(joined.member_id)
        if joined is None or joined.error_code != ErrorCode.NONE:
            return None
        members = sorted(member.member_id for member in joined.members)
        request = SyncGroupRequest(
            group_id=self._group, generation_id=joined.generation_id, member_id=joined.member_id,
            group_instance_id=self._instance,
            assignments=[
                SyncGroupRequestAssignment(member_id=one, assignment=assignment(self._topic, [number]))
                for number, one in enumerate(members)
            ],
        )  # fmt: skip
        synced: SyncGroupResponse | None = await self._coordinator.ask(
            request, SYNC_VERSION, REBALANCE_MS + REQUEST_TIMEOUT_MS
        )
        if synced is None or self._is_refused(synced.error_code):
            return None
        self.place = Place(joined.member_id, joined.generation_id)
        return self.place

    async def _join(self, member_id: str) -> JoinGroupResponse | None:
        request = JoinGroupRequest(
            group_id=self._group, session_timeout_ms=self._session_ms, rebalance_timeout_ms=REBALANCE_MS,
            member_id=member_id, group_instance_id=self._instance, protocol_type="consumer",
            protocols=[JoinGroupRequestProtocol(name="spread", metadata=subscription(self._topic))],
        )  # fmt: skip
        joined: JoinGroupResponse | None = await self._coordinator.ask(
            request, JOIN_VERSION, REBALANCE_MS + REQUEST_TIMEOUT_MS
        )
        if joined is not None and joined.error_code != ErrorCode.MEMBER_ID_REQUIRED:
            self._is_refused(joined.error_code)
        return joined

    async def heartbeat(self, place: Place) -> int | None:
        """The error code; None without an answer."""
        request = HeartbeatRequest(
            group_id=self._group, generation_id=place.generation, member_id=place.member_id,
            group_instance_id=self._instance,
        )  # fmt: skip
        response: HeartbeatResponse | None = await self._coordinator.ask(request, HEARTBEAT_VERSION)
        if response is None:
            return None
        self._is_refused(response.error_code)
        return response.error_code

    async def commit(self, place: Place, offset: int) -> int | None:
        request = OffsetCommitRequest(
            group_id=self._group, generation_id_or_member_epoch=place.generation, member_id=place.member_id,
            group_instance_id=self._instance,
            topics=[
                OffsetCommitRequestTopic(
                    name=self._topic,
                    partitions=[OffsetCommitRequestPartition(partition_index=0, committed_offset=offset)],
                )
            ],
        )  # fmt: skip
        response: OffsetCommitResponse | None = await self._coordinator.ask(request, COMMIT_VERSION)
        if response is None:
            return None
        code = response.topics[0].partitions[0].error_code
        self._is_refused(code)
        return code

    async def committed(self) -> int | None:
        """The group's position (-1: none); None without an answer."""
        request = OffsetFetchRequest(
            group_id=self._group, topics=[OffsetFetchRequestTopic(name=self._topic, partition_indexes=[0])]
        )
        response: OffsetFetchResponse | None = await self._coordinator.ask(request, FETCH_VERSION)
        if response is None or self._is_refused(response.error_code):
            return None
        found = response.topics[0].partitions[0]
        return None if found.error_code else found.committed_offset

    async def leave(self, place: Place) -> bool:
        request = LeaveGroupRequest(group_id=self._group, members=[MemberIdentity(member_id=place.member_id)])
        response: LeaveGroupResponse | None = await self._coordinator.ask(request, LEAVE_VERSION)
        return response is not None and not self._is_refused(response.error_code)

    def _is_refused(self, code: int) -> bool:
        if code in ELSEWHERE:
            self._coordinator.mistrust()
        return code != ErrorCode.NONE


class StaticMember:
    """One instance of the group of static members; `former` outlives its process."""

    def __init__(
        self,
        client: Client,
        topic: str,
        *,
        group: str,
        instance: str,
        former: list[Place],
        history: History,
    ) -> None:
        self._member = Member(client, topic, group, instance, ENDLESS_MS)
        self._instance = instance
        self._former = former
        self._history = history

    async def attend(self) -> None:
        """Join, or tell that it lives; and what a duplicate of it does that knows only its former place."""
        loop = asyncio.get_running_loop()
        place, began_s = self._member.place, loop.time()
        if place is None:
            place = await self._member.join()
            if place is not None:
                self._former.append(place)
                self._history.static_joins.append(
                    StaticJoin(
                        instance=self._instance, member_id=place.member_id, generation=place.generation,
                        began_s=began_s, ended_s=loop.time(),
                    )
                )  # fmt: skip
            return
        if await self._beat(place) not in (None, ErrorCode.NONE):
            self._member.place = None
        if len(self._former) > 1:
            await self._beat(self._former[-2])

    async def _beat(self, place: Place) -> int | None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        # a heartbeat would say nothing: while its groups load, a coordinator takes any, as Kafka's does
        code = await self._member.commit(place, 0)
        if code == ErrorCode.NONE:
            self._history.static_acts.append(
                StaticAct(
                    instance=self._instance, member_id=place.member_id, generation=place.generation,
                    began_s=began_s, ended_s=loop.time(),
                )
            )  # fmt: skip
        return code


class Visitor:
    """The only member of its group; `visits` counts over the deaths of its process."""

    def __init__(self, client: Client, topic: str, group: str, visits: list[int], history: History) -> None:
        self._member = Member(client, topic, group, None, SHORT_MS)
        self._topic = topic
        self._group = group
        self._visits = visits
        self._history = history
        self._heart: asyncio.Task[None] | None = None

    async def visit(self) -> None:
        """Come, or go."""
        if self._member.place is None:
            await self._come()
        else:
            await self._go(self._member.place)

    async def look_from(self, client: Client) -> None:
        """What the group has kept, as another client is told; only if it ever had something."""
        if self._visits:
            await self._look(Member(client, self._topic, self._group, None, SHORT_MS))

    async def _look(self, member: Member) -> None:
        began_s = asyncio.get_running_loop().time()
        offset = await member.committed()
        if offset is not None:
            self._note(offset, began_s, is_read=True)

    async def _come(self) -> None:
        await self._look(self._member)
        place = await self._member.join()
        if place is None:
            return
        loop = asyncio.get_running_loop()
        began_s, offset = loop.time(), len(self._visits) + 1
        self._visits.append(offset)
        if await self._member.commit(place, offset) == ErrorCode.NONE:
            self._note(offset, began_s, is_read=False)
        self._heart = loop.create_task(self._heartbeats(place))

    async def _go(self, place: Place) -> None:
        assert self._heart is not None, "whoever came has a heart"
        self._heart.cancel()
        began_s = asyncio.get_running_loop().time()
        self._member.place = None
        if await self._member.leave(place):
            self._history.presences.append(Presence(group=self._group, at_s=began_s))

    async def _heartbeats(self, place: Place) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            began_s = asyncio.get_running_loop().time()
            if await self._member.heartbeat(place) == ErrorCode.NONE:
                self._history.presences.append(Presence(group=self._group, at_s=began_s))

    def _note(self, offset: int, began_s: float, *, is_read: bool) -> None:
        self._history.kept.append(
            Kept(
                group=self._group, offset=offset, began_s=began_s,
                ended_s=asyncio.get_running_loop().time(), is_read=is_read,
            )
        )  # fmt: skip
