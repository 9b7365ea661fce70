"""Members that fall silent, or do not let go in time."""

from __future__ import annotations

from typing import Any, Final

from streamkit.broker.coordination.group.modern.group import ModernGroup
from streamkit.broker.coordination.group.modern.member import MemberState
from streamkit.broker.coordination.group.vocabulary import RebalanceReason, Timer

_REASONS: Final = {
    "session": RebalanceReason.SESSION_EXPIRED,
    "revoke": RebalanceReason.REVOCATION_EXPIRED,
    "join": RebalanceReason.JOIN_EXPIRED,
    "sync": RebalanceReason.SYNC_EXPIRED,
}


def overdue(group: ModernGroup[Any, Any], timer: Timer) -> RebalanceReason | None:
    """Why the member whose deadline passed has to go; None if it need not, or is gone."""
    member = group.members.get(timer.member_id)
    if member is None or (timer.kind == "revoke" and member.state is not MemberState.UNREVOKED):
        return None
    return _REASONS.get(timer.kind)
