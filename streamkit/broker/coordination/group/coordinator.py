"""The groups of one partition of `__consumer_offsets`: the shard behind every group API.

Requests are decided by role: `classic` and `consumers` for members of either protocol, `shares` and `streams`
for the groups of these kinds, `commits` for offsets; what concerns all of them is here. Each decides one
request for one group; `decision.replies` gets the answer, at once or when the group says so (a join waits for
the others, a sync for the leader).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from streamkit.broker.config import BrokerConfig
from streamkit.broker.coordination.framing import schema_of
from streamkit.broker.coordination.group.classic import departure, rebalance, syncing
from streamkit.broker.coordination.group.classic.group import ClassicGroup
from streamkit.broker.coordination.group.classic.requests import ClassicRequests
from streamkit.broker.coordination.group.cluster import Cluster
from streamkit.broker.coordination.group.consumer import departure as consumer_departure
from streamkit.broker.coordination.group.consumer.group import ConsumerGroup
from streamkit.broker.coordination.group.consumer.requests import ConsumerRequests
from streamkit.broker.coordination.group.groups import Group, Groups, delete_records
from streamkit.broker.coordination.group.modern.group import ModernGroup
from streamkit.broker.coordination.group.modern.records import EpochChange
from streamkit.broker.coordination.group.offset_requests import EXPIRY, OffsetRequests
from streamkit.broker.coordination.group.records import OffsetChange, offset_tombstone, parse
from streamkit.broker.coordination.group.share import heartbeat as share_heartbeat
from streamkit.broker.coordination.group.share import offsets as share_offsets
from streamkit.broker.coordination.group.share.group import ShareGroup
from streamkit.broker.coordination.group.share.requests import ShareRequests
from streamkit.broker.coordination.group.streams import departure as streams_departure
from streamkit.broker.coordination.group.streams.group import StreamsGroup
from streamkit.broker.coordination.group.streams.requests import StreamsRequests
from streamkit.broker.coordination.group.vocabulary import RebalanceReason, Timer
from streamkit.broker.coordination.shard import Decision, Instant, Token
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.delete_groups import DeletableGroupResult
from streamkit.protocol.messages.list_groups import ListedGroup

_KINDS: Final[dict[int, type[ConsumerGroup | ShareGroup | StreamsGroup]]] = {
    number: kind for kind in (ConsumerGroup, ShareGroup, StreamsGroup) for number in kind.schemas.by_number
}
"""What kind of group each of Kafka's schemas belongs to; those of offsets and classic groups are not here."""


class GroupCoordinator:
    """One shard."""

    def __init__(self, config: BrokerConfig, cluster: Cluster) -> None:
        self._groups = groups = Groups(config, cluster)
        self.groups = groups.by_id
        self.offsets, self.transactional = groups.offsets, groups.transactional
        self.classic = ClassicRequests(groups)
        self.consumers = ConsumerRequests(groups)
        self.shares = ShareRequests(groups)
        self.streams = StreamsRequests(groups)
        self.commits = OffsetRequests(groups)

    # ── replay ─────────────────────────────────────────────────────────────────────────────────────────

    def replay(self, key: bytes, value: bytes | None) -> None:
        kind = _KINDS.get(schema_of(key))
        if kind is not None:
            self._replay_modern(kind, key, value)
            return
        record = parse(key, value)
        if record is None:
            return
        groups = self._groups
        if isinstance(record, OffsetChange):
            groups.name(record.group)
            self.offsets.replay(*record)
            self.transactional.overtaken(record[:3])
            groups.forget_if_unused(record.group)
        elif record.value is not None:
            groups.classic(record.group).replay(record.value)
        elif isinstance(groups.get(record.group), ClassicGroup):
            groups.delete(record.group)

    def _replay_modern(
        self, kind: type[ConsumerGroup | ShareGroup | StreamsGroup], key: bytes, value: bytes | None
    ) -> None:
        """A group of mere offsets gives way to one with members; deleting what is gone does nothing."""
        change = kind.schemas.parse(key, value)
        assert change is not None
        group = self._groups.get(change.group_id)
        if not isinstance(group, kind):
            if change.value is None or (group is not None and group.is_recorded):
                return
            group = self._groups.new(kind, change.group_id)
            self._groups.adopt(group)
        group.apply(change)
        if isinstance(change, EpochChange) and change.value is None:
            self._groups.delete(change.group_id)

    def replay_in_transaction(self, producer_id: int, key: bytes, value: bytes | None) -> None:
        record = parse(key, value)
        if isinstance(record, OffsetChange):
            self._groups.name(record.group)
            self.transactional.keep(producer_id, record)

    def end_transaction(self, producer_id: int, *, committed: bool) -> None:
        groups = self.transactional.groups_of(producer_id)
        for change in self.transactional.end(producer_id, committed=committed):
            self.offsets.replay(*change)
        for group_id in groups:
            self._groups.forget_if_unused(group_id)

    # ── time ───────────────────────────────────────────────────────────────────────────────────────────

    def loaded(self, decision: Decision) -> None:
        for group in self.groups.values():
            _loaded(group, decision)
        self.commits.schedule_expiry(decision.at)

    def wake_at_ms(self) -> int | None:
        return self._groups.deadlines.wake_at_ms()

    def tick(self, at: Instant) -> Decision | None:
        timer = self._groups.deadlines.pop_due(at.monotonic_ms)
        if timer is None:
            return None
        decision = Decision(at)
        group = self.groups.get(timer.group_id)
        if timer == EXPIRY:
            self.commits.expire(decision)
        elif group is not None:
            _timeout(group, timer, decision)
            self._groups.forget_if_unused(timer.group_id)
        return decision

    # ── topics ─────────────────────────────────────────────────────────────────────────────────────────

    def topics_changed(self, topics: Collection[str]) -> None:
        """Topics came, went or grew; groups that want them look again at their members' next heartbeats."""
        for group in self.groups.values():
            if isinstance(group, ModernGroup) and any(map(group.may_want, topics)):
                group.soft.topics_changed = True

    def forget_topics(self, topics: frozenset[str], decision: Decision) -> None:
        """Topics were deleted."""
        self.commits.forget_topics(topics, decision)
        for group in self.groups.values():
            if isinstance(group, ShareGroup):
                share_offsets.forget_topics(group, decision)

    # ── groups of every kind ───────────────────────────────────────────────────────────────────────────

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

    def delete(self, group_id: str, token: Token, decision: Decision) -> None:
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
            delete_records(group, decision)
        decision.reply(token, DeletableGroupResult(group_id=group_id, error_code=code))


def _loaded(group: Group, decision: Decision) -> None:
    """The group was read back: its members get a whole session to show that they live."""
    match group:
        case ConsumerGroup():
            consumer_departure.loaded(group, decision)
        case StreamsGroup():
            streams_departure.loaded(group, decision)
        case ShareGroup():
            share_heartbeat.loaded(group, decision)
            share_offsets.forget_topics(group, decision)
        case ClassicGroup():
            rebalance.loaded(group, decision)


def _timeout(group: Group, timer: Timer, decision: Decision) -> None:
    match group:
        case ConsumerGroup():
            consumer_departure.timeout(group, timer, decision)
        case StreamsGroup():
            streams_departure.timeout(group, timer, decision)
        case ShareGroup():
            share_heartbeat.timeout(group, timer, decision)
        case ClassicGroup():
            _classic_timeout(group, timer, decision)


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
