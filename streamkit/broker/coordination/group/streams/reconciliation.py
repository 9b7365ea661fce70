"""One member on its way to its target: it gives up what it shall not have, then gets what is free.

    Stable ── something to give up ──▶ Unrevoked ── it let go ──▶ Stable, or Unreleased
      └────── nothing to give up ──────────────────────────────▶ Stable, or Unreleased
    Unreleased ── others let go ──▶ Stable

A member that has something to give up stays in its epoch; offsets of what it is giving up are committed in
that one. It enters the target's epoch with the first thing that it is given there, or when nothing is left to
do. A task that changes its role in one member is given up in the old one first.
"""

from __future__ import annotations

from msgspec.structs import replace

from streamkit.broker.coordination.group.streams.group import StreamsGroup
from streamkit.broker.coordination.group.streams.member import MemberState, StreamsMember
from streamkit.broker.coordination.group.streams.tasks import NOTHING, Tasks
from streamkit.broker.coordination.shard import Refusal
from streamkit.protocol.error_codes import ErrorCode


def reconciled(
    group: StreamsGroup, member: StreamsMember, target: Tasks, owned: Tasks | None
) -> StreamsMember:
    """The member one step further; itself if nothing can move. `owned` is what it says it has, if it does."""
    if member.is_reconciled_to(group.target_epoch):
        return member
    match member.state:
        case MemberState.STABLE | MemberState.UNRELEASED_TASKS:
            return _next(group, member, target, member.epoch, owned)
        case MemberState.UNREVOKED_TASKS if _has_let_go(member.revoking, owned):
            return _next(group, member, target, member.epoch + 1, owned)
        case MemberState.UNREVOKED_TASKS:
            return member
        case MemberState.UNKNOWN if owned is not None and not owned:
            return _next(group, member, target, group.target_epoch, owned)
    raise Refusal(
        ErrorCode.FENCED_MEMBER_EPOCH,
        "The streams group member is in an unknown state. It must abandon all its tasks and rejoin.",
    )


def _next(
    group: StreamsGroup, member: StreamsMember, target: Tasks, epoch: int, owned: Tasks | None
) -> StreamsMember:
    kept, revoking = member.assigned & target, member.assigned - target
    if not _has_let_go(revoking, owned):
        return replace(
            member.at_epoch(epoch),
            state=MemberState.UNREVOKED_TASKS,
            assigned=kept,
            revoking=revoking,
            since={task: member.since[task] for task in kept.active | revoking.active},
        )
    wanted = target - kept
    free = _free(group, member, wanted)
    return replace(
        member.at_epoch(group.target_epoch),
        state=MemberState.STABLE if free == wanted else MemberState.UNRELEASED_TASKS,
        assigned=kept | free,
        revoking=NOTHING,
        since={
            **{task: member.since[task] for task in kept.active},
            **dict.fromkeys(free.active, group.target_epoch),
        },
    )


def _free(group: StreamsGroup, member: StreamsMember, wanted: Tasks) -> Tasks:
    return Tasks(
        active=frozenset(task for task in wanted.active if group.may_run(task, member)),
        standby=frozenset(task for task in wanted.standby if group.may_keep(task, member)),
        warmup=frozenset(task for task in wanted.warmup if group.may_keep(task, member)),
    )


def _has_let_go(tasks: Tasks, owned: Tasks | None) -> bool:
    """Nothing to let go of, or the member says what it has and these are not among it."""
    return not tasks or (owned is not None and not (tasks & owned))
