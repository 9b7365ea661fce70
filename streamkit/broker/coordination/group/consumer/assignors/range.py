"""`range`: of each topic, every subscriber gets a run of neighbouring partitions.

Members stand in one order for all topics, those with instance ids first; so topics with the same number of
partitions and the same subscribers are divided alike, and what belongs together by its key meets in one
member. The first members get one partition more where a topic cannot be divided evenly.
"""

from __future__ import annotations

from streamkit.broker.coordination.group.consumer.assignors.contract import Claimant, Division, Parts
from streamkit.broker.coordination.group.modern.partitions import Partition


def assign(division: Division) -> Parts:
    parts: dict[str, list[Partition]] = {claimant.member_id: [] for claimant in division.claimants}
    ranked = sorted(division.claimants, key=_rank)
    for topic_id, count in division.partitions.items():
        subscribers = [claimant.member_id for claimant in ranked if topic_id in claimant.topics]
        begin = 0
        for position, member_id in enumerate(subscribers):
            end = begin + count // len(subscribers) + (position < count % len(subscribers))
            parts[member_id] += [Partition(topic_id, index) for index in range(begin, end)]
            begin = end
    return {member_id: frozenset(part) for member_id, part in parts.items()}


def _rank(claimant: Claimant) -> tuple[bool, str]:
    return claimant.instance_id is None, claimant.instance_id or claimant.member_id
