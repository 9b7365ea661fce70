"""ShareAcknowledge (79), and the acknowledgements that ShareFetch brings along: what became of records.

Each share-partition takes all of a request's acknowledgements, or none; the answer waits until what it took
is persisted. A request of the final epoch ends the member's session when they are done, and what the member
still holds goes to others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias

from streamkit.broker.coordination.shard import Refusal
from streamkit.broker.coordination.share.share_partition import Acknowledgement, AcknowledgeType
from streamkit.broker.coordination.share.states import SharePartitionKey
from streamkit.broker.server.dispatch import RequestContext, Route
from streamkit.broker.server.replicas.leaders import Leaders
from streamkit.broker.server.share.sessions import FINAL_EPOCH, INITIAL_EPOCH, Place, SessionKey
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.share_acknowledge import (
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionData,
    ShareAcknowledgeRequest,
    ShareAcknowledgeResponse,
    ShareAcknowledgeTopicResponse,
)

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker

Outcomes: TypeAlias = dict[Place, "Outcome"]


class Outcome(NamedTuple):
    """What became of one share-partition's acknowledgements."""

    code: ErrorCode = ErrorCode.NONE
    message: str | None = None


class Answered(Protocol):
    """An `AcknowledgementBatch` of either request."""

    @property
    def first_offset(self) -> int: ...

    @property
    def last_offset(self) -> int: ...

    @property
    def acknowledge_types(self) -> list[int]: ...


DONE: Final = Outcome()


async def share_acknowledge(
    broker: Broker, request: RequestContext, message: ShareAcknowledgeRequest
) -> ShareAcknowledgeResponse:
    try:
        member = session_key(message.group_id, message.member_id)
        if message.share_session_epoch == INITIAL_EPOCH:
            raise Refusal(ErrorCode.INVALID_SHARE_SESSION_EPOCH)
        check_renewal(broker, member, renews=message.is_renew_ack)
        session = broker.shares.sessions.use(member, message.share_session_epoch)
    except Refusal as refusal:
        broker.count_failure(ApiKey.SHARE_ACKNOWLEDGE, refusal.code)
        return ShareAcknowledgeResponse(error_code=refusal.code, error_message=refusal.message)
    wanted = {
        (topic.topic_id, one.partition_index): one.acknowledgement_batches
        for topic in message.topics
        for one in topic.partitions
    }
    outcomes = await acknowledge(broker, member, wanted, renews=message.is_renew_ack)
    if message.share_session_epoch == FINAL_EPOCH:
        outcomes = await _left(broker, member, outcomes)
        broker.shares.sessions.close(session)
    broker.count_failures(ApiKey.SHARE_ACKNOWLEDGE, (one.code for one in outcomes.values()))
    leaders = Leaders(broker, request.listener)
    return ShareAcknowledgeResponse(
        acquisition_lock_timeout_ms=broker.shares.settings.of(member.group_id).limits.lock_ms,
        responses=_responses(outcomes, leaders),
        node_endpoints=[
            NodeEndpoint(node_id=one.node_id, host=one.host, port=one.port, rack=one.rack)
            for one in leaders.told
        ],
    )


def _responses(outcomes: Mapping[Place, Outcome], leaders: Leaders) -> list[ShareAcknowledgeTopicResponse]:
    topics: dict[bytes, list[PartitionData]] = {}
    for (topic_id, partition), outcome in outcomes.items():
        leader = leaders.of(topic_id, partition, outcome.code)
        one = PartitionData(
            partition_index=partition,
            error_code=outcome.code,
            error_message=outcome.message,
            current_leader=LeaderIdAndEpoch(leader_id=leader.node_id, leader_epoch=leader.epoch)
            if leader
            else LeaderIdAndEpoch(),
        )
        topics.setdefault(topic_id, []).append(one)
    return [
        ShareAcknowledgeTopicResponse(topic_id=topic_id, partitions=partitions)
        for topic_id, partitions in topics.items()
    ]


# ── for both APIs ───────────────────────────────────────────────────────────────────────────────────────


def session_key(group_id: str | None, member_id: str | None) -> SessionKey:
    if group_id is None or not member_id:
        raise Refusal(ErrorCode.INVALID_REQUEST, "A share session needs a group id and a member id.")
    return SessionKey(group_id, member_id)


def check_renewal(broker: Broker, member: SessionKey, *, renews: bool) -> None:
    if renews and not broker.shares.settings.of(member.group_id).renews:
        raise Refusal(ErrorCode.INVALID_REQUEST, "Renew acknowledgements are disabled for this group.")


async def acknowledge(
    broker: Broker, member: SessionKey, wanted: Mapping[Place, Sequence[Answered]], *, renews: bool
) -> Outcomes:
    """Done when all of it is persisted, or refused; never raises."""
    begun = [_begun(broker, member, place, batches, renews) for place, batches in wanted.items() if batches]
    places = [place for place, batches in wanted.items() if batches]
    return dict(zip(places, await asyncio.gather(*map(_outcome, begun)), strict=True))


def _begun(
    broker: Broker, member: SessionKey, place: Place, batches: Sequence[Answered], renews: bool
) -> Awaitable[None] | Refusal:
    """The acknowledgements are in the share-partition's hands when this returns."""
    topic_id, partition = place
    try:
        acknowledgements = list(_checked(batches, renews=renews))
        name = broker.topic_name(topic_id)
        if name is None:
            raise Refusal(ErrorCode.UNKNOWN_TOPIC_ID)
        if broker.partitions.led(name, partition) is None:
            raise Refusal(broker.why_missing(name, partition))
        hosted = broker.shares.partitions.get(SharePartitionKey(member.group_id, topic_id, partition))
        if hosted is None:
            raise Refusal(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        return hosted.acknowledge(member.member_id, acknowledgements)
    except Refusal as refusal:
        return refusal


async def _outcome(begun: Awaitable[None] | Refusal) -> Outcome:
    try:
        if isinstance(begun, Refusal):
            raise begun
        await begun
    except Refusal as refusal:
        return Outcome(refusal.code, refusal.message or refusal.code.name)
    return DONE


def _checked(batches: Iterable[Answered], *, renews: bool) -> Iterable[Acknowledgement]:
    """In order, without overlaps, each record with a type that there is."""
    end = -1
    highest = AcknowledgeType.RENEW if renews else AcknowledgeType.REJECT
    for one in batches:
        types = one.acknowledge_types
        if one.first_offset > one.last_offset or one.first_offset <= end:
            raise Refusal(ErrorCode.INVALID_REQUEST, "Acknowledgement batches overlap or are out of order.")
        if len(types) not in (1, one.last_offset - one.first_offset + 1):
            raise Refusal(ErrorCode.INVALID_REQUEST, "There must be one acknowledge type, or one per record.")
        if any(not AcknowledgeType.GAP <= kind <= highest for kind in types):
            raise Refusal(ErrorCode.INVALID_REQUEST, "There is no such acknowledge type.")
        end = one.last_offset
        yield Acknowledgement(one.first_offset, one.last_offset, types)


async def _left(broker: Broker, member: SessionKey, outcomes: Outcomes) -> Outcomes:
    """What the member still holds is given back; an answer names only what it asked about."""
    released = await broker.shares.partitions.release(member.group_id, member.member_id)
    for key, code in released.items():
        place = (key.topic_id, key.partition)
        if outcomes.get(place) == DONE and code is not ErrorCode.NONE:
            outcomes[place] = Outcome(code, code.name)
    return outcomes


ROUTES = (Route(ApiKey.SHARE_ACKNOWLEDGE, 1, 2, share_acknowledge),)
