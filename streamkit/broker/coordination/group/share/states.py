"""How far the states of a group's share-partitions have come.

What was delivered from a partition and acknowledged is kept by a share coordinator, not by the group. The
group only sees to it that the state is there before a member is given the partition, and gone once it is not
wanted any more. Three stations, each written down before the share coordinator is asked, so that whatever a
crash interrupts is asked for again:

    initializing ── the share coordinator has begun the state ──▶ initialized
    initialized  ── an operator deletes the offsets, or the group ──▶ deleting ── it is gone ──▶ (nothing)

A state begins at no offset in particular: `share.auto.offset.reset` says where, once the first record is
fetched. An operator may begin it anew at an offset of his own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from streamkit.broker.coordination.group.modern.partitions import Partition, by_topic
from streamkit.broker.coordination.group.share.records import (
    StatePartitionsValue,
    TopicInfo,
    TopicPartitionsInfo,
)


class ShareStates(msgspec.Struct, frozen=True, kw_only=True):
    """Invariants: no partition is both initializing and initialized; `names` has every topic's name."""

    initializing: frozenset[Partition] = frozenset()
    initialized: frozenset[Partition] = frozenset()
    deleting: frozenset[bytes] = frozenset()
    """Topic ids."""
    names: Mapping[bytes, str] = {}

    @property
    def topics(self) -> frozenset[bytes]:
        """The ids of all topics of which there is, or was, or will be state."""
        return self.deleting.union(one.topic_id for one in self.initializing | self.initialized)

    def of_topic(self, topic_id: bytes) -> frozenset[Partition]:
        """The partitions of a topic that have state, or are about to."""
        return frozenset(one for one in self.initializing | self.initialized if one.topic_id == topic_id)

    def beginning(self, partitions: Iterable[Partition], names: Mapping[bytes, str]) -> ShareStates:
        """With the states of these to be begun, or begun anew."""
        begun = frozenset(partitions)
        return self._with(
            initializing=self.initializing | begun,
            initialized=self.initialized - begun,
            deleting=self.deleting.difference(one.topic_id for one in begun),
            names=names,
        )

    def begun(self, partitions: Iterable[Partition]) -> ShareStates:
        """With the states of these begun, as far as that is still wanted."""
        done = self.initializing.intersection(partitions)
        return self._with(initializing=self.initializing - done, initialized=self.initialized | done)

    def ending(self, topic_ids: Collection[bytes]) -> ShareStates:
        """With the states of these topics to be deleted."""
        return self.without(topic_ids)._with(deleting=self.deleting.union(topic_ids), names=self.names)

    def without(self, topic_ids: Collection[bytes]) -> ShareStates:
        """With nothing of these topics."""
        return self._with(
            initializing=frozenset(one for one in self.initializing if one.topic_id not in topic_ids),
            initialized=frozenset(one for one in self.initialized if one.topic_id not in topic_ids),
            deleting=self.deleting.difference(topic_ids),
        )

    def _with(
        self,
        *,
        initializing: frozenset[Partition] | None = None,
        initialized: frozenset[Partition] | None = None,
        deleting: frozenset[bytes] | None = None,
        names: Mapping[bytes, str] | None = None,
    ) -> ShareStates:
        after = ShareStates(
            initializing=self.initializing if initializing is None else initializing,
            initialized=self.initialized if initialized is None else initialized,
            deleting=self.deleting if deleting is None else deleting,
        )
        known = {**self.names, **(names or {})}
        return msgspec.structs.replace(
            after, names={topic_id: known[topic_id] for topic_id in sorted(after.topics)}
        )

    # ── records ────────────────────────────────────────────────────────────────────────────────────────

    def value(self) -> StatePartitionsValue:
        return StatePartitionsValue(
            initializing_topics=self._recorded(self.initializing),
            initialized_topics=self._recorded(self.initialized),
            deleting_topics=[
                TopicInfo(topic_id=topic_id, topic_name=self.names[topic_id])
                for topic_id in sorted(self.deleting)
            ],
        )

    def _recorded(self, partitions: Iterable[Partition]) -> list[TopicPartitionsInfo]:
        return [
            TopicPartitionsInfo(topic_id=topic_id, topic_name=self.names[topic_id], partitions=numbers)
            for topic_id, numbers in by_topic(partitions).items()
        ]


NO_STATES: Final = ShareStates()


def states_of(value: StatePartitionsValue | None) -> ShareStates:
    """What a record says."""
    if value is None:
        return NO_STATES
    topics: list[TopicPartitionsInfo | TopicInfo] = [
        *value.initializing_topics,
        *value.initialized_topics,
        *value.deleting_topics,
    ]
    return ShareStates(
        initializing=_read(value.initializing_topics),
        initialized=_read(value.initialized_topics),
        deleting=frozenset(topic.topic_id for topic in value.deleting_topics),
        names={topic.topic_id: topic.topic_name for topic in topics},
    )


def _read(topics: Iterable[TopicPartitionsInfo]) -> frozenset[Partition]:
    return frozenset(Partition(topic.topic_id, number) for topic in topics for number in topic.partitions)
