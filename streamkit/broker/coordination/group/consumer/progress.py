"""What every sign of life of a member leads to: the group learns what it wants, and leads it to its part.

The same for members of both protocols: write down what changed, begin an epoch if the work must be divided
anew, compute the target of the group's epoch, and bring the member one step closer to it.
"""

from __future__ import annotations

from collections.abc import Set

from streamkit.broker.coordination.group.consumer.group import ConsumerDraft
from streamkit.broker.coordination.group.consumer.member import ConsumerMember
from streamkit.broker.coordination.group.consumer.reconciliation import reconciled
from streamkit.broker.coordination.group.consumer.subscriptions import refresh
from streamkit.broker.coordination.group.consumer.target import assign
from streamkit.broker.coordination.group.modern.group import GroupState
from streamkit.broker.coordination.group.modern.member import MemberState
from streamkit.broker.coordination.group.modern.partitions import Partition
from streamkit.broker.coordination.group.vocabulary import RebalanceReason


def advance(
    draft: ConsumerDraft, before: ConsumerMember, after: ConsumerMember, owned: Set[Partition] | None
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
    if draft.group.state is GroupState.STABLE:
        draft.note_completion()
    return draft.group.members[after.member_id]


def _reconcile(draft: ConsumerDraft, member: ConsumerMember, owned: Set[Partition] | None) -> None:
    further = reconciled(draft.group, member, owned)
    if further == member:
        return
    draft.write_current(further)
    if further.state is not MemberState.UNREVOKED:
        draft.cancel("revoke", member.member_id)
    elif not member.uses_classic_protocol:
        draft.expect("revoke", member.member_id, member.rebalance_timeout_ms)
