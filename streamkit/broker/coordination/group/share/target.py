"""What a share group divides today, and how: the target assignment of an epoch.

The partitions to divide are those that members want, that exist, and whose states have been begun. States
that are still missing are asked for on the way; when they have been begun, there is more to divide, and the
next heartbeat begins an epoch.
"""

from __future__ import annotations

from typing import NamedTuple

from streamkit.broker.coordination.group.cluster import metadata_hash
from streamkit.broker.coordination.group.consumer.member import Partition, by_topic
from streamkit.broker.coordination.group.share.assignor import Claimant, assign
from streamkit.broker.coordination.group.share.draft import ShareDraft
from streamkit.broker.coordination.group.share.group import ShareGroup
from streamkit.broker.coordination.group.share.member import target_value
from streamkit.broker.coordination.group.share.records import (
    ShareEpochChange,
    ShareGroupMetadataValue,
    ShareTargetChange,
    ShareTargetEpochChange,
    ShareTargetMetadataValue,
)
from streamkit.broker.coordination.group.vocabulary import (
    RebalanceCompleted,
    RebalanceReason,
    RebalanceStarted,
)
from streamkit.broker.coordination.shard import Token
from streamkit.protocol.messages.alter_share_group_offsets import AlterShareGroupOffsetsResponse
from streamkit.protocol.messages.initialize_share_group_state import (
    InitializeShareGroupStateRequest,
    InitializeStateData,
    PartitionData,
)

NO_OFFSET = -1
"""A state that begins so takes its offset from `share.auto.offset.reset`, with the first fetch."""


class Alteration(NamedTuple):
    """Who waits for states to be begun anew, and the answer if all goes well."""

    token: Token
    response: AlterShareGroupOffsetsResponse


class InitializeStates(NamedTuple):
    """A command: have the states of share-partitions begun, then tell the group what became of it."""

    request: InitializeShareGroupStateRequest
    alteration: Alteration | None = None


def initialize_request(
    group: ShareGroup, offsets: dict[Partition, int], state_epoch: int
) -> InitializeShareGroupStateRequest:
    return InitializeShareGroupStateRequest(
        group_id=group.group_id,
        topics=[
            InitializeStateData(
                topic_id=topic_id,
                partitions=[
                    PartitionData(
                        partition=number,
                        state_epoch=state_epoch,
                        start_offset=offsets[Partition(topic_id, number)],
                    )
                    for number in numbers
                ],
            )
            for topic_id, numbers in by_topic(offsets).items()
        ],
    )


def refresh(draft: ShareDraft, reason: RebalanceReason | None) -> None:
    """Begin an epoch if there is a reason to, or if what there is to divide has changed."""
    soft = draft.group.soft
    if reason is None and not soft.topics_changed:
        return
    soft.topics_changed = False
    current_hash = metadata_hash(draft.group.cluster, draft.group.subscribers)
    if current_hash != draft.group.metadata_hash or _assigned(draft.group) != divisible(draft.group):
        reason = reason or RebalanceReason.TOPICS_CHANGED
    if reason is not None:
        begin_epoch(draft, current_hash, reason)
    _ask_for_states(draft)


def begin_epoch(draft: ShareDraft, current_hash: int, reason: RebalanceReason) -> None:
    group = draft.group
    value = ShareGroupMetadataValue(epoch=group.epoch + 1, metadata_hash=current_hash)
    draft.write(ShareEpochChange(group.group_id, value))
    draft.decision.events.append(RebalanceStarted(group.group_id, reason))
    if group.soft.rebalance_began_ms is None:
        group.soft.rebalance_began_ms = draft.decision.at.monotonic_ms


def divisible(group: ShareGroup) -> frozenset[Partition]:
    return group.states.initialized.intersection(group.wanted())


def _assigned(group: ShareGroup) -> frozenset[Partition]:
    return frozenset[Partition]().union(*group.target.values())


def _ask_for_states(draft: ShareDraft) -> None:
    """Have the states begun that are wanted, have not been begun, and were not asked for already."""
    group = draft.group
    missing = {one for one in group.wanted() if one not in group.states.initialized} - group.soft.asked
    if not missing:
        return
    names = {topic.topic_id: topic.name for topic in map(group.cluster.topic, group.subscribers) if topic}
    draft.write_states(group.states.beginning(missing, names))
    group.soft.asked |= missing
    request = initialize_request(group, dict.fromkeys(missing, NO_OFFSET), draft.group.epoch)
    draft.decision.commands.append(InitializeStates(request))


def assign_target(draft: ShareDraft) -> None:
    """Compute the target for the group's epoch, if there is none yet."""
    group = draft.group
    if group.epoch <= group.target_epoch:
        return
    before = group.target
    for member_id, part in assign(_claimants(group), divisible(group)).items():
        if before.get(member_id) != part:
            draft.write(ShareTargetChange(group.group_id, member_id, target_value(part)))
    made = ShareTargetMetadataValue(
        assignment_epoch=group.epoch, assignment_timestamp=draft.decision.at.wall_ms
    )
    draft.write(ShareTargetEpochChange(group.group_id, made))
    _note_completion(draft)


def _claimants(group: ShareGroup) -> list[Claimant]:
    ids = {topic.name: topic.topic_id for topic in map(group.cluster.topic, group.subscribers) if topic}
    return [
        Claimant(
            member_id=member_id,
            topics=frozenset(ids[name] for name in member.topics if name in ids),
            has=group.target.get(member_id, frozenset()),
        )
        for member_id, member in group.members.items()
    ]


def _note_completion(draft: ShareDraft) -> None:
    """Nobody waits for anybody: with the target the rebalance is over."""
    soft = draft.group.soft
    if soft.rebalance_began_ms is not None:
        duration_ms = draft.decision.at.monotonic_ms - soft.rebalance_began_ms
        draft.decision.events.append(RebalanceCompleted(draft.group.group_id, duration_ms))
        soft.rebalance_began_ms = None
