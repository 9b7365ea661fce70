"""What a share group divides today, and how: the target assignment of an epoch.

The partitions to divide are those that members want, that exist, and whose states have been begun. States
that are still missing are asked for on the way; when they have been begun, there is more to divide, and the
next heartbeat begins an epoch.
"""

from __future__ import annotations

from typing import NamedTuple

from streamkit.broker.coordination.group.cluster import metadata_hash
from streamkit.broker.coordination.group.modern.partitions import Partition, by_topic
from streamkit.broker.coordination.group.share.assignor import Claimant, assign
from streamkit.broker.coordination.group.share.group import ShareDraft, ShareGroup
from streamkit.broker.coordination.group.share.records import GroupMetadataValue, StatesChange
from streamkit.broker.coordination.group.share.states import ShareStates
from streamkit.broker.coordination.group.vocabulary import RebalanceReason
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
        value = GroupMetadataValue(epoch=draft.group.epoch + 1, metadata_hash=current_hash)
        draft.begin_epoch(value, reason)
    _ask_for_states(draft)


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
    write_states(draft, group.states.beginning(missing, names))
    group.soft.asked |= missing
    request = initialize_request(group, dict.fromkeys(missing, NO_OFFSET), draft.group.epoch)
    draft.decision.commands.append(InitializeStates(request))


def write_states(draft: ShareDraft, states: ShareStates) -> None:
    if states != draft.group.states:
        draft.write(StatesChange(draft.group.group_id, states.value()))


def assign_target(draft: ShareDraft) -> None:
    """Compute the target for the group's epoch, if there is none yet.

    Nobody waits for anybody: with the target the rebalance is over.
    """
    group = draft.group
    if group.epoch > group.target_epoch:
        draft.write_target(assign(_claimants(group), divisible(group)))
        draft.note_completion()


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
