"""The groups of one partition of `__consumer_offsets`: the shard behind every group API.

Each method decides one request for one group; `decision.replies` gets the answer, at once or when the group
says so (a join waits for the others, a sync for the leader). Topics are known by name here: whoever speaks
with clients translates ids and sorts out topics that do not exist.
"""

from __future__ import annotations

from collections.abc import Collection

from streamkit.broker.config import BrokerConfig
from streamkit.broker.coordination.deadlines import Deadlines
from streamkit.broker.coordination.group.classic import departure, joining, rebalance, syncing
from streamkit.broker.coordination.group.classic.group import ClassicGroup, ClassicState, refused_join
from streamkit.broker.coordination.group.offsets import CommittedOffsets, OffsetLimits, commit_offsets
from streamkit.broker.coordination.group.records import OffsetChange, group_tombstone, parse
from streamkit.broker.coordination.group.vocabulary import Caller, Timer
from streamkit.broker.coordination.shard import Decision, Instant, Refusal, Token
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.delete_groups import DeletableGroupResult
from streamkit.protocol.messages.describe_groups import DescribedGroup
from streamkit.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from streamkit.protocol.messages.join_group import JoinGroupRequest
from streamkit.protocol.messages.leave_group import (
    LeaveGroupRequest,
    LeaveGroupResponse,
    MemberIdentity,
    MemberResponse,
)
from streamkit.protocol.messages.list_groups import ListedGroup
from streamkit.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from streamkit.protocol.messages.offset_delete import OffsetDeleteRequest, OffsetDeleteResponse
from streamkit.protocol.messages.offset_fetch import OffsetFetchRequestGroup
from streamkit.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse

CLASSIC = "classic"
"""The type of group, as ListGroups names it."""

BATCH_LEAVE_VERSION = 3
GROUP_NOT_FOUND_ON_COMMIT_VERSION = 9
GROUP_NOT_FOUND_ON_DESCRIBE_VERSION = 6
MINUTE_MS = 60_000

_EXPIRY = Timer("expiry")


