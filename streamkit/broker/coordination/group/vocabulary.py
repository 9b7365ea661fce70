"""Words that groups of every kind share: who asks, whose deadline it is, what is told to the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol


class RebalanceReason(StrEnum):
    MEMBER_JOINED = "member_joined"
    MEMBER_LEFT = "member_left"
    MEMBER_CHANGED = "member_changed"
    LEADER_REJOINED = "leader_rejoined"
    SESSION_EXPIRED = "session_expired"
    SYNC_EXPIRED = "sync_expired"
    OVER_CAPACITY = "over_capacity"
    TOPICS_CHANGED = "topics_changed"
    REVOCATION_EXPIRED = "revocation_expired"
    JOIN_EXPIRED = "join_expired"
    MIGRATED = "migrated"
    SETTINGS_CHANGED = "settings_changed"


class RebalanceStarted(NamedTuple):
    group_id: str
    reason: RebalanceReason


class RebalanceCompleted(NamedTuple):
    """The duration runs from the first of the rebalances that ended in this generation."""

    group_id: str
    duration_ms: int


class Timer(NamedTuple):
    """What is due, and whose.

    `session` a member's next heartbeat; `join` and `sync` of a classic group, or of a classic member in a
    consumer group; `revoke` a member's letting go of partitions or tasks; `initial` the first assignment of
    a streams group; `migrated` a classic group that was a consumer group a moment ago; `expiry` of all
    offsets.
    """

    kind: str
    group_id: str = ""
    member_id: str = ""


class CommitClaim(NamedTuple):
    """Who commits offsets, as whom (`epoch` is a generation in classic groups), and of which partitions."""

    member_id: str
    instance_id: str | None
    epoch: int
    partitions: Sequence[tuple[bytes, int]]
    """Topic ids and indexes."""
    named_partitions: Sequence[tuple[str, int]]
    """The same by the topics' names."""
    knows_member_epochs: bool
    """Whether it was said in a version that members of consumer groups use."""


class Caller(NamedTuple):
    """Who asks, in which version; `fresh_id` makes a member id unique, should one be needed."""

    version: int
    client_id: str
    client_host: str
    fresh_id: str


class Readers(Protocol):
    """A group of any kind, as its offsets see it."""

    @property
    def group_id(self) -> str: ...

    def is_subscribed(self, topic: str) -> bool:
        """Whether a live member may still need offsets of this topic."""
        ...

    def retention_began_ms(self, topic: str, committed_ms: int) -> int | None:
        """When the retention of an offset began (wall clock); None while it must be kept."""
        ...
