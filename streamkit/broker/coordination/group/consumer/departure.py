"""Who goes: members that leave, fall silent, or do not let go of their partitions in time."""

from __future__ import annotations

from collections.abc import Sequence

from streamkit.broker.coordination.group.consumer.group import ConsumerDraft, ConsumerGroup
from streamkit.broker.coordination.group.consumer.migration import become_classic, should_become_classic
from streamkit.broker.coordination.group.consumer.subscriptions import refresh
from streamkit.broker.coordination.group.consumer.target import assign
from streamkit.broker.coordination.group.modern.departure import overdue
from streamkit.broker.coordination.group.modern.member import MemberState
from streamkit.broker.coordination.group.vocabulary import RebalanceReason, Timer
from streamkit.broker.coordination.shard import Decision


def remove(draft: ConsumerDraft, member_ids: Sequence[str], reason: RebalanceReason) -> None:
    """Go on without these members; the next heartbeat of another one divides what they had.

    When the last one goes there is nobody to wait for: the target of an empty group is computed at once, and
    its time says since when the group has been empty.
    """
    for member_id in member_ids:
        draft.remove(member_id)
    if should_become_classic(draft.group):
        become_classic(draft)
        return
    refresh(draft, reason)
    if draft.group.is_empty:
        assign(draft)
        draft.group.soft.rebalance_began_ms = None


def timeout(group: ConsumerGroup, timer: Timer, decision: Decision) -> None:
    """A deadline of a member passed."""
    reason = overdue(group, timer)
    if reason is not None:
        remove(ConsumerDraft(group, decision), [timer.member_id], reason)


def loaded(group: ConsumerGroup, decision: Decision) -> None:
    """The group was read back: its members get a whole session to show that they live."""
    draft = ConsumerDraft(group, decision)
    settings = group.cluster.group_config(group.group_id)
    for member_id, member in group.members.items():
        session_ms = settings.consumer_session_timeout_ms
        if member.classic is not None:
            session_ms = member.classic.session_timeout_ms
        draft.expect("session", member_id, session_ms)
        if member.state is MemberState.UNREVOKED and not member.uses_classic_protocol:
            draft.expect("revoke", member_id, member.rebalance_timeout_ms)
