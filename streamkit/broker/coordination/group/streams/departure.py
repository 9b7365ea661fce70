"""Who goes: members that leave, fall silent, or do not let go of their tasks in time. And the deadline of a
new group, which has waited for members long enough.
"""

from __future__ import annotations

from streamkit.broker.coordination.group.modern.departure import overdue
from streamkit.broker.coordination.group.modern.member import MemberState
from streamkit.broker.coordination.group.streams.group import StreamsDraft, StreamsGroup
from streamkit.broker.coordination.group.streams.target import FIRST_ASSIGNMENT, assign, begin_epoch
from streamkit.broker.coordination.group.vocabulary import RebalanceReason, Timer
from streamkit.broker.coordination.shard import Decision


def remove(draft: StreamsDraft, member_id: str, reason: RebalanceReason) -> None:
    """Go on without this member; the next heartbeat of another one divides what it had."""
    draft.remove(member_id)
    group = draft.group
    begin_epoch(
        draft,
        reason,
        metadata_hash=group.metadata_hash,
        validated_topology_epoch=group.validated_topology_epoch,
        assignment_configs=group.assignment_configs,
    )
    if group.is_empty:
        group.soft.shutdown_requested_by = None
        group.soft.rebalance_began_ms = None


def timeout(group: StreamsGroup, timer: Timer, decision: Decision) -> None:
    """A deadline of the group or of a member passed."""
    if timer.kind == FIRST_ASSIGNMENT:
        _first_assignment(group, decision)
        return
    reason = overdue(group, timer)
    if reason is not None:
        remove(StreamsDraft(group, decision), timer.member_id, reason)


def _first_assignment(group: StreamsGroup, decision: Decision) -> None:
    """Without topics known to fit, the next heartbeat looks at them and then divides the tasks."""
    if group.members and group.soft.configured is not None:
        assign(StreamsDraft(group, decision))


def loaded(group: StreamsGroup, decision: Decision) -> None:
    """The group was read back: its members get a whole session to show that they live."""
    draft = StreamsDraft(group, decision)
    session_ms = group.cluster.group_config(group.group_id).streams_session_timeout_ms
    for member_id, member in group.members.items():
        draft.expect("session", member_id, session_ms)
        if member.state is MemberState.UNREVOKED:
            draft.expect("revoke", member_id, member.rebalance_timeout_ms)
