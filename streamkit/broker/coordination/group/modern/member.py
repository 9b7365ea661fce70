"""One member of a group whose work is divided by the coordinator: who it is, and how far it has come.

Members are values; every change makes another, and a record carries one half of it: *metadata* is what the
member said of itself, *current* what it has. A kind of group adds what its members want and have.
"""

from __future__ import annotations

from abc import abstractmethod
from enum import IntEnum
from typing import Any, Final, Self

import msgspec
from msgspec.structs import replace

from streamkit.abstract_struct import AbstractStructMeta
from streamkit.protocol.schema import Message

JOINING_EPOCH: Final = 0
LEAVING_EPOCH: Final = -1
LEAVING_STATIC_EPOCH: Final = -2


class MemberState(IntEnum):
    """How far a member has come on its way to its target. Kafka numbers them from 0, or (streams) from 1."""

    STABLE = 0
    UNREVOKED = 1
    """It has been told to give something up, and has not said yet that it did."""
    UNRELEASED = 2
    """It waits for what others have not given up yet."""
    UNKNOWN = 127

    def counted_from(self, first: int) -> int:
        return self.value if self is MemberState.UNKNOWN else first + self.value


def member_state(number: int, first: int = 0) -> MemberState:
    """The state that a record means, be it one of a later version."""
    try:
        return MemberState(number - first)
    except ValueError:
        return MemberState.UNKNOWN


class Member(msgspec.Struct, frozen=True, kw_only=True, metaclass=AbstractStructMeta):
    member_id: str
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    epoch: int = JOINING_EPOCH
    previous_epoch: int = JOINING_EPOCH
    state: MemberState = MemberState.STABLE

    def is_reconciled_to(self, epoch: int) -> bool:
        return self.state is MemberState.STABLE and self.epoch == epoch

    def at_epoch(self, epoch: int) -> Self:
        """The member in an epoch; it may not have heard of it yet, so the one before is remembered."""
        return replace(self, epoch=epoch, previous_epoch=self.epoch)

    # ── records; the values are those of the kind's schemas ─────────────────────────────────────────────

    @abstractmethod
    def metadata(self) -> Message:
        """What the member said of itself."""

    @abstractmethod
    def with_metadata(self, value: Any) -> Self:
        """The member, as it now says of itself."""

    @abstractmethod
    def current(self) -> Message:
        """What the member has."""

    @abstractmethod
    def with_current(self, value: Any) -> Self:
        """The member, with what it now has."""

    def without_part(self) -> Self:
        """What is left of a member whose assignment was deleted."""
        bare = type(self)(member_id=self.member_id, epoch=LEAVING_EPOCH, previous_epoch=LEAVING_EPOCH)
        return bare.with_metadata(self.metadata())
