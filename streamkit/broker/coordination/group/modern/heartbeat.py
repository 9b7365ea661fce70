"""What heartbeats of all kinds have in common: who may come, and who has to begin again.

A member joins with epoch 0, lives with its epoch, leaves with -1. A field that is null says that nothing
changed.
"""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from streamkit.broker.coordination.group.modern.group import ModernGroup
from streamkit.broker.coordination.group.modern.member import JOINING_EPOCH, LEAVING_EPOCH, Member
from streamkit.broker.coordination.group.vocabulary import Caller
from streamkit.broker.coordination.shard import Refusal, Token
from streamkit.protocol.error_codes import ErrorCode


class HeartbeatRequest(Protocol):
    @property
    def group_id(self) -> str: ...

    @property
    def member_id(self) -> str: ...

    @property
    def member_epoch(self) -> int: ...


Request = TypeVar("Request", bound=HeartbeatRequest)


class HeartbeatCall(NamedTuple, Generic[Request]):
    """A heartbeat, who sent it, and who waits for its answer."""

    request: Request
    caller: Caller
    token: Token

    @property
    def joins(self) -> bool:
        return self.request.member_epoch == JOINING_EPOCH

    @property
    def leaves(self) -> bool:
        return self.request.member_epoch == LEAVING_EPOCH


def check_given(**texts: str | None) -> None:
    """Refuse what is there and empty; the names are those of the request's fields."""
    for field, text in texts.items():
        if text is not None and not text.strip():
            raise Refusal(ErrorCode.INVALID_REQUEST, f"{field} can't be empty.")


def check_room(group: ModernGroup[Any, Any], member_id: str, limit: int) -> None:
    """Refuse one member more than the group may have."""
    if len(group.members) >= limit and member_id not in group.members:
        raise Refusal(
            ErrorCode.GROUP_MAX_SIZE_REACHED,
            f"The {group.group_type} group has reached its maximum capacity of {limit} members.",
        )


def fenced(group: ModernGroup[Any, Any], member: Member, epoch: int, why: str = "") -> Refusal:
    """The member is in another epoch than it says, and has to begin again."""
    relation = "greater" if epoch > member.epoch else "smaller"
    return Refusal(
        ErrorCode.FENCED_MEMBER_EPOCH,
        f"The {group.group_type} group member has a {relation} member epoch ({epoch}) than the one known by "
        f"the group coordinator ({member.epoch}){why}. "
        f"The member must abandon all its {group.work} and rejoin.",
    )
