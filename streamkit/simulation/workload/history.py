"""What clients did and were told, in the order in which they were told it."""

from __future__ import annotations

from collections import Counter
from enum import Enum
from typing import NamedTuple

import msgspec


class Outcome(Enum):
    OK = "ok"
    FAILED = "failed"
    """Certainly not carried out."""
    UNKNOWN = "unknown"


class Send(msgspec.Struct, kw_only=True):
    """A batch that a producer sent until it was acknowledged or given up."""

    producer: str
    partition: int
    values: tuple[str, ...]
    began_s: float
    ended_s: float = -1.0
    outcome: Outcome = Outcome.UNKNOWN
    base_offset: int = -1
    """-1 where it is not known (a duplicate whose place was forgotten)."""


class Poll(msgspec.Struct, kw_only=True, frozen=True):
    """Records of one partition, as one fetch brought them. Polls of one `session` continue each other."""

    consumer: str
    session: str
    assigned: bool
    """By itself, rather than by a group that may take the partition away and give it back."""
    partition: int
    from_offset: int
    records: tuple[tuple[int, str], ...]
    at_s: float


class Ownership(msgspec.Struct, kw_only=True, frozen=True):
    """A member was told by its group's coordinator what it owns in a generation."""

    member: str
    generation: int
    partitions: tuple[int, ...]
    at_s: float


class Commit(msgspec.Struct, kw_only=True, frozen=True):
    """A commit that was acknowledged."""

    member: str
    generation: int
    partition: int
    offset: int
    began_s: float
    ended_s: float


class CommittedRead(msgspec.Struct, kw_only=True, frozen=True):
    """A committed offset as the coordinator gave it (-1: none)."""

    member: str
    partition: int
    offset: int
    began_s: float
    ended_s: float


class Fate(Enum):
    """What became of a transaction, as far as its client can know."""

    COMMITTED = "committed"
    ABORTED = "aborted"
    """Also where nobody ever asked to commit it."""
    UNKNOWN = "unknown"
    """It was to be committed, and no answer said whether it was."""


class ProducerEpoch(NamedTuple):
    """Who writes: one stretch in the life of a transactional id."""

    producer_id: int
    epoch: int


class Consumed(NamedTuple):
    """What a transaction read of an input partition, and commits as the group's position with its end."""

    partition: int
    from_offset: int
    to_offset: int


class Written(NamedTuple):
    """A batch of a transaction that was acknowledged; -1 where its place is not known."""

    partition: int
    base_offset: int
    values: tuple[str, ...]


class Transaction(msgspec.Struct, kw_only=True):
    """What one holder of a transactional id did between two ends."""

    name: str
    transactional_id: str
    producer: ProducerEpoch
    began_s: float
    values: dict[int, list[str]] = {}
    """Partition → everything that was sent there, acknowledged or not."""
    written: list[Written] = []
    consumed: Consumed | None = None
    commit_asked_s: float | None = None
    """When somebody asked for the first time that it be committed."""
    ended_s: float = -1.0
    fate: Fate = Fate.ABORTED


class TakeOver(msgspec.Struct, kw_only=True, frozen=True):
    """A transactional id was initialised: whoever held it before is fenced."""

    transactional_id: str
    producer: ProducerEpoch
    began_s: float
    ended_s: float


class Act(msgspec.Struct, kw_only=True, frozen=True):
    """A request of a transactional producer that was acknowledged; an end may tell it its next epoch."""

    transactional_id: str
    producer: ProducerEpoch
    what: str
    began_s: float
    ended_s: float
    successor: ProducerEpoch | None = None


class PositionRead(msgspec.Struct, kw_only=True, frozen=True):
    """A position of the copying group as its coordinator gave it, and which transaction committed it."""

    partition: int
    offset: int
    transaction: str
    began_s: float
    ended_s: float


class StaticJoin(msgspec.Struct, kw_only=True, frozen=True):
    """A static member joined, and has its assignment."""

    instance: str
    member_id: str
    generation: int
    began_s: float
    ended_s: float


class StaticAct(msgspec.Struct, kw_only=True, frozen=True):
    """A request of a static member that was accepted."""

    instance: str
    member_id: str
    generation: int
    began_s: float
    ended_s: float


class Presence(msgspec.Struct, kw_only=True, frozen=True):
    """The one member of a group was there when it asked: the group was not empty yet."""

    group: str
    at_s: float


class Kept(msgspec.Struct, kw_only=True, frozen=True):
    """A group's only position was committed, or (`is_read`) read back."""

    group: str
    offset: int
    began_s: float
    ended_s: float
    is_read: bool


class History:
    def __init__(self) -> None:
        self.sends: list[Send] = []
        self.updates: list[Send] = []
        """Of the compacted topic: each value is `key=what`, and the newest of each key counts."""
        self.polls: list[Poll] = []
        self.committed_polls: list[Poll] = []
        """Of what transactions write, read as far as it is committed."""
        self.transactions: list[Transaction] = []
        self.take_overs: list[TakeOver] = []
        self.acts: list[Act] = []
        self.refused: Counter[str] = Counter()
        """Why requests of transactional producers were refused for good."""
        self.position_reads: list[PositionRead] = []
        self.static_joins: list[StaticJoin] = []
        self.static_acts: list[StaticAct] = []
        self.presences: list[Presence] = []
        self.kept: list[Kept] = []
        self.ownerships: list[Ownership] = []
        self.commits: list[Commit] = []
        self.committed_reads: list[CommittedRead] = []
        self.voter_changes: Counter[str] = Counter()
        """What was done to the quorum."""
        self.surprises: list[str] = []
        """Answers that no fault explains."""
        self.final: dict[int, list[tuple[int, str]]] = {}
        """Partition → everything that is in it, read at the very end."""
        self.final_committed: dict[int, list[tuple[int, str]]] = {}
        """The same of what transactions write."""
        self.final_table: dict[int, list[tuple[int, str]]] = {}
        """The same of the compacted topic."""
        self.final_positions: dict[int, int] = {}
        """Input partition → the copying group's position at the very end (-1: none)."""

    @property
    def acknowledged(self) -> int:
        """Operations that were told to be done."""
        sent = sum(1 for send in self.sends if send.outcome is Outcome.OK)
        return sent + len(self.polls) + len(self.commits)
