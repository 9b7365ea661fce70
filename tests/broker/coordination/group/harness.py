"""A group coordinator on a list instead of a log, with a clock that moves when it is told to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from struct import pack

from streamkit.broker.config import BrokerConfig
from streamkit.broker.coordination.group.classic.group import ClassicGroup
from streamkit.broker.coordination.group.cluster import Topic
from streamkit.broker.coordination.group.coordinator import GroupCoordinator
from streamkit.broker.coordination.group.vocabulary import Caller
from streamkit.broker.coordination.shard import CoordinatorRecord, Decision, Instant
from streamkit.broker.group_config import GroupConfig
from streamkit.protocol.messages.delete_groups import DeletableGroupResult
from streamkit.protocol.messages.describe_groups import DescribedGroup
from streamkit.protocol.messages.heartbeat import HeartbeatRequest
from streamkit.protocol.messages.join_group import (
    JoinGroupRequest,
    JoinGroupRequestProtocol,
    JoinGroupResponse,
)
from streamkit.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberIdentity
from streamkit.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from streamkit.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
    OffsetDeleteResponse,
)
from streamkit.protocol.messages.offset_fetch import OffsetFetchRequestGroup, OffsetFetchRequestTopics
from streamkit.protocol.messages.sync_group import (
    SyncGroupRequest,
    SyncGroupRequestAssignment,
    SyncGroupResponse,
)
from streamkit.protocol.schema import ZERO_UUID, Message

GROUP = "orders"
EPOCH_MS = 1_700_000_000_000
SESSION_MS = 10_000
REBALANCE_MS = 60_000


def subscription(*topics: str, version: int = 1) -> bytes:
    """What a consumer joins with: ConsumerProtocolSubscription, up to its user data."""
    names = b"".join(pack(">h", len(topic)) + topic.encode() for topic in topics)
    return pack(">hi", version, len(topics)) + names + pack(">i", -1)


def protocols(**metadata: bytes) -> list[JoinGroupRequestProtocol]:
    return [JoinGroupRequestProtocol(name=name, metadata=data) for name, data in metadata.items()]


RANGE = protocols(range=subscription("topic"))


class FakeCluster:
    """Topics that a test makes, grows and deletes; ids are never used again."""

    def __init__(self, config: BrokerConfig) -> None:
        self._config = config
        self._topics: dict[str, Topic] = {}
        self._made = 0
        self.overrides: dict[str, str] = {}

    def make(self, name: str, partitions: int) -> Topic:
        self._made += 1
        topic = self._topics[name] = Topic(name, self._made.to_bytes(16, "big"), partitions)
        return topic

    def grow(self, name: str, partitions: int) -> None:
        self._topics[name] = self._topics[name]._replace(partitions=partitions)

    def delete(self, name: str) -> None:
        del self._topics[name]

    def topic(self, name: str) -> Topic | None:
        return self._topics.get(name)

    def topic_by_id(self, topic_id: bytes) -> Topic | None:
        return next((topic for topic in self._topics.values() if topic.topic_id == topic_id), None)

    def topic_names(self) -> Iterable[str]:
        return self._topics

    def group_config(self, group_id: str) -> GroupConfig:
        return self._config.group_defaults.altered(self.overrides)


@dataclass
class Waiter:
    """A request and, once it came, its answer."""

    answers: list[Message] = field(default_factory=list)

    @property
    def waits(self) -> bool:
        return not self.answers

    def answer(self) -> Message:
        assert len(self.answers) == 1, "answered exactly once"
        return self.answers[0]

    @property
    def joined(self) -> JoinGroupResponse:
        answer = self.answer()
        assert isinstance(answer, JoinGroupResponse)
        return answer

    @property
    def synced(self) -> SyncGroupResponse:
        answer = self.answer()
        assert isinstance(answer, SyncGroupResponse)
        return answer

    @property
    def code(self) -> int:
        code = self.answer().error_code  # type: ignore[attr-defined]
        assert isinstance(code, int)
        return code


class Coordinator:
    """Drives one shard: decisions are appended to `log`, replayed, and their replies delivered."""

    def __init__(self, **properties: object) -> None:
        text = {name.replace("_", "."): str(value) for name, value in properties.items()}
        self.config = BrokerConfig.from_properties(text)
        self.cluster = FakeCluster(self.config)
        self.shard = GroupCoordinator(self.config, self.cluster)
        self.log: list[CoordinatorRecord] = []
        self.events: list[object] = []
        self.commands: list[object] = []
        self.now_ms = 0
        self.loses_next = False
        """The next decision is made and never appended: the coordinator crashes in between."""
        self._fresh = count(1)
        self.crash()

    # ── driving ──────────────────────────────────────────────────────────────────────────────────────

    @property
    def at(self) -> Instant:
        return Instant(EPOCH_MS + self.now_ms, self.now_ms)

    def fresh_id(self) -> str:
        return str(next(self._fresh))

    def settle(self, decision: Decision) -> None:
        if self.loses_next:
            self.loses_next = False
            self.crash()
            return
        for record in decision.records:
            self.log.append(record)
            self.shard.replay(*record)
        self.events += decision.events
        self.commands += decision.commands
        for token, message in decision.replies:
            assert isinstance(token, Waiter)
            token.answers.append(message)

    def tick(self) -> None:
        while (decision := self.shard.tick(self.at)) is not None:
            self.settle(decision)

    def advance(self, duration_ms: int) -> None:
        """Let time pass, stopping at each deadline on the way."""
        end_ms = self.now_ms + duration_ms
        while (wake_ms := self.shard.wake_at_ms()) is not None and wake_ms <= end_ms:
            self.now_ms = max(self.now_ms, wake_ms)
            self.tick()
        self.now_ms = end_ms

    def forget(self, topic: str) -> int:
        """The topic was deleted; how many records say what that leads to."""
        decision = Decision(self.at)
        self.shard.forget_topics(frozenset([topic]), decision)
        self.settle(decision)
        return len(decision.records)

    def crash(self) -> None:
        """Only the log survives, as the cleaner leaves it and a load reads it, and the clocks go on."""
        self.shard = GroupCoordinator(self.config, self.cluster)
        newest: dict[bytes, bytes | None] = {}
        for key, value in self.log:
            newest.pop(key, None)
            newest[key] = value
        for key, value in newest.items():
            self.shard.replay(key, value)
        decision = Decision(self.at)
        self.shard.loaded(decision)
        self.settle(decision)
        self.tick()

    @property
    def group(self) -> ClassicGroup:
        group = self.shard.groups[GROUP]
        assert isinstance(group, ClassicGroup)
        return group

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────

    def join(
        self,
        member_id: str = "",
        *,
        instance: str | None = None,
        version: int = 9,
        protocol_type: str = "consumer",
        offers: list[JoinGroupRequestProtocol] | None = None,
        session_ms: int = SESSION_MS,
        rebalance_ms: int = REBALANCE_MS,
    ) -> Waiter:
        request = JoinGroupRequest(
            group_id=GROUP,
            session_timeout_ms=session_ms,
            rebalance_timeout_ms=rebalance_ms,
            member_id=member_id,
            group_instance_id=instance,
            protocol_type=protocol_type,
            protocols=RANGE if offers is None else offers,
        )
        waiter, decision = Waiter(), Decision(self.at)
        caller = Caller(version, "client", "/127.0.0.1", self.fresh_id())
        self.shard.classic.join(request, caller, waiter, decision)
        self.settle(decision)
        self.tick()
        return waiter

    def enter(self, **options: object) -> tuple[str, Waiter]:
        """Join as a new dynamic member does: once for the id, once with it."""
        member_id = self.join(**options).joined.member_id  # type: ignore[arg-type]
        return member_id, self.join(member_id, **options)  # type: ignore[arg-type]

    def sync(
        self,
        member_id: str,
        generation: int,
        assignments: dict[str, bytes] | None = None,
        *,
        instance: str | None = None,
        protocol_type: str | None = None,
        protocol_name: str | None = None,
    ) -> Waiter:
        request = SyncGroupRequest(
            group_id=GROUP,
            generation_id=generation,
            member_id=member_id,
            group_instance_id=instance,
            protocol_type=protocol_type,
            protocol_name=protocol_name,
            assignments=[
                SyncGroupRequestAssignment(member_id=key, assignment=value)
                for key, value in (assignments or {}).items()
            ],
        )
        waiter, decision = Waiter(), Decision(self.at)
        self.shard.classic.sync(request, waiter, decision)
        self.settle(decision)
        self.tick()
        return waiter

    def heartbeat(self, member_id: str, generation: int, *, instance: str | None = None) -> int:
        request = HeartbeatRequest(
            group_id=GROUP, generation_id=generation, member_id=member_id, group_instance_id=instance
        )
        waiter, decision = Waiter(), Decision(self.at)
        self.shard.classic.heartbeat(request, waiter, decision)
        self.settle(decision)
        self.tick()
        return waiter.code

    def leave(self, *members: MemberIdentity | str, version: int = 5) -> LeaveGroupResponse:
        identities = [MemberIdentity(member_id=m) if isinstance(m, str) else m for m in members]
        request = LeaveGroupRequest(
            group_id=GROUP, member_id=identities[0].member_id if version < 3 else "", members=identities
        )
        waiter, decision = Waiter(), Decision(self.at)
        self.shard.classic.leave(request, version, waiter, decision)
        self.settle(decision)
        self.tick()
        answer = waiter.answer()
        assert isinstance(answer, LeaveGroupResponse)
        return answer

    def commit(
        self,
        offset: int,
        *,
        member_id: str = "",
        generation: int = -1,
        instance: str | None = None,
        topic: str = "topic",
        metadata: str | None = "",
        retention_ms: int = -1,
        version: int = 9,
        partition: int = 0,
    ) -> int:
        found = self.cluster.topic(topic)
        topic_id = ZERO_UUID if found is None else found.topic_id
        part = OffsetCommitRequestPartition(
            partition_index=partition, committed_offset=offset, committed_metadata=metadata
        )
        request = OffsetCommitRequest(
            group_id=GROUP,
            generation_id_or_member_epoch=generation,
            member_id=member_id,
            group_instance_id=instance,
            retention_time_ms=retention_ms,
            topics=[OffsetCommitRequestTopic(name=topic, topic_id=topic_id, partitions=[part])],
        )
        waiter, decision = Waiter(), Decision(self.at)
        self.shard.commits.commit(request, version, waiter, decision)
        self.settle(decision)
        self.tick()
        return int(waiter.answer().topics[0].partitions[0].error_code)  # type: ignore[attr-defined]

    def committed(self, topic: str = "topic") -> int:
        wanted = [OffsetFetchRequestTopics(name=topic, partition_indexes=[0])]
        waiter, decision = Waiter(), Decision(self.at)
        self.shard.commits.fetch(OffsetFetchRequestGroup(group_id=GROUP, topics=wanted), waiter, decision)
        self.settle(decision)
        return int(waiter.answer().topics[0].partitions[0].committed_offset)  # type: ignore[attr-defined]

    def fetch_as(self, member_id: str | None, epoch: int) -> int:
        """The error of reading offsets as this member."""
        request = OffsetFetchRequestGroup(group_id=GROUP, member_id=member_id, member_epoch=epoch, topics=[])
        waiter, decision = Waiter(), Decision(self.at)
        self.shard.commits.fetch(request, waiter, decision)
        self.settle(decision)
        return waiter.code

    def delete_offset(self, topic: str = "topic") -> OffsetDeleteResponse:
        part = OffsetDeleteRequestPartition(partition_index=0)
        request = OffsetDeleteRequest(
            group_id=GROUP, topics=[OffsetDeleteRequestTopic(name=topic, partitions=[part])]
        )
        waiter, decision = Waiter(), Decision(self.at)
        self.shard.commits.delete(request, waiter, decision)
        self.settle(decision)
        answer = waiter.answer()
        assert isinstance(answer, OffsetDeleteResponse)
        return answer

    def delete(self) -> int:
        waiter, decision = Waiter(), Decision(self.at)
        self.shard.delete(GROUP, waiter, decision)
        self.settle(decision)
        answer = waiter.answer()
        assert isinstance(answer, DeletableGroupResult)
        return answer.error_code

    def describe(self, version: int = 6) -> DescribedGroup:
        waiter, decision = Waiter(), Decision(self.at)
        self.shard.classic.describe(GROUP, version, waiter, decision)
        self.settle(decision)
        answer = waiter.answer()
        assert isinstance(answer, DescribedGroup)
        return answer

    # ── scenes ───────────────────────────────────────────────────────────────────────────────────────

    def stable(self, size: int = 1, **options: object) -> list[str]:
        """A stable group of dynamic members; the first leads. Their assignments are their own ids."""
        members: list[str] = []
        for _ in range(size):
            member_id = self.join(**options).joined.member_id  # type: ignore[arg-type]
            waiters = [self.join(member_id, **options)]  # type: ignore[arg-type]
            waiters += [self.join(other, **options) for other in members]  # type: ignore[arg-type]
            members.append(member_id)
            self.share(waiters)
        return members

    def share(self, waiters: list[Waiter]) -> int:
        """Everybody of a new generation syncs; the leader gives each member its own id."""
        joined = [waiter.joined for waiter in waiters]
        generation = joined[0].generation_id
        assert {answer.generation_id for answer in joined} == {generation}
        for answer in sorted(joined, key=lambda answer: answer.member_id == answer.leader):
            members = {member.member_id: member.member_id.encode() for member in answer.members}
            self.sync(answer.member_id, generation, members)
        return generation
