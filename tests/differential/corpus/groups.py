"""Classic groups: FindCoordinator, and a member's life from JoinGroup to LeaveGroup."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from typing import Any

from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.find_coordinator import FindCoordinatorRequest
from streamkit.protocol.messages.heartbeat import HeartbeatRequest
from streamkit.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from streamkit.protocol.messages.leave_group import LeaveGroupRequest, MemberIdentity
from streamkit.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from tests.differential.scenario import Client, Kind, scenario

GROUP, TRANSACTION, SHARE = 0, 1, 2
FIRST_WITH_MANY_KEYS = 4
FIRST_WITH_REQUIRED_ID = 4
FIRST_WITH_STATIC = 5
FIRST_WITH_SHARE = 6
LONGEST_SESSION_MS = 1_800_000
"""Nobody whom a scenario leaves behind goes by himself while the others are played."""


def coordinators(client: Client, *keys: str, kind: int = GROUP) -> FindCoordinatorRequest:
    if client.version >= FIRST_WITH_MANY_KEYS:
        return FindCoordinatorRequest(coordinator_keys=list(keys), key_type=kind)
    return FindCoordinatorRequest(key=keys[0] if keys else "", key_type=kind)


@scenario(ApiKey.FIND_COORDINATOR, "0-6")
async def coordinators_by_key(client: Client) -> None:
    await client.valid(coordinators(client, "g"))
    await client.valid(coordinators(client, "another", "g"))
    await client.valid(coordinators(client, "é" * 20))
    if client.version > 0:
        await client.valid(coordinators(client, "x", kind=TRANSACTION))
    await client.boundary(coordinators(client, "g", "g"))
    await client.boundary(coordinators(client))
    await client.boundary(coordinators(client, "x" * 300))


@scenario(ApiKey.FIND_COORDINATOR, "0-6")
async def coordinators_of_nothing(client: Client) -> None:
    await client.wrong(coordinators(client, ""))
    if client.version > 0:
        await client.wrong(coordinators(client, "", kind=TRANSACTION))
        await client.wrong(coordinators(client, "g", kind=3))
        await client.wrong(coordinators(client, "g", kind=-1))
        for key in (
            "g",
            "",
            "g:abc:0",
            "g:AAAAAAAAAAAAAAAAAAAAAA:0",
            "g:AAAAAAAAAAAAAAAAAAAAAA:x",
            ":AAAAAAAAAAAAAAAAAAAAAA:0",
        ):
            await client.wrong(coordinators(client, key, kind=SHARE))


def subscription(*topics: str) -> bytes:
    """Version 0 of the consumer protocol's."""
    names = b"".join(struct.pack(">h", len(name)) + name.encode() for name in topics)
    return struct.pack(">hi", 0, len(topics)) + names + struct.pack(">i", -1)


def join(group: str, member_id: str = "", **fields: Any) -> JoinGroupRequest:
    protocols = [JoinGroupRequestProtocol(name="range", metadata=subscription("t"))]
    settings = {
        "session_timeout_ms": LONGEST_SESSION_MS,
        "rebalance_timeout_ms": 30_000,
        "protocol_type": "consumer",
        "protocols": protocols,
    }
    return JoinGroupRequest(group_id=group, member_id=member_id, **{**settings, **fields})


def sync(group: str, generation: int, member_id: str, *assigned: str, **fields: Any) -> SyncGroupRequest:
    settings = {"protocol_type": "consumer", "protocol_name": "range"}
    assignments = [
        SyncGroupRequestAssignment(member_id=one, assignment=b"part of " + b"it") for one in assigned
    ]
    return SyncGroupRequest(
        group_id=group,
        generation_id=generation,
        member_id=member_id,
        assignments=assignments,
        **{**settings, **fields},
    )


def beat(group: str, generation: int, member_id: str, instance: str | None = None) -> HeartbeatRequest:
    return HeartbeatRequest(
        group_id=group, generation_id=generation, member_id=member_id, group_instance_id=instance
    )


def leave(client: Client, group: str, *members: MemberIdentity) -> LeaveGroupRequest:
    if client.api is ApiKey.LEAVE_GROUP and client.version < 3:
        return LeaveGroupRequest(group_id=group, member_id=members[0].member_id if members else "")
    return LeaveGroupRequest(group_id=group, members=list(members))


