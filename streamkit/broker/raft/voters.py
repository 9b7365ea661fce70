"""Who votes: replicas by id *and* directory id, so that a wiped disk is a stranger (KIP-853).

A directory id of sixteen zero bytes means "not known yet": so it stands in the voters of a configuration
file, until each node has told its own and the leader has written them into the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

NO_DIRECTORY: Final = bytes(16)


class ReplicaKey(msgspec.Struct, frozen=True, gc=False):
    """One replica for as long as its disk lives."""

    id: int
    directory_id: bytes = NO_DIRECTORY

    @property
    def has_directory(self) -> bool:
        return self.directory_id != NO_DIRECTORY


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    name: str
    host: str
    port: int


class Voter(msgspec.Struct, frozen=True):
    key: ReplicaKey
    endpoints: tuple[Endpoint, ...] = ()
    min_kraft_version: int = 0
    max_kraft_version: int = 1

    def is_same_replica(self, key: ReplicaKey) -> bool:
        """Whether `key` is this voter; a voter that was recorded without a directory is known by its id."""
        return self.key == key or (self.key.id == key.id and not self.key.has_directory)


class VoterSet:
    """An immutable set of voters, at most one for an id; majorities are counted over it."""

    __slots__ = ("_by_id",)

    def __init__(self, voters: Iterable[Voter] = ()) -> None:
        self._by_id = {voter.key.id: voter for voter in sorted(voters, key=lambda v: v.key.id)}

    def __iter__(self) -> Iterator[Voter]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, replica_id: int) -> bool:
        return replica_id in self._by_id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VoterSet) and self._by_id == other._by_id

    def __hash__(self) -> int:
        return hash(tuple(self._by_id.values()))

    def __repr__(self) -> str:
        return f"VoterSet({list(self._by_id)})"

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(self._by_id)

    @property
    def majority(self) -> int:
        return len(self._by_id) // 2 + 1

    def get(self, replica_id: int) -> Voter | None:
        return self._by_id.get(replica_id)

    def has(self, key: ReplicaKey) -> bool:
        """Whether this very replica votes (R10: the same id with another directory does not)."""
        voter = self._by_id.get(key.id)
        return voter is not None and voter.is_same_replica(key)

    def key_of(self, replica_id: int) -> ReplicaKey:
        """The recorded key of a voter; one without a directory for a replica that is no voter."""
        voter = self._by_id.get(replica_id)
        return ReplicaKey(replica_id) if voter is None else voter.key

    def with_voter(self, voter: Voter) -> VoterSet:
        """The set with this voter added, or in the place of the one with its id."""
        return VoterSet({**self._by_id, voter.key.id: voter}.values())

    def without(self, replica_id: int) -> VoterSet:
        return VoterSet(voter for voter in self if voter.key.id != replica_id)

    def with_directories(self, known: Iterable[ReplicaKey]) -> VoterSet:
        """The set with directory ids filled in where none was recorded."""
        voters = dict(self._by_id)
        for key in known:
            voter = voters.get(key.id)
            if voter is not None and not voter.key.has_directory:
                voters[key.id] = msgspec.structs.replace(voter, key=key)
        return VoterSet(voters.values())
