"""What clients did and were told, in the order in which they were told it."""

from __future__ import annotations

from enum import Enum

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


class History:
    def __init__(self) -> None:
        self.sends: list[Send] = []
        self.polls: list[Poll] = []
        self.ownerships: list[Ownership] = []
        self.commits: list[Commit] = []
        self.committed_reads: list[CommittedRead] = []
        self.surprises: list[str] = []
        """Answers that no fault explains."""
        self.final: dict[int, list[tuple[int, str]]] = {}
        """Partition → everything that is in it, read at the very end."""

    @property
    def acknowledged(self) -> int:
        """Operations that were told to be done."""
        sent = sum(1 for send in self.sends if send.outcome is Outcome.OK)
        return sent + len(self.polls) + len(self.commits)