@dataclass
class Member:
    group: str
    id: str
    generation: int


async def joined(
    client: Client, *, kind: Kind = Kind.SETUP, instance: str | None = None, suffix: str = "g", **fields: Any
) -> Member:
    """The only member of a group, which has its assignment."""
    group = await client.group(suffix)
    answer = await client.ask(kind, join(group, group_instance_id=instance, **fields))
    if answer.error_code == ErrorCode.MEMBER_ID_REQUIRED:
        answer = await client.ask(kind, join(group, answer.member_id, group_instance_id=instance, **fields))
    await client.setup(
        sync(group, answer.generation_id, answer.member_id, answer.member_id, group_instance_id=instance)
    )
    return Member(group, answer.member_id, answer.generation_id)


@scenario(ApiKey.JOIN_GROUP, "0-9")
async def two_members_rebalance(client: Client) -> None:
    """The second one's join waits until the first has joined again."""
    first, other = await joined(client), client.another()
    waiting = asyncio.create_task(_join_for_good(other, first.group))
    while (await client.quietly(beat(first.group, first.generation, first.id))).error_code == ErrorCode.NONE:
        await asyncio.sleep(0.02)
    led = await client.valid(join(first.group, first.id))
    followed = await waiting
    assert led.leader == first.id and followed.generation_id == led.generation_id
    leaders = client.setup(sync(first.group, led.generation_id, first.id, first.id, followed.member_id))
    await leaders
    await other.setup(sync(first.group, led.generation_id, followed.member_id))


async def _join_for_good(client: Client, group: str) -> Any:
    """Quietly: in whose turn the transcript stands is chance."""
    other = [JoinGroupRequestProtocol(name="range", metadata=subscription("u"))]
    answer = await client.quietly(join(group, protocols=other))
    if answer.error_code == ErrorCode.MEMBER_ID_REQUIRED:
        answer = await client.quietly(join(group, answer.member_id, protocols=other))
    return answer


@scenario(ApiKey.JOIN_GROUP, "0-9")
async def one_member_joins(client: Client) -> None:
    member = await joined(client, kind=Kind.VALID)
    await client.valid(join(member.group, member.id))
    both = [
        JoinGroupRequestProtocol(name=name, metadata=subscription("t")) for name in ("roundrobin", "range")
    ]
    await client.valid(join(member.group, member.id, protocols=both))
    other = await joined(client, kind=Kind.VALID, suffix="h", protocol_type="connect", reason="because")
    await client.boundary(join(other.group, other.id, protocol_type="connect", rebalance_timeout_ms=-1))
    await client.boundary(join(await client.group("i"), session_timeout_ms=1000))


@scenario(ApiKey.JOIN_GROUP, "0-9")
async def members_that_are_refused(client: Client) -> None:
    group = await client.group()
    await client.wrong(join(group, "nobody"))
    await client.wrong(join("", ""))
    await client.wrong(join(group, session_timeout_ms=999))
    await client.wrong(join(group, session_timeout_ms=1_800_001))
    await client.wrong(join(group, session_timeout_ms=-1))
    await client.wrong(join(group, protocols=[]))
    await client.wrong(join(group, protocol_type=""))
    member = await joined(client, suffix="full")
    await client.wrong(join(member.group, protocol_type="connect"))
    await client.wrong(join(member.group, protocols=[JoinGroupRequestProtocol(name="other")]))
    await client.wrong(join(member.group, "nobody"))


@scenario(ApiKey.JOIN_GROUP, "5-9")
async def static_members_join(client: Client) -> None:
    member = await joined(client, kind=Kind.VALID, instance="i1")
    again = await client.valid(join(member.group, group_instance_id="i1"))
    await client.wrong(join(member.group, member.id, group_instance_id="i1"))
    await client.valid(join(member.group, again.member_id, group_instance_id="i1"))
    await client.wrong(join(member.group, again.member_id, group_instance_id="i2"))
    for number, instance in enumerate(("", "a b", "x" * 250, ".")):
        await client.wrong(join(await client.group(f"bad{number}"), group_instance_id=instance))


@scenario(ApiKey.SYNC_GROUP, "0-5")
async def assignments(client: Client) -> None:
    group = await client.group()
    answer = await client.setup(join(group))
    answer = await client.setup(join(group, answer.member_id))
    await client.valid(sync(group, answer.generation_id, answer.member_id, answer.member_id))
    await client.valid(sync(group, answer.generation_id, answer.member_id))
    await client.valid(sync(group, answer.generation_id, answer.member_id, "somebody else"))
    await client.boundary(
        sync(group, answer.generation_id, answer.member_id, protocol_type=None, protocol_name=None)
    )


