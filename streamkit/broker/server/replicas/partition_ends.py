"""Where partitions end, whoever leads them: their high watermarks, asked of their leaders (ListOffsets)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, TypeAlias

from streamkit.broker.server.handlers.offsets import LATEST, readable
from streamkit.net.peer import PeerError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker

Place: TypeAlias = tuple[str, int]
Ends: TypeAlias = "dict[Place, int | ErrorCode]"

NO_LEADER: Final = -1
CONSUMER: Final = -1
VERSION: Final = 7
TIMEOUT_MS: Final = 5_000


async def partition_ends(broker: Broker, places: Iterable[Place]) -> Ends:
    """The offset at which each of these partitions ends, or why nobody says; never raises."""
    by_leader: dict[int, list[Place]] = {}
    for place in places:
        registration = broker.metadata.partition(*place)
        by_leader.setdefault(NO_LEADER if registration is None else registration.leader, []).append(place)
    ends: Ends = {}
    for some in await asyncio.gather(*(_ends_at(broker, leader, led) for leader, led in by_leader.items())):
        ends |= some
    return ends


async def _ends_at(broker: Broker, leader: int, places: list[Place]) -> Ends:
    if leader == broker.config.node_id:
        return {place: _own_end(broker, place) for place in places}
    ends: Ends = dict.fromkeys(places, ErrorCode.LEADER_NOT_AVAILABLE)
    if leader == NO_LEADER:
        return ends
    try:
        response = await broker.links.call(leader, _request(places), VERSION, TIMEOUT_MS)
    except PeerError:
        return ends
    for topic in response.topics:
        for one in topic.partitions:
            code = ErrorCode(one.error_code)  # type: ignore[call-arg]  # looked up by value
            ends[topic.name, one.partition_index] = one.offset if code is ErrorCode.NONE else code
    return ends


def _own_end(broker: Broker, place: Place) -> int | ErrorCode:
    actor, code = readable(broker, *place, -1)
    if actor is None:
        return code
    return actor.high_watermark if actor.is_established else ErrorCode.OFFSET_NOT_AVAILABLE


def _request(places: Iterable[Place]) -> ListOffsetsRequest:
    topics: dict[str, list[ListOffsetsPartition]] = {}
    for topic, index in places:
        one = ListOffsetsPartition(partition_index=index, current_leader_epoch=-1, timestamp=LATEST)
        topics.setdefault(topic, []).append(one)
    return ListOffsetsRequest(
        replica_id=CONSUMER,
        topics=[ListOffsetsTopic(name=name, partitions=found) for name, found in topics.items()],
    )
