"""What every sign of life of a member leads to: the group learns what it wants, and leads it to its part.

The same for members of both protocols: write down what changed, begin an epoch if the work must be divided
anew, compute the target of the group's epoch, and bring the member one step closer to it.
"""

from __future__ import annotations

from collections.abc import Set

from streamkit.broker.coordination.group.consumer.draft import Draft
from streamkit.broker.coordination.group.consumer.group import ConsumerState
from streamkit.broker.coordination.group.consumer.member import ConsumerMember, MemberState, Partition
from streamkit.broker.coordination.group.consumer.reconciliation import reconciled
from streamkit.broker.coordination.group.consumer.subscriptions import refresh
from streamkit.broker.coordination.group.consumer.target import assign
from streamkit.broker.coordination.group.vocabulary import RebalanceCompleted, RebalanceReason


def advance(
    draft: Draft, before: ConsumerMember, after: ConsumerMember, owned: Set[Partition] | None
) -> ConsumerMember:
    """The member once all of this is written. `owned` is what it says it has, if it does."""
    is_new = after.member_id not in draft.group.members
    if is_new or after != before:
        draft.write_metadata(after)
    reason = None
    if is_new:
        reason = RebalanceReason.MEMBER_JOINED
    elif not after.wants_the_same_as(before):
        reason = RebalanceReason.MEMBER_CHANGED
    refresh(draft, reason)
    assign(draft)
    _reconcile(draft, after, owned)
    _note_completion(draft)
    return draft.group.members[after.member_id]


def _reconcile(draft: Draft, member: ConsumerMember, owned: Set[Partition] | None) -> None:
    further = reconciled(draft.group, member, owned)
    if further == member:
        return
    draft.write_current(further)
    if further.state is not MemberState.UNREVOKED_PARTITIONS:
        draft.cancel("revoke", member.member_id)
    elif not member.uses_classic_protocol:
        draft.expect("revoke", member.member_id, member.rebalance_timeout_ms)


def _note_completion(draft: Draft) -> None:
    soft = draft.group.soft
    if soft.rebalance_began_ms is not None and draft.group.state is ConsumerState.STABLE:
        duration_ms = draft.decision.at.monotonic_ms - soft.rebalance_began_ms
        draft.decision.events.append(RebalanceCompleted(draft.group.group_id, duration_ms))
        soft.rebalance_began_ms = None
