"""One member on its way to its target: it gives up what it shall not have, then gets what is free.

    Stable ── something to give up ──▶ Unrevoked ── it let go ──▶ Stable, or Unreleased
      └────── nothing to give up ──────────────────────────────▶ Stable, or Unreleased
    Unreleased ── others let go ──▶ Stable

A member that has something to give up stays in its epoch; offsets of what it is giving up are committed in
that one. It enters the target's epoch with the first thing that it is given there, or when nothing is left to
do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamkit.broker.coordination.group.modern.group import M, ModernGroup
from streamkit.broker.coordination.group.modern.member import MemberState
from streamkit.broker.coordination.shard import Refusal
from streamkit.protocol.error_codes import ErrorCode


def reconciled(
    group: ModernGroup[M, Any],
    member: M,
    *,
    has_let_go: bool,
    has_nothing: bool,
    towards_target: Callable[[int], M],
) -> M:
    """The member one step further; itself if nothing can move.

    It says whether it has let go of what it is giving up, and that it has nothing at all. `towards_target` is
    the member after its next step, be that in this epoch or in the target's.
    """
    if member.is_reconciled_to(group.target_epoch):
        return member
    match member.state:
        case MemberState.STABLE | MemberState.UNRELEASED:
            return towards_target(member.epoch)
        case MemberState.UNREVOKED:
            return towards_target(member.epoch + 1) if has_let_go else member
        case MemberState.UNKNOWN if has_nothing:
            return towards_target(group.target_epoch)
    raise Refusal(
        ErrorCode.FENCED_MEMBER_EPOCH,
        f"The {group.group_type} group member is in an unknown state. "
        f"It must abandon all its {group.work} and rejoin.",
    )