class GroupCoordinator:
    """One shard. `groups` holds every group that has members, a written generation, or offsets."""

    def __init__(self, config: BrokerConfig) -> None:
        self.groups: dict[str, ClassicGroup] = {}
        self.offsets = CommittedOffsets()
        self._config = config
        self._deadlines: Deadlines[Timer] = Deadlines()

    # ── shard ──────────────────────────────────────────────────────────────────────────────────────────

    def replay(self, key: bytes, value: bytes | None) -> None:
        record = parse(key, value)
        if record is None:
            return
        if isinstance(record, OffsetChange):
            self._group(record.group)
            self.offsets.replay(*record)
            self._forget_if_unused(record.group)
        elif record.value is not None:
            self._group(record.group).replay(record.value)
        else:
            self._delete(record.group)

    def loaded(self, decision: Decision) -> None:
        for group in self.groups.values():
            rebalance.loaded(group, decision)
        self._schedule_expiry(decision.at)

    def wake_at_ms(self) -> int | None:
        return self._deadlines.wake_at_ms()

    def tick(self, at: Instant) -> Decision | None:
        timer = self._deadlines.pop_due(at.monotonic_ms)
        if timer is None:
            return None
        decision = Decision(at)
        group = self.groups.get(timer.group_id)
        if timer == _EXPIRY:
            self._expire_offsets(decision)
        elif group is None:
            pass
        elif timer.kind == "join":
            rebalance.join_timeout(group, decision)
        elif timer.kind == "sync":
            syncing.sync_timeout(group, decision)
        else:
            departure.session_timeout(group, timer.member_id, decision)
            self._forget_if_unused(timer.group_id)
        return decision

    # ── membership ─────────────────────────────────────────────────────────────────────────────────────

    def join(self, request: JoinGroupRequest, caller: Caller, token: Token, decision: Decision) -> None:
        try:
            self._check_session_timeout(request.session_timeout_ms)
            group = (
                self._existing(request.group_id, ErrorCode.UNKNOWN_MEMBER_ID) if request.member_id else None
            )
            group = group or self._group(request.group_id)
            joining.join(group, joining.JoinCall(request, caller, token), decision)
        except Refusal as refusal:
            self._forget_if_unused(request.group_id)
            decision.reply(token, refused_join(refusal.code, request.member_id))

    def sync(self, request: SyncGroupRequest, token: Token, decision: Decision) -> None:
        try:
            group = self._existing(request.group_id, ErrorCode.UNKNOWN_MEMBER_ID)
            syncing.sync(group, request, token, decision)
        except Refusal as refusal:
            decision.reply(token, SyncGroupResponse(error_code=refusal.code))

    def heartbeat(self, request: HeartbeatRequest, token: Token, decision: Decision) -> None:
        code = ErrorCode.NONE
        try:
            group = self._existing(request.group_id, ErrorCode.UNKNOWN_MEMBER_ID)
            departure.heartbeat(
                group, request.member_id, request.group_instance_id, request.generation_id, decision
            )
        except Refusal as refusal:
            code = refusal.code
        decision.reply(token, HeartbeatResponse(error_code=code))

    def leave(self, request: LeaveGroupRequest, version: int, token: Token, decision: Decision) -> None:
        """Before version 3 one member leaves, and its error is the request's."""
        if version < BATCH_LEAVE_VERSION:
            answer = self._leave_one(request.group_id, MemberIdentity(member_id=request.member_id), decision)
            answers, code = [], answer.error_code
        else:
            answers = [self._leave_one(request.group_id, member, decision) for member in request.members]
            code = ErrorCode.NONE
        group = self.groups.get(request.group_id)
        if group is not None:
            departure.left(group, decision)
            self._forget_if_unused(request.group_id)
        decision.reply(token, LeaveGroupResponse(error_code=code, members=answers))

    def _leave_one(self, group_id: str, member: MemberIdentity, decision: Decision) -> MemberResponse:
        code = ErrorCode.NONE
        try:
            group = self._existing(group_id, ErrorCode.UNKNOWN_MEMBER_ID)
            departure.leave(group, member.member_id, member.group_instance_id, decision)
        except Refusal as refusal:
            code = refusal.code
        return MemberResponse(
            member_id=member.member_id, group_instance_id=member.group_instance_id, error_code=code
        )

    def _check_session_timeout(self, timeout_ms: int) -> None:
        low_ms, high_ms = self._config.group_min_session_timeout_ms, self._config.group_max_session_timeout_ms
        if not low_ms <= timeout_ms <= high_ms:
            raise Refusal(ErrorCode.INVALID_SESSION_TIMEOUT)

    # ── offsets ────────────────────────────────────────────────────────────────────────────────────────

    def commit(self, request: OffsetCommitRequest, version: int, token: Token, decision: Decision) -> None:
        """A commit without a generation makes a simple group of a name that is not in use."""
        try:
            self._check_commit(request, version, decision)
        except Refusal as refusal:
            decision.reply(token, refused_commit(request, refusal.code))
            return
        records, response = commit_offsets(request, decision.at.wall_ms, self._offset_limits())
        decision.records += records
        decision.reply(token, response)

    def _check_commit(self, request: OffsetCommitRequest, version: int, decision: Decision) -> None:
        generation = request.generation_id_or_member_epoch
        group = self.groups.get(request.group_id)
        if group is not None:
            group.check_commit(request.member_id, request.group_instance_id, generation, decision)
        elif generation >= 0:
            late = version >= GROUP_NOT_FOUND_ON_COMMIT_VERSION
            raise Refusal(ErrorCode.GROUP_ID_NOT_FOUND if late else ErrorCode.ILLEGAL_GENERATION)

    def fetch(self, request: OffsetFetchRequestGroup, token: Token, decision: Decision) -> None:
        decision.reply(token, self.offsets.fetch(request))

    def delete_offsets(self, request: OffsetDeleteRequest, token: Token, decision: Decision) -> None:
        try:
            group = self._existing(request.group_id, ErrorCode.GROUP_ID_NOT_FOUND)
            group.check_delete_offsets()
        except Refusal as refusal:
            decision.reply(token, OffsetDeleteResponse(error_code=refusal.code))
            return
        records, response = self.offsets.delete(request, group)
        decision.records += records
        decision.reply(token, response)

    def forget_topics(self, topics: frozenset[str], decision: Decision) -> None:
        """Topics were deleted: their offsets must not meet others that are created under these names."""
        decision.records += self.offsets.tombstones_of_topics(topics)

    def _expire_offsets(self, decision: Decision) -> None:
        """Delete offsets whose retention has passed, and empty groups that have none left."""
        limits = self._offset_limits()
        for group in self.groups.values():
            expired = self.offsets.expired(group, decision.at.wall_ms, limits)
            decision.records += expired
            has_others = len(self.offsets.of(group.group_id)) > len(expired)
            if group.state is ClassicState.EMPTY and group.durable is not None and not has_others:
                decision.records.append(group_tombstone(group.group_id))
        self._schedule_expiry(decision.at)

    def _schedule_expiry(self, at: Instant) -> None:
        self._deadlines.set(_EXPIRY, at.monotonic_ms + self._config.offsets_retention_check_interval_ms)

    def _offset_limits(self) -> OffsetLimits:
        return OffsetLimits(
            metadata_max_length=self._config.offset_metadata_max_bytes,
            retention_ms=self._config.offsets_retention_minutes * MINUTE_MS,
        )

    # ── administration ─────────────────────────────────────────────────────────────────────────────────

    def describe(self, group_id: str, version: int, token: Token, decision: Decision) -> None:
        """Before version 6 an unknown group is one that is Dead."""
        group = self.groups.get(group_id)
        if group is not None:
            described = group.describe()
        elif version < GROUP_NOT_FOUND_ON_DESCRIBE_VERSION:
            described = DescribedGroup(group_id=group_id, group_state=ClassicState.DEAD.value)
        else:
            described = DescribedGroup(
                group_id=group_id,
                group_state=ClassicState.DEAD.value,
                error_code=ErrorCode.GROUP_ID_NOT_FOUND,
                error_message=f"Group {group_id} not found.",
            )
        decision.reply(token, described)

    def list(self, states: Collection[str], types: Collection[str]) -> list[ListedGroup]:
        """The groups in any of these states and of any of these types, lower case; none named means all."""
        if types and CLASSIC not in types:
            return []
        return [
            ListedGroup(
                group_id=group.group_id,
                protocol_type=group.protocol_type,
                group_state=group.state.value,
                group_type=CLASSIC,
            )
            for group in self.groups.values()
            if not states or group.state.value.lower() in states
        ]

    def delete_group(self, group_id: str, token: Token, decision: Decision) -> None:
        group = self.groups.get(group_id)
        if group is None:
            code = ErrorCode.GROUP_ID_NOT_FOUND
        elif group.state is not ClassicState.EMPTY:
            code = ErrorCode.NON_EMPTY_GROUP
        else:
            code = ErrorCode.NONE
            decision.records += self.offsets.tombstones(group_id)
            decision.records.append(group_tombstone(group_id))
        decision.reply(token, DeletableGroupResult(group_id=group_id, error_code=code))

    # ── small ──────────────────────────────────────────────────────────────────────────────────────────

    def _group(self, group_id: str) -> ClassicGroup:
        group = self.groups.get(group_id)
        if group is None:
            group = self.groups[group_id] = ClassicGroup(group_id, self._config, self._deadlines)
        return group

    def _existing(self, group_id: str, otherwise: ErrorCode) -> ClassicGroup:
        group = self.groups.get(group_id)
        if group is None:
            raise Refusal(otherwise)
        return group

    def _delete(self, group_id: str) -> None:
        group = self.groups.pop(group_id, None)
        if group is not None:
            group.state = ClassicState.DEAD
            if self.offsets.of(group_id):
                self._group(group_id)

    def _forget_if_unused(self, group_id: str) -> None:
        group = self.groups.get(group_id)
        if group is not None and group.is_unused and not self.offsets.of(group_id):
            group.state = ClassicState.DEAD
            del self.groups[group_id]


def refused_commit(request: OffsetCommitRequest, code: ErrorCode) -> OffsetCommitResponse:
    """OffsetCommit has no error for the whole request: each partition carries it."""
    return OffsetCommitResponse(
        topics=[
            OffsetCommitResponseTopic(
                name=topic.name,
                topic_id=topic.topic_id,
                partitions=[
                    OffsetCommitResponsePartition(partition_index=partition.partition_index, error_code=code)
                    for partition in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )
