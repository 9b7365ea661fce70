"""A share group as a decision will leave it: what is decided next already sees what was decided before."""

from __future__ import annotations

from streamkit.broker.coordination.group.share.group import ShareGroup
from streamkit.broker.coordination.group.share.member import ShareMember
from streamkit.broker.coordination.group.share.records import (
    ShareChange,
    ShareCurrentChange,
    ShareEpochChange,
    ShareMemberChange,
    ShareStatesChange,
    ShareTargetChange,
    ShareTargetEpochChange,
    record_of,
)
from streamkit.broker.coordination.group.share.states import ShareStates
from streamkit.broker.coordination.group.vocabulary import Timer
from streamkit.broker.coordination.shard import Decision


class ShareDraft:
    """`group` must not be kept across a `write`: the first one is applied to a copy."""

    def __init__(self, group: ShareGroup, decision: Decision) -> None:
        self.group = group
        self.decision = decision
        self._is_copy = False

    def write(self, change: ShareChange) -> None:
        if not self._is_copy:
            self.group = self.group.copy()
            self._is_copy = True
        self.decision.records.append(record_of(change))
        self.group.apply(change)

    def write_metadata(self, member: ShareMember) -> None:
        self.write(ShareMemberChange(self.group.group_id, member.member_id, member.metadata()))

    def write_current(self, member: ShareMember) -> None:
        self.write(ShareCurrentChange(self.group.group_id, member.member_id, member.current()))

    def write_states(self, states: ShareStates) -> None:
        if states != self.group.states:
            self.write(ShareStatesChange(self.group.group_id, states.value()))

    def remove(self, member_id: str) -> None:
        """Forget a member and its deadline."""
        group_id = self.group.group_id
        self.write(ShareCurrentChange(group_id, member_id, None))
        self.write(ShareTargetChange(group_id, member_id, None))
        self.write(ShareMemberChange(group_id, member_id, None))
        self.group.deadlines.cancel(_session(group_id, member_id))

    def delete(self) -> None:
        """Take back every record of the group."""
        group_id = self.group.group_id
        members, parts = list(self.group.members), list(self.group.target)
        self.write(ShareStatesChange(group_id, None))
        for member_id in members:
            self.write(ShareCurrentChange(group_id, member_id, None))
        for member_id in parts:
            self.write(ShareTargetChange(group_id, member_id, None))
        self.write(ShareTargetEpochChange(group_id, None))
        for member_id in members:
            self.write(ShareMemberChange(group_id, member_id, None))
        self.write(ShareEpochChange(group_id, None))

    def expect_heartbeat(self, member_id: str) -> None:
        """Give a member a whole session to be heard from again."""
        group = self.group
        session_ms = group.cluster.group_config(group.group_id).share_session_timeout_ms
        due_ms = self.decision.at.monotonic_ms + session_ms
        group.deadlines.set(_session(group.group_id, member_id), due_ms)


def _session(group_id: str, member_id: str) -> Timer:
    return Timer("session", group_id, member_id)
