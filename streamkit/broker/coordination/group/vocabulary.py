"""Words that groups of every kind share: who asks, whose deadline it is, what is told to the metrics."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class RebalanceReason(StrEnum):
    MEMBER_JOINED = "member_joined"
    MEMBER_LEFT = "member_left"
    MEMBER_CHANGED = "member_changed"
    LEADER_REJOINED = "leader_rejoined"
    SESSION_EXPIRED = "session_expired"
    SYNC_EXPIRED = "sync_expired"
    OVER_CAPACITY = "over_capacity"


class RebalanceStarted(NamedTuple):
    group_id: str
    reason: RebalanceReason


class RebalanceCompleted(NamedTuple):
    """The duration runs from the first of the rebalances that ended in this generation."""

    group_id: str
    duration_ms: int


class Timer(NamedTuple):
    """Whose deadline it is: `session` of a member, `join` or `sync` of a group, `expiry` of all offsets."""

    kind: str
    group_id: str = ""
    member_id: str = ""


class Caller(NamedTuple):
    """Who asks, in which version; `fresh_id` makes a member id unique, should one be needed."""

    version: int
    client_id: str
    client_host: str
    fresh_id: str
