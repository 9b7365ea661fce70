"""What a leader knows of those who fetch from it: the high watermark and its right to go on follow from it.

A voter's offset is the one that it fetched from: everything before is on its disk. The leader counts itself
by what it has flushed. So the offset that a majority of voters has reached is durable on a majority (R6).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from streamkit.broker.raft.messages import FetchRequest
from streamkit.broker.raft.voters import ReplicaKey, VoterSet

UNKNOWN_OFFSET = -1


class Replica(msgspec.Struct):
    """Invariant: `end_offset` never exceeds the leader's log end, and was validated against its epochs."""

    key: ReplicaKey
    end_offset: int = UNKNOWN_OFFSET
    fetched_ms: float = -1
    caught_up_ms: float = -1
    leader_end_offset: int = UNKNOWN_OFFSET
    """The leader's log end when it last fetched: reached by the next fetch, it was caught up then."""
    leader_end_ms: float = -1


class ParkedFetch(msgspec.Struct, frozen=True):
    """A fetch that waits for records or for a higher high watermark."""

    token: int
    request: FetchRequest
    deadline_ms: float


class Replicas:
    """Everybody that ever fetched in this epoch, voters or not, by id and directory."""

    def __init__(self, own: ReplicaKey, now_ms: float) -> None:
        self._own = own
        self._began_ms = now_ms
        self._by_key: dict[ReplicaKey, Replica] = {}
        self.parked: dict[ReplicaKey, ParkedFetch] = {}

    def __iter__(self) -> Iterator[Replica]:
        return iter(self._by_key.values())

    def get(self, key: ReplicaKey) -> Replica:
        found = self._by_key.get(key)
        if found is None:
            found = self._by_key[key] = Replica(key=key)
        return found

    def of_voter(self, key: ReplicaKey) -> Replica | None:
        """The replica that is this voter; one recorded without a directory is the latest with its id."""
        if key.has_directory:
            return self._by_key.get(key)
        same_id = [replica for replica in self._by_key.values() if replica.key.id == key.id]
        return max(same_id, key=lambda replica: replica.fetched_ms, default=None)

    def heard(self, key: ReplicaKey, now_ms: float) -> Replica:
        replica = self.get(key)
        replica.fetched_ms = now_ms
        return replica

    def fetched(self, key: ReplicaKey, offset: int, leader_end_offset: int, now_ms: float) -> Replica:
        """Note that `key` has everything below `offset` on disk."""
        replica = self.heard(key, now_ms)
        replica.end_offset = offset
        if offset >= leader_end_offset:
            replica.caught_up_ms = now_ms
        elif replica.leader_end_offset >= 0 and offset >= replica.leader_end_offset:
            replica.caught_up_ms = max(replica.caught_up_ms, replica.leader_end_ms)
        replica.leader_end_offset, replica.leader_end_ms = leader_end_offset, now_ms
        return replica

    def majority_offset(self, voters: VoterSet, flushed_offset: int) -> int:
        """The highest offset below which a majority of `voters` has everything on disk."""
        offsets = []
        for voter in voters:
            if voter.is_same_replica(self._own):
                offsets.append(flushed_offset)
            else:
                replica = self.of_voter(voter.key)
                offsets.append(UNKNOWN_OFFSET if replica is None else replica.end_offset)
        offsets.sort(reverse=True)
        return offsets[voters.majority - 1]

    def majority_heard_ms(self, voters: VoterSet, now_ms: float) -> float:
        """Since when at the latest a majority of `voters`, the leader among them, has been heard of."""
        times = []
        for voter in voters:
            if voter.is_same_replica(self._own):
                times.append(now_ms)
            else:
                replica = self.of_voter(voter.key)
                times.append(self._began_ms if replica is None else max(replica.fetched_ms, self._began_ms))
        times.sort(reverse=True)
        return times[voters.majority - 1]
