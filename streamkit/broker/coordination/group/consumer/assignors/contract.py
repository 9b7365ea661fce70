"""What an assignor is given, and what it owes.

An assignor is a function of a `Division`: same input, same output, whatever the order of its parts in memory.
Every partition of a topic that somebody wants has exactly one owner, and the owner wants the topic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from streamkit.broker.coordination.group.modern.partitions import Partition


class Claimant(NamedTuple):
    """A member as an assignor sees it."""

    member_id: str
    instance_id: str | None
    topics: frozenset[bytes]
    """The ids of the topics that it wants."""
    has: frozenset[Partition]
    """Its part of the division before this one."""


class Division(NamedTuple):
    """The work to divide: who wants what, and how many partitions each topic has."""

    claimants: tuple[Claimant, ...]
    """Sorted by member id."""
    partitions: Mapping[bytes, int]


Parts: TypeAlias = dict[str, frozenset[Partition]]
"""What each member shall own."""

Assignor: TypeAlias = Callable[[Division], Parts]
