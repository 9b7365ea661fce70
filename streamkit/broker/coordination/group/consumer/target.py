"""Who shall own what: the target assignment of a group epoch, by the assignor that members ask for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from streamkit.broker.coordination.group.consumer.assignors import range as range_assignor
from streamkit.broker.coordination.group.consumer.assignors import uniform
from streamkit.broker.coordination.group.consumer.assignors.contract import Assignor, Claimant, Division
from streamkit.broker.coordination.group.consumer.group import ConsumerDraft, ConsumerGroup

ASSIGNORS: Final[Mapping[str, Assignor]] = {"uniform": uniform.assign, "range": range_assignor.assign}


def assignor_name(group: ConsumerGroup) -> str:
    """What most members ask for; the broker's first, where nobody asks or votes are even with it."""
    offered = group.config.group_consumer_assignors
    votes = Counter(member.assignor for member in group.members.values() if member.assignor in offered)
    ranked = sorted(votes, key=lambda name: (-votes[name], offered.index(str(name))))
    return str(ranked[0]) if ranked else offered[0]


def assign(draft: ConsumerDraft) -> None:
    """Compute the target for the group's epoch, if there is none yet."""
    group = draft.group
    if group.epoch > group.target_epoch:
        draft.write_target(ASSIGNORS[assignor_name(group)](_division(group)))


def _division(group: ConsumerGroup) -> Division:
    found = {name: group.cluster.topic(name) for name in sorted(group.subscribers)}
    topics = {name: topic for name, topic in found.items() if topic is not None}
    return Division(
        claimants=tuple(
            Claimant(
                member_id=member_id,
                instance_id=member.instance_id,
                topics=frozenset(topics[name].topic_id for name in group.topics_of(member) if name in topics),
                has=group.target.get(member_id, frozenset()),
            )
            for member_id, member in sorted(group.members.items())
        ),
        partitions={topic.topic_id: topic.partitions for topic in topics.values()},
    )
