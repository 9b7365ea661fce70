"""One member of a streams group on its way to its target; the steps are `modern.reconciliation`'s.

A task that changes its role in one member is given up in the old one first.
"""

from __future__ import annotations

from msgspec.structs import replace

from streamkit.broker.coordination.group.modern import reconciliation
from streamkit.broker.coordination.group.modern.member import MemberState
from streamkit.broker.coordination.group.streams.group import StreamsGroup
from streamkit.broker.coordination.group.streams.member import StreamsMember
from streamkit.broker.coordination.group.streams.tasks import NOTHING, Tasks


def reconciled(
    group: StreamsGroup, member: StreamsMember, target: Tasks, owned: Tasks | None
) -> StreamsMember:
    """The member one step further; itself if nothing can move. `owned` is what it says it has, if it does."""
    return reconciliation.reconciled(
        group,
        member,
        has_let_go=_has_let_go(member.revoking, owned),
        has_nothing=owned is not None and not owned,
        towards_target=lambda epoch: _next(group, member, target, epoch, owned),
    )


def _next(
    group: StreamsGroup, member: StreamsMember, target: Tasks, epoch: int, owned: Tasks | None
) -> StreamsMember:
    kept, revoking = member.assigned & target, member.assigned - target
    if not _has_let_go(revoking, owned):
        return replace(
            member.at_epoch(epoch),
            state=MemberState.UNREVOKED,
            assigned=kept,
            revoking=revoking,
            since={task: member.since[task] for task in kept.active | revoking.active},
        )
    wanted = target - kept
    free = _free(group, member, wanted)
    return replace(
        member.at_epoch(group.target_epoch),
        state=MemberState.STABLE if free == wanted else MemberState.UNRELEASED,
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