@scenario(ApiKey.SYNC_GROUP, "0-5")
async def assignments_refused(client: Client) -> None:
    member = await joined(client)
    await client.wrong(sync(member.group, member.generation, "nobody"))
    await client.wrong(sync(member.group, member.generation + 1, member.id))
    await client.wrong(sync(member.group, -1, member.id))
    await client.wrong(sync(client.name("unknown"), 1, member.id))
    await client.wrong(sync("", 1, member.id))
    await client.wrong(sync(member.group, member.generation, ""))
    await client.wrong(sync(member.group, member.generation, member.id, protocol_type="connect"))
    await client.wrong(sync(member.group, member.generation, member.id, protocol_name="roundrobin"))


@scenario(ApiKey.SYNC_GROUP, "3-5")
async def assignments_of_static_members(client: Client) -> None:
    member = await joined(client, instance="i1")
    await client.valid(sync(member.group, member.generation, member.id, group_instance_id="i1"))
    await client.wrong(sync(member.group, member.generation, "other", group_instance_id="i1"))
    await client.wrong(sync(member.group, member.generation, member.id, group_instance_id="i2"))
    await client.wrong(sync(member.group, member.generation, member.id, group_instance_id=""))


@scenario(ApiKey.HEARTBEAT, "0-4")
async def signs_of_life(client: Client) -> None:
    member = await joined(client)
    for _ in range(3):
        await client.valid(beat(member.group, member.generation, member.id))
    await client.wrong(beat(member.group, member.generation + 1, member.id))
    await client.wrong(beat(member.group, member.generation - 1, member.id))
    await client.wrong(beat(member.group, -1, member.id))
    await client.wrong(beat(member.group, member.generation, "nobody"))
    await client.wrong(beat(member.group, member.generation, ""))
    await client.wrong(beat(client.name("unknown"), 1, member.id))
    await client.wrong(beat("", 1, member.id))
    await client.setup(leave(client, member.group, MemberIdentity(member_id=member.id)))
    await client.wrong(beat(member.group, member.generation, member.id))


@scenario(ApiKey.HEARTBEAT, "3-4")
async def signs_of_static_life(client: Client) -> None:
    member = await joined(client, instance="i1")
    await client.valid(beat(member.group, member.generation, member.id, "i1"))
    await client.wrong(beat(member.group, member.generation, "other", "i1"))
    await client.wrong(beat(member.group, member.generation, member.id, "i2"))
    await client.wrong(beat(member.group, member.generation, member.id, ""))


@scenario(ApiKey.LEAVE_GROUP, "0-5")
async def members_leave(client: Client) -> None:
    for suffix in ("a", "b", "c"):
        member = await joined(client, suffix=suffix)
        await client.valid(leave(client, member.group, MemberIdentity(member_id=member.id)))
        await client.wrong(leave(client, member.group, MemberIdentity(member_id=member.id)))
    await client.wrong(leave(client, client.name("unknown"), MemberIdentity(member_id="m")))
    await client.wrong(leave(client, "", MemberIdentity(member_id="m")))
    await client.wrong(leave(client, member.group, MemberIdentity(member_id="")))
    await client.boundary(leave(client, member.group))


@scenario(ApiKey.LEAVE_GROUP, "3-5")
async def static_members_leave(client: Client) -> None:
    member = await joined(client, instance="i1")
    await client.wrong(leave(client, member.group, MemberIdentity(member_id="other", group_instance_id="i1")))
    await client.wrong(leave(client, member.group, MemberIdentity(group_instance_id="i2")))
    await client.wrong(
        leave(
            client, member.group, MemberIdentity(member_id="nobody"), MemberIdentity(group_instance_id="i3")
        )
    )
    await client.valid(leave(client, member.group, MemberIdentity(group_instance_id="i1", reason="done")))
    again = await joined(client, suffix="h", instance="i1")
    await client.valid(
        leave(
            client,
            again.group,
            MemberIdentity(member_id=again.id, group_instance_id="i1"),
            MemberIdentity(member_id="nobody"),
        )
    )
