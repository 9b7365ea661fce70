"""A static member comes back: whoever bears its instance id now stands where the last one stood (KIP-345)."""

from __future__ import annotations

from msgspec.structs import replace

from streamkit.broker.coordination.group.consumer.group import ConsumerDraft
from streamkit.broker.coordination.group.consumer.member import NOTHING, ConsumerMember
from streamkit.broker.coordination.group.modern.member import JOINING_EPOCH, MemberState


def take_over(draft: ConsumerDraft, existing: ConsumerMember, member_id: str) -> ConsumerMember:
    """The same member under another id, before its first epoch; nobody else's part changes."""
    part = draft.group.target.get(existing.member_id, frozenset())
    heir = replace(
        existing,
        member_id=member_id,
        epoch=JOINING_EPOCH,
        previous_epoch=JOINING_EPOCH,
        state=MemberState.STABLE,
        revoking=NOTHING,
    )
    draft.remove(existing.member_id)
    draft.write_metadata(heir)
    draft.write_part(member_id, part)
    draft.write_current(heir)
    return draft.group.members[member_id]
