"""The groups of one partition of `__consumer_offsets`: the shard behind every group API.

Each method decides one request for one group; `decision.replies` gets the answer, at once or when the group
says so (a join waits for the others, a sync for the leader). Topics are known by name here: whoever speaks
with clients translates ids and sorts out topics that do not exist.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeAlias

from streamkit.broker.config import BrokerConfig
from streamkit.broker.coordination.deadlines import Deadlines
from streamkit.broker.coordination.group.classic import departure, joining, rebalance, syncing
from streamkit.broker.coordination.group.classic.group import ClassicGroup, ClassicState, refused_join
from streamkit.broker.coordination.group.cluster import Cluster
from streamkit.broker.coordination.group.consumer import classic_members
from streamkit.broker.coordination.group.consumer import departure as consumer_departure
from streamkit.broker.coordination.group.consumer import description as consumer_description
from streamkit.broker.coordination.group.consumer import heartbeat as consumer_heartbeat
from streamkit.broker.coordination.group.consumer import records as consumer_records
from streamkit.broker.coordination.group.consumer.draft import Draft
from streamkit.broker.coordination.group.consumer.group import ConsumerGroup
from streamkit.broker.coordination.group.consumer.heartbeat import HeartbeatCall
from streamkit.broker.coordination.group.consumer.migration import become_consumer
from streamkit.broker.coordination.group.offsets import CommittedOffsets, OffsetLimits, commit_offsets
from streamkit.broker.coordination.group.records import (
    OffsetChange,
    group_tombstone,
    offset_tombstone,
    parse,
)
from streamkit.broker.coordination.group.share import heartbeat as share_heartbeat
from streamkit.broker.coordination.group.share import offsets as share_offsets
from streamkit.broker.coordination.group.share import records as share_records
from streamkit.broker.coordination.group.share.group import ShareGroup
from streamkit.broker.coordination.group.share.requests import ShareRequests
from streamkit.broker.coordination.group.streams import departure as streams_departure
from streamkit.broker.coordination.group.streams import draft as streams_draft
from streamkit.broker.coordination.group.streams import records as streams_records
from streamkit.broker.coordination.group.streams.group import StreamsGroup
from streamkit.broker.coordination.group.streams.requests import StreamsRequests
from streamkit.broker.coordination.group.transactional_commit import (
    as_offset_commit,
    as_transactional,
    claims_membership,
    refusal_in_transaction,
    unstable,
)
from streamkit.broker.coordination.group.transactional_offsets import TransactionalOffsets
from streamkit.broker.coordination.group.vocabulary import Caller, CommitClaim, RebalanceReason, Timer
from streamkit.broker.coordination.shard import Decision, Instant, Producer, Refusal, Token
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages import consumer_group_describe
from streamkit.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)
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
from streamkit.protocol.messages.offset_fetch import OffsetFetchRequestGroup, OffsetFetchResponseGroup
from streamkit.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse
from streamkit.protocol.messages.txn_offset_commit import TxnOffsetCommitRequest

BATCH_LEAVE_VERSION = 3
MEMBER_EPOCH_ON_COMMIT_VERSION = 9
GROUP_NOT_FOUND_ON_DESCRIBE_VERSION = 6
MINUTE_MS = 60_000

Group: TypeAlias = ClassicGroup | ConsumerGroup | ShareGroup | StreamsGroup

_EXPIRY = Timer("expiry")


class GroupCoordinator:
    """One shard. `groups` holds every group that has members, records of its own, or offsets."""

    def __init__(self, config: BrokerConfig, cluster: Cluster) -> None:
        self.groups: dict[str, Group] = {}
        self.offsets = CommittedOffsets()
        self.transactional = TransactionalOffsets()
        self._config = config
        self._cluster = cluster
        self._deadlines: Deadlines[Timer] = Deadlines()
        self.shares = ShareRequests(config, cluster, self._deadlines, self.groups.get, self._adopt)
        """The requests that concern share groups."""
        self.streams = StreamsRequests(config, cluster, self._deadlines, self.groups)
        """The requests that concern streams groups."""

    # ── shard ──────────────────────────────────────────────────────────────────────────────────────────

    def replay(self, key: bytes, value: bytes | None) -> None:
        change = consumer_records.parse(key, value)
        if change is not None:
            self._replay_consumer(change)
            return
        share_change = share_records.parse(key, value)
        if share_change is not None:
            self._replay_share(share_change)
            return
        streams_change = streams_records.parse(key, value)
        if streams_change is not None:
            self._replay_streams(streams_change)
            return
        record = parse(key, value)
        if record is None:
            return
        if isinstance(record, OffsetChange):
            self._named(record.group)
            self.offsets.replay(*record)
            self.transactional.overtaken(record[:3])
            self._forget_if_unused(record.group)
        elif record.value is not None:
            self._classic(record.group).replay(record.value)
        elif isinstance(self.groups.get(record.group), ClassicGroup):
            self._delete(record.group)

    def _replay_consumer(self, change: consumer_records.Change) -> None:
        """A group of mere offsets gives way to one with members; deleting what is gone does nothing."""
        group = self.groups.get(change.group_id)
        if not isinstance(group, ConsumerGroup):
            if change.value is None or (group is not None and group.is_recorded):
                return
            group = ConsumerGroup(change.group_id, self._config, self._deadlines, self._cluster)
            self.groups[change.group_id] = group
        group.apply(change)
        if isinstance(change, consumer_records.EpochChange) and change.value is None:
            self._delete(change.group_id)

    def _replay_share(self, change: share_records.ShareChange) -> None:
        """The same for share groups."""
        group = self.groups.get(change.group_id)
        if not isinstance(group, ShareGroup):
            if change.value is None or (group is not None and group.is_recorded):
                return
            group = self.groups[change.group_id] = self.shares.new_group(change.group_id)
        group.apply(change)
        if isinstance(change, share_records.ShareEpochChange) and change.value is None:
            self._delete(change.group_id)

    def _replay_streams(self, change: streams_records.Change) -> None:
        """The same for streams groups."""
        group = self.groups.get(change.group_id)
        if not isinstance(group, StreamsGroup):
            if change.value is None or (group is not None and group.is_recorded):
                return
            group = self.groups[change.group_id] = self.streams.new_group(change.group_id)
        group.apply(change)
        if isinstance(change, streams_records.EpochChange) and change.value is None:
            self._delete(change.group_id)

    def replay_in_transaction(self, producer_id: int, key: bytes, value: bytes | None) -> None:
        record = parse(key, value)
        if isinstance(record, OffsetChange):
            self._named(record.group)
            self.transactional.keep(producer_id, record)

    def end_transaction(self, producer_id: int, *, committed: bool) -> None:
        groups = self.transactional.groups_of(producer_id)
        for change in self.transactional.end(producer_id, committed=committed):
            self.offsets.replay(*change)
        for group_id in groups:
            self._forget_if_unused(group_id)

    def loaded(self, decision: Decision) -> None:
        for group in self.groups.values():
            if isinstance(group, ConsumerGroup):
                consumer_departure.loaded(group, decision)
            elif isinstance(group, ShareGroup):
                share_heartbeat.loaded(group, decision)
                share_offsets.forget_topics(group, decision)
            elif isinstance(group, StreamsGroup):
                streams_departure.loaded(group, decision)
            else:
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
        elif isinstance(group, ConsumerGroup):
            consumer_departure.timeout(group, timer, decision)
        elif isinstance(group, ShareGroup):
            share_heartbeat.timeout(group, timer, decision)
        elif isinstance(group, StreamsGroup):
            streams_departure.timeout(group, timer, decision)
        elif group is not None:
            _classic_timeout(group, timer, decision)
            self._forget_if_unused(timer.group_id)
        return decision

    def topics_changed(self, topics: Collection[str]) -> None:
        """Topics came, went or grew; groups that want them look again at their members' next heartbeats."""
        for group in self.groups.values():
            if not isinstance(group, ClassicGroup) and any(map(group.may_want, topics)):
                group.soft.topics_changed = True

    # ── membership ─────────────────────────────────────────────────────────────────────────────────────

    def consumer_heartbeat(
        self, request: ConsumerGroupHeartbeatRequest, caller: Caller, token: Token, decision: Decision
    ) -> None:
        call = HeartbeatCall(request, caller, token)
        try:
            consumer_heartbeat.check(call, self._config.group_consumer_assignors)
            consumer_heartbeat.heartbeat(self._consumer(call, decision), call, decision)
        except Refusal as refusal:
            decision.withdraw()
            answer = ConsumerGroupHeartbeatResponse(error_code=refusal.code, error_message=refusal.message)
            decision.reply(token, answer)

    def _consumer(self, call: HeartbeatCall, decision: Decision) -> ConsumerGroup:
        """The group that a member of the new protocol speaks of; joining makes it, or turns a classic one."""
        group_id = call.request.group_id
        group = self.groups.get(group_id)
        if isinstance(group, ConsumerGroup):
            return group
        if not call.joins or isinstance(group, ShareGroup | StreamsGroup):
            raise _no_consumer_group(group_id, exists=group is not None)
        if group is None:
            return ConsumerGroup(group_id, self._config, self._deadlines, self._cluster)
        return become_consumer(group, self._cluster, decision).group

    def join(self, request: JoinGroupRequest, caller: Caller, token: Token, decision: Decision) -> None:
        call = joining.JoinCall(request, caller, token)
        try:
            self._check_session_timeout(request.session_timeout_ms)
            group = self.groups.get(request.group_id)
            if group is None and request.member_id:
                raise Refusal(ErrorCode.UNKNOWN_MEMBER_ID)
            if isinstance(group, ShareGroup) or (isinstance(group, StreamsGroup) and group.members):
                raise Refusal(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
            if group is None or isinstance(group, ClassicGroup):
                joining.join(self._classic(request.group_id), call, decision)
            elif isinstance(group, ConsumerGroup) and group.members:
                classic_members.join(group, call, decision)
            elif request.member_id:
                raise Refusal(ErrorCode.UNKNOWN_MEMBER_ID)
            else:
                self._join_in_place_of(group, call, decision)
        except Refusal as refusal:
            decision.withdraw()
            self._forget_if_unused(request.group_id)
            decision.reply(token, refused_join(refusal.code, request.member_id))

    def _join_in_place_of(
        self, empty: ConsumerGroup | StreamsGroup, call: joining.JoinCall, decision: Decision
    ) -> None:
        """A classic group begins under the name of a newer one that nobody is in any more."""
        successor = ClassicGroup(empty.group_id, self._config, self._deadlines)
        _delete_records(empty, decision)
        joining.join(successor, call, decision)
        self.groups[empty.group_id] = successor

    def sync(self, request: SyncGroupRequest, token: Token, decision: Decision) -> None:
        try:
            group = self._generational(request.group_id)
            if isinstance(group, ConsumerGroup):
                classic_members.sync(group, request, token, decision)
            else:
                syncing.sync(group, request, token, decision)
        except Refusal as refusal:
            decision.reply(token, SyncGroupResponse(error_code=refusal.code))

    def heartbeat(self, request: HeartbeatRequest, token: Token, decision: Decision) -> None:
        code = ErrorCode.NONE
        try:
            group = self._generational(request.group_id)
            if isinstance(group, ConsumerGroup):
                classic_members.heartbeat(group, request, decision)
            else:
                departure.heartbeat(
                    group, request.member_id, request.group_instance_id, request.generation_id, decision
                )
        except Refusal as refusal:
            code = refusal.code
        decision.reply(token, HeartbeatResponse(error_code=code))

    def leave(self, request: LeaveGroupRequest, version: int, token: Token, decision: Decision) -> None:
        """Before version 3 one member leaves, and its error is the request's."""
        is_batch = version >= BATCH_LEAVE_VERSION
        leavers = request.members if is_batch else [MemberIdentity(member_id=request.member_id)]
        answers = self._leave(request.group_id, leavers, decision)
        if is_batch:
            decision.reply(token, LeaveGroupResponse(members=answers))
        else:
            decision.reply(token, LeaveGroupResponse(error_code=answers[0].error_code))

    def _leave(
        self, group_id: str, leavers: Sequence[MemberIdentity], decision: Decision
    ) -> list[MemberResponse]:
        group = self.groups.get(group_id)
        if isinstance(group, ConsumerGroup):
            return classic_members.leave(group, leavers, decision)
        if isinstance(group, ShareGroup | StreamsGroup):
            group = None
        answers = [_leave_one(group, leaver, decision) for leaver in leavers]
        if group is not None:
            departure.left(group, decision)
            self._forget_if_unused(group_id)
        return answers

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
        epoch = request.generation_id_or_member_epoch
        knows_member_epochs = version >= MEMBER_EPOCH_ON_COMMIT_VERSION
        group = self.groups.get(request.group_id)
        if group is not None:
            claim = CommitClaim(
                member_id=request.member_id,
                instance_id=request.group_instance_id,
                epoch=epoch,
                partitions=[
                    (topic.topic_id, partition.partition_index)
                    for topic in request.topics
                    for partition in topic.partitions
                ],
                named_partitions=[
                    (topic.name, partition.partition_index)
                    for topic in request.topics
                    for partition in topic.partitions
                ],
                knows_member_epochs=knows_member_epochs,
            )
            group.check_commit(claim, decision)
        elif epoch >= 0:
            raise Refusal(
                ErrorCode.GROUP_ID_NOT_FOUND if knows_member_epochs else ErrorCode.ILLEGAL_GENERATION
            )

    def commit_in_transaction(
        self, request: TxnOffsetCommitRequest, token: Token, decision: Decision
    ) -> None:
        """A producer commits what it consumed; a version that tells no membership is not asked for it."""
        commit = as_offset_commit(request)
        try:
            if claims_membership(request):
                self._check_commit(commit, MEMBER_EPOCH_ON_COMMIT_VERSION, decision)
        except Refusal as refusal:
            decision.reply(token, as_transactional(refused_commit(commit, refusal_in_transaction(refusal))))
            return
        records, response = commit_offsets(commit, decision.at.wall_ms, self._offset_limits())
        decision.records += records
        decision.transaction = Producer(request.producer_id, request.producer_epoch)
        decision.reply(token, as_transactional(response))

    def fetch(
        self,
        request: OffsetFetchRequestGroup,
        token: Token,
        decision: Decision,
        *,
        require_stable: bool = False,
    ) -> None:
        group = self.groups.get(request.group_id)
        try:
            if group is not None:
                group.check_fetch(request.member_id, request.member_epoch)
        except Refusal as refusal:
            code = refusal.code
            decision.reply(token, OffsetFetchResponseGroup(group_id=request.group_id, error_code=code))
            return
        found = self.offsets.fetch(request)
        decision.reply(token, unstable(found, self.transactional) if require_stable else found)

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
        for group in self.groups.values():
            if isinstance(group, ShareGroup):
                share_offsets.forget_topics(group, decision)

    def _expire_offsets(self, decision: Decision) -> None:
        """Delete offsets whose retention has passed, and empty groups that have none left."""
        limits = self._offset_limits()
        for group in self.groups.values():
            if self.transactional.has_group(group.group_id) or isinstance(group, ShareGroup):
                continue
            expired = self.offsets.expired(group, decision.at.wall_ms, limits)
            decision.records += expired
            has_others = len(self.offsets.of(group.group_id)) > len(expired)
            if group.is_empty and group.is_recorded and not has_others:
                _delete_records(group, decision)
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
        """Classic groups. Before version 6 one that is not there is Dead."""
        group = self.groups.get(group_id)
        if isinstance(group, ClassicGroup):
            described = group.describe()
        elif version < GROUP_NOT_FOUND_ON_DESCRIBE_VERSION:
            described = DescribedGroup(group_id=group_id, group_state=ClassicState.DEAD.value)
        else:
            is_other = group is not None
            described = DescribedGroup(
                group_id=group_id,
                group_state=ClassicState.DEAD.value,
                error_code=ErrorCode.GROUP_ID_NOT_FOUND,
                error_message=f"Group {group_id} {'is not a classic group' if is_other else 'not found'}.",
            )
        decision.reply(token, described)

    def describe_consumer(self, group_id: str, token: Token, decision: Decision) -> None:
        group = self.groups.get(group_id)
        if isinstance(group, ConsumerGroup):
            decision.reply(token, consumer_description.describe(group))
            return
        missing = _no_consumer_group(group_id, exists=group is not None)
        decision.reply(
            token,
            consumer_group_describe.DescribedGroup(
                group_id=group_id, error_code=missing.code, error_message=missing.message
            ),
        )

    def list(self, states: Collection[str], types: Collection[str]) -> list[ListedGroup]:
        """The groups in any of these states and of any of these types, lower case; none named means all."""
        return [
            ListedGroup(
                group_id=group.group_id,
                protocol_type=group.protocol_type,
                group_state=group.state.value,
                group_type=group.group_type,
            )
            for group in self.groups.values()
            if (not states or group.state.value.lower() in states)
            and (not types or group.group_type in types)
        ]

    def delete_group(self, group_id: str, token: Token, decision: Decision) -> None:
        group = self.groups.get(group_id)
        if group is None:
            code = ErrorCode.GROUP_ID_NOT_FOUND
        elif isinstance(group, ShareGroup):
            share_offsets.delete_group(group, token, decision)
            return
        elif not group.is_empty:
            code = ErrorCode.NON_EMPTY_GROUP
        else:
            code = ErrorCode.NONE
            decision.records += self.offsets.tombstones(group_id)
            for place in self.transactional.places_of(group_id):
                decision.records.append(offset_tombstone(group_id, *place))
            _delete_records(group, decision)
        decision.reply(token, DeletableGroupResult(group_id=group_id, error_code=code))

    # ── small ──────────────────────────────────────────────────────────────────────────────────────────

    def _named(self, group_id: str) -> Group:
        """The group of any kind; one that is only a name for offsets, if there is none."""
        return self.groups.get(group_id) or self._classic(group_id)

    def _classic(self, group_id: str) -> ClassicGroup:
        group = self.groups.get(group_id)
        if not isinstance(group, ClassicGroup):
            group = self.groups[group_id] = ClassicGroup(group_id, self._config, self._deadlines)
        return group

    def _adopt(self, group: ShareGroup) -> None:
        self.groups[group.group_id] = group

    def _generational(self, group_id: str) -> ClassicGroup | ConsumerGroup:
        """A group that members of the classic protocol may be in."""
        group = self._existing(group_id, ErrorCode.UNKNOWN_MEMBER_ID)
        if isinstance(group, StreamsGroup):
            raise Refusal(ErrorCode.UNKNOWN_MEMBER_ID)
        return group

    def _existing(self, group_id: str, otherwise: ErrorCode) -> ClassicGroup | ConsumerGroup | StreamsGroup:
        """A group that commits offsets."""
        group = self.groups.get(group_id)
        if group is None or isinstance(group, ShareGroup):
            raise Refusal(otherwise)
        return group

    def _delete(self, group_id: str) -> None:
        group = self.groups.pop(group_id, None)
        if isinstance(group, ClassicGroup):
            group.state = ClassicState.DEAD
        if group is not None and self._has_offsets(group_id):
            self._classic(group_id)

    def _has_offsets(self, group_id: str) -> bool:
        return bool(self.offsets.of(group_id)) or self.transactional.has_group(group_id)

    def _forget_if_unused(self, group_id: str) -> None:
        group = self.groups.get(group_id)
        if isinstance(group, ClassicGroup) and group.is_unused and not self._has_offsets(group_id):
            group.state = ClassicState.DEAD
            del self.groups[group_id]


def _classic_timeout(group: ClassicGroup, timer: Timer, decision: Decision) -> None:
    if timer.kind == "session":
        departure.session_timeout(group, timer.member_id, decision)
    elif timer.member_id:
        pass  # a deadline of the consumer group that this one was
    elif timer.kind == "join":
        rebalance.join_timeout(group, decision)
    elif timer.kind == "sync":
        syncing.sync_timeout(group, decision)
    elif timer.kind == "migrated":
        rebalance.request_rebalance(group, RebalanceReason.MIGRATED, decision)


def _leave_one(group: ClassicGroup | None, leaver: MemberIdentity, decision: Decision) -> MemberResponse:
    code = ErrorCode.NONE
    try:
        if group is None:
            raise Refusal(ErrorCode.UNKNOWN_MEMBER_ID)
        departure.leave(group, leaver.member_id, leaver.group_instance_id, decision)
    except Refusal as refusal:
        code = refusal.code
    return MemberResponse(
        member_id=leaver.member_id, group_instance_id=leaver.group_instance_id, error_code=code
    )


def _delete_records(group: ClassicGroup | ConsumerGroup | StreamsGroup, decision: Decision) -> None:
    if isinstance(group, ConsumerGroup):
        Draft(group, decision).delete()
    elif isinstance(group, StreamsGroup):
        streams_draft.Draft(group, decision).delete()
    else:
        decision.records.append(group_tombstone(group.group_id))


def _no_consumer_group(group_id: str, *, exists: bool) -> Refusal:
    return Refusal(
        ErrorCode.GROUP_ID_NOT_FOUND,
        f"Group {group_id} {'is not a consumer group' if exists else 'not found'}.",
    )


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
