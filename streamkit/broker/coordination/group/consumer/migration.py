"""A group changes its protocol while its members live in it: classic to consumer, and back.

*Up*: when the first member of the new protocol comes to a classic group of consumers, the group becomes a
consumer group, in an epoch that is the generation it was in, with the assignment that it had. Members that
still speak the classic protocol stay (`classic_members`); in the next rolling restart the last of them is
gone. *Down*: when the last member of the new protocol leaves and classic ones remain, they become a classic
group of that generation, and are gathered for the next.

Both are records: the group under the one protocol is deleted and the group under the other is written, in one
batch. A classic group that was a consumer group has no leader in its record until it has been gathered; so a
coordinator that loads it knows that it has to be (`Timer("migrated")`).
"""

from __future__ import annotations

from streamkit.broker.coordination.group.classic.group import ClassicGroup, refuse_join, refuse_sync
from streamkit.broker.coordination.group.classic.member import Member
from streamkit.broker.coordination.group.cluster import Cluster, metadata_hash
from streamkit.broker.coordination.group.consumer.group import ConsumerDraft, ConsumerGroup
from streamkit.broker.coordination.group.consumer.member import ConsumerMember
from streamkit.broker.coordination.group.consumer.records import (
    ClassicMemberMetadata,
    ClassicProtocol,
    GroupMetadataValue,
)
from streamkit.broker.coordination.group.embedded_protocol import (
    CONSUMER_PROTOCOL,
    decode_assignment,
    decode_subscription,
    encode_assignment,
)
from streamkit.broker.coordination.group.modern.member import MemberState
from streamkit.broker.coordination.group.modern.partitions import Partition, existing
from streamkit.broker.coordination.group.modern.records import EpochChange
from streamkit.broker.coordination.group.records import (
    GroupMetadataValue as ClassicMetadataValue,
)
from streamkit.broker.coordination.group.records import (
    MemberMetadata,
    group_record,
    group_tombstone,
)
from streamkit.broker.coordination.group.vocabulary import Timer
from streamkit.broker.coordination.shard import Decision, Refusal
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.errors import MalformedMessageError

UPGRADING_POLICIES = ("upgrade", "bidirectional")
DOWNGRADING_POLICIES = ("downgrade", "bidirectional")

# ── classic to consumer ──────────────────────────────────────────────────────────────────────────────────


def become_consumer(classic: ClassicGroup, cluster: Cluster, decision: Decision) -> ConsumerDraft:
    """The consumer group that a classic one becomes. Raises Refusal if it may not, or cannot."""
    if not classic.is_empty:
        _check_upgrade(classic)
    new = ConsumerGroup(classic.group_id, classic.config, classic.deadlines, cluster)
    draft = ConsumerDraft(new, decision)
    members = [] if classic.is_empty else _upgraded_members(classic, cluster)
    if classic.is_recorded:
        decision.records.append(group_tombstone(classic.group_id))
    _send_away(classic, decision)
    if members:
        _write_group(draft, classic.generation, members)
    for member in members:
        assert member.classic is not None
        draft.expect("session", member.member_id, member.classic.session_timeout_ms)
    return draft


def _check_upgrade(classic: ClassicGroup) -> None:
    """Whatever speaks against it has to be found here: afterwards nobody is refused."""
    config = classic.config
    if len(classic.members) >= config.group_consumer_max_size:
        raise Refusal(ErrorCode.GROUP_MAX_SIZE_REACHED)
    if (
        config.group_consumer_migration_policy not in UPGRADING_POLICIES
        or classic.protocol_type != CONSUMER_PROTOCOL
    ):
        raise Refusal(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {classic.group_id} is not a consumer group.")


def _send_away(classic: ClassicGroup, decision: Decision) -> None:
    """Whoever waits for the classic group's next generation is made to join again."""
    for member in classic.members.values():
        refuse_join(member, ErrorCode.REBALANCE_IN_PROGRESS, decision)
        refuse_sync(member, ErrorCode.REBALANCE_IN_PROGRESS, decision)
    for kind in ("join", "sync"):
        classic.deadlines.cancel(classic.timer(kind))


def _upgraded_members(classic: ClassicGroup, cluster: Cluster) -> list[ConsumerMember]:
    """Members that have been in a generation; whoever has not been told of one joins anew."""
    taken: set[Partition] = set()
    members = []
    for member in classic.members.values():
        if member.is_new:
            continue
        upgraded = _upgraded(classic, member, cluster, taken)
        taken.update(upgraded.assigned)
        members.append(upgraded)
    return members


def _upgraded(
    classic: ClassicGroup, member: Member, cluster: Cluster, taken: set[Partition]
) -> ConsumerMember:
    protocol_name = classic.protocol_name or member.protocol_names[0]
    try:
        subscription = decode_subscription(member.metadata(protocol_name))
        assignment = decode_assignment(member.assignment) if member.assignment else {}
    except MalformedMessageError as error:
        raise Refusal(
            ErrorCode.GROUP_ID_NOT_FOUND,
            f"Cannot upgrade the classic group {classic.group_id} to consumer group because the embedded "
            f"consumer protocol is malformed: {error}.",
        ) from None
    topics = {name: cluster.topic(name) for name in assignment}
    assigned = {
        partition: classic.generation
        for name, topic in topics.items()
        if topic is not None
        for partition in (Partition(topic.topic_id, index) for index in assignment[name])
        if partition not in taken
    }
    return ConsumerMember(
        member_id=member.member_id,
        instance_id=member.instance_id,
        rack_id=subscription.rack_id,
        client_id=member.client_id,
        client_host=member.client_host,
        topics=tuple(sorted(set(subscription.topics))),
        rebalance_timeout_ms=member.rebalance_timeout_ms,
        classic=ClassicMemberMetadata(
            session_timeout_ms=member.session_timeout_ms,
            supported_protocols=[
                ClassicProtocol(name=protocol.name, metadata=protocol.metadata)
                for protocol in member.protocols
            ],
        ),
        epoch=classic.generation,
        previous_epoch=classic.generation,
        state=MemberState.STABLE,
        assigned=assigned,
    )


def _write_group(draft: ConsumerDraft, generation: int, members: list[ConsumerMember]) -> None:
    group_id = draft.group.group_id
    for member in members:
        draft.write_metadata(member)
    current_hash = metadata_hash(draft.group.cluster, draft.group.subscribers)
    epoch = GroupMetadataValue(epoch=generation, metadata_hash=current_hash)
    draft.write(EpochChange(group_id, epoch))
    for member in members:
        draft.write_part(member.member_id, member.assigned)
    draft.write_target_epoch(generation)
    for member in members:
        draft.write_current(member)


# ── consumer to classic ──────────────────────────────────────────────────────────────────────────────────


def should_become_classic(group: ConsumerGroup) -> bool:
    """Whether only members of the classic protocol are left, and they may go on among themselves."""
    members = group.members.values()
    return (
        bool(members)
        and all(member.uses_classic_protocol for member in members)
        and group.config.group_consumer_migration_policy in DOWNGRADING_POLICIES
        and len(members) <= group.config.group_max_size
    )


def become_classic(draft: ConsumerDraft) -> None:
    """Write the classic group that is left, and have its members gathered as soon as it is there."""
    group, decision = draft.group, draft.decision
    members = list(group.members.values())
    protocol_name = shared_protocol(members)
    value = ClassicMetadataValue(
        protocol_type=CONSUMER_PROTOCOL,
        generation=group.epoch,
        protocol=protocol_name,
        leader=None,
        current_state_timestamp=decision.at.wall_ms,
        members=[_downgraded(group, member, protocol_name) for member in members],
    )
    for member in members:
        assert member.classic is not None
        draft.cancel_deadlines(member.member_id)
        draft.expect("session", member.member_id, member.classic.session_timeout_ms)
    draft.delete()
    decision.records.append(group_record(group.group_id, value))
    group.deadlines.set(Timer("migrated", group.group_id), decision.at.monotonic_ms)


def _downgraded(group: ConsumerGroup, member: ConsumerMember, protocol_name: str) -> MemberMetadata:
    assert member.classic is not None
    subscription = next(
        protocol.metadata for protocol in member.classic.supported_protocols if protocol.name == protocol_name
    )
    return MemberMetadata(
        member_id=member.member_id,
        group_instance_id=member.instance_id,
        client_id=member.client_id,
        client_host=member.client_host,
        rebalance_timeout=member.rebalance_timeout_ms,
        session_timeout=member.classic.session_timeout_ms,
        subscription=subscription,
        assignment=encoded_assignment(group, group.target.get(member.member_id, frozenset()), subscription),
    )


def shared_protocol(members: list[ConsumerMember]) -> str:
    """The first protocol of the first classic member that the others know too."""
    offers = [
        [protocol.name for protocol in member.classic.supported_protocols]
        for member in members
        if member.classic is not None
    ]
    return next(name for name in offers[0] if all(name in names for names in offers))


def encoded_assignment(group: ConsumerGroup, partitions: frozenset[Partition], subscription: bytes) -> bytes:
    """Partitions as a classic consumer reads them: by the names of the topics that exist."""
    named = {topic.name: numbers for topic, numbers in existing(group.cluster, partitions)}
    return encode_assignment(named, subscription)
