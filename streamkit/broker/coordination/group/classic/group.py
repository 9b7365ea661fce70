"""The classic group: consumers that agree, generation after generation, on who reads what.

**The idea.** The members of a group divide work among themselves; the coordinator never looks at the work.
It only makes sure that all of them have the same members in mind: it gathers everybody (join), numbers the
gathering (a *generation*), lets one member (the *leader*) divide the work, writes the division down, and
hands each member its part (sync). Whatever a member does later carries its generation, and an old one is
refused. So no two members ever own a partition in the same generation, and none commits offsets for work
that has been given to somebody else.

**States.** Here is what a group is and remembers; the transitions stand in a file for each phase: `joining`,
`rebalance`, `syncing`, `departure`.

    Empty ── join ──▶ PreparingRebalance ── all joined, or ──▶ CompletingRebalance ── leader ──▶ Stable
      ▲                    ▲    │            out of time                │             syncs        │
      │                    │    │                                       │                          │
      ├──── nobody left ───┼────┘                                       │                          │
      │                    └────── join, leave, expiry, no sync ◀───────┴──────────────────────────┘
      └──▶ Dead: deleted or forgotten

- *Empty*: no members; offsets stay until their retention passes. The first join waits
  `group.initial.rebalance.delay.ms` for company, longer as long as more members come.
- *PreparingRebalance*: members are told to rejoin (heartbeats answer REBALANCE_IN_PROGRESS) and their joins
  are parked. It ends when all have joined and no promised member id is outstanding, or after the longest
  rebalance timeout: dynamic members that have not rejoined are dropped, static ones stay.
- *CompletingRebalance*: all have the new generation; syncs are parked until the leader's brings the
  assignment. Who joined and does not sync within the rebalance timeout is dropped.
- *Stable*: the assignment is written. A member that joins again unchanged is given the same generation; the
  leader, or one with other metadata, starts a rebalance.

**Hard and soft.** Hard state is `durable`, the last generation whose assignment was written (or that ended
empty); only `replay` sets it, and with it members' assignments and the states Stable and Empty. A generation
number that was handed out but never synced is soft, and may be handed out again after a crash; that harms
nobody, since no assignment of it was ever sent. Parked requests, promised member ids and deadlines are soft.

**Who is who** (KIP-394, KIP-345, KIP-814). A new dynamic member is given an id and told to join with it, so
that a lost answer leaves no ghost; the promise lapses with the session timeout. A static member is known by
its instance id: when it comes back it gets a new member id, its old one is fenced, and, if it asks for the
same as before, nobody is disturbed. Should it have been the leader, it is told to skip the assignment.

Durations and deadlines are milliseconds; `decision.at` is now. Refusals are raised, other answers go into the
decision.
"""

from __future__ import annotations

from enum import StrEnum

from streamkit.broker.config import BrokerConfig
from streamkit.broker.coordination.deadlines import Deadlines
from streamkit.broker.coordination.group.classic.member import Member
from streamkit.broker.coordination.group.embedded_protocol import CONSUMER_PROTOCOL, subscribed_topics
from streamkit.broker.coordination.group.records import GroupMetadataValue, MemberMetadata, group_record
from streamkit.broker.coordination.group.vocabulary import CommitClaim, Timer
from streamkit.broker.coordination.shard import Decision, Refusal
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.describe_groups import DescribedGroup, DescribedGroupMember
from streamkit.protocol.messages.join_group import JoinGroupResponse, JoinGroupResponseMember
from streamkit.protocol.messages.sync_group import SyncGroupResponse

CLASSIC = "classic"
"""The type of group, as ListGroups names it."""


class ClassicState(StrEnum):
    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


class ClassicGroup:
    """One classic group. `members` is in the order of arrival; there is a leader iff there are members."""

    group_type = CLASSIC

    def __init__(self, group_id: str, config: BrokerConfig, deadlines: Deadlines[Timer]) -> None:
        self.group_id = group_id
        self.durable: GroupMetadataValue | None = None
        self.state = ClassicState.EMPTY
        self.generation = 0
        self.protocol_type = ""
        self.protocol_name: str | None = None
        self.leader: str | None = None
        self.members: dict[str, Member] = {}
        self.promised: dict[str, None] = {}
        """Member ids that were handed out and have not joined yet."""
        self.subscribed: frozenset[str] | None = None
        """Topics of the current generation; None when the metadata cannot be read."""
        self.config = config
        self.deadlines = deadlines
        self.static: dict[str, str] = {}
        self.unsynced: dict[str, None] = {}
        self.is_initial = False
        self.came_meanwhile = False
        self.initial_delay_left_ms = 0
        self.rebalance_began_ms: int | None = None

    # ── replay: hard state ──────────────────────────────────────────────────────────────────────────────────

    def replay(self, value: GroupMetadataValue) -> None:
        """A generation was written: its members and their assignments are the group's."""
        self.durable = value
        self.generation = value.generation
        self.protocol_type = value.protocol_type
        self.protocol_name = value.protocol
        self.leader = value.leader
        self.members = {
            record.member_id: self._replayed(record, value.protocol or "") for record in value.members
        }
        self.static = {m.instance_id: m.member_id for m in self.members.values() if m.instance_id is not None}
        self.state = ClassicState.STABLE if self.members else ClassicState.EMPTY
        self.subscribed = self.read_subscriptions()
        self.rebalance_began_ms = None

    def _replayed(self, record: MemberMetadata, protocol_name: str) -> Member:
        member = self.members.get(record.member_id)
        if member is None:
            return Member.restored(record, protocol_name)
        member.assignment = record.assignment
        return member

    def select_protocol(self) -> str:
        """Each member votes for its first protocol that all know; the earliest with most votes wins."""
        candidates = self.common_protocols()
        votes = [member.vote(candidates) for member in self.members.values()]
        return max(dict.fromkeys(votes), key=votes.count)

    def common_protocols(self) -> set[str]:
        first, *others = (set(member.protocol_names) for member in self.members.values())
        return first.intersection(*others)

    def record(self, generation: int, assignments: dict[str, bytes], decision: Decision) -> None:
        """Write a generation down; the group becomes Stable, or Empty, by the replay of this record."""
        protocol_name = self.protocol_name if self.members else None
        value = GroupMetadataValue(
            protocol_type=self.protocol_type,
            generation=generation,
            protocol=protocol_name,
            leader=self.leader,
            current_state_timestamp=decision.at.wall_ms,
            members=[
                member.recorded(protocol_name or "", assignments[member.member_id])
                for member in self.members.values()
            ],
        )
        decision.records.append(group_record(self.group_id, value))

    # ── what the phases share ───────────────────────────────────────────────────────────────────────────────

    def remove(self, member_id: str, decision: Decision) -> None:
        """Forget a member or a promised id. A parked caller that still lives is made to start over."""
        self.promised.pop(member_id, None)
        self.unsynced.pop(member_id, None)
        self.deadlines.cancel(self.session_timer(member_id))
        member = self.members.pop(member_id, None)
        if member is None:
            return
        refuse_join(member, ErrorCode.UNKNOWN_MEMBER_ID, decision)
        refuse_sync(member, ErrorCode.UNKNOWN_MEMBER_ID, decision)
        if member.instance_id is not None:
            del self.static[member.instance_id]
        if self.leader == member_id:
            self.leader = next(iter(self.members), None)

    # ── offsets ─────────────────────────────────────────────────────────────────────────────────────────────

    def check_commit(self, claim: CommitClaim, decision: Decision) -> None:
        """Offsets are accepted from members of this generation; from anybody while there are none."""
        if self.state is ClassicState.EMPTY and claim.epoch < 0:
            return
        if claim.epoch < 0 and not claim.member_id and claim.instance_id is None:
            raise Refusal(ErrorCode.UNKNOWN_MEMBER_ID)
        member = self.member(claim.member_id, claim.instance_id)
        self.check_generation(claim.epoch)
        if self.state is ClassicState.COMPLETING_REBALANCE:
            raise Refusal(ErrorCode.REBALANCE_IN_PROGRESS)
        self.expect_heartbeat(member, decision)

    def check_fetch(self, member_id: str | None, epoch: int) -> None:
        """Anybody may read what a classic group committed."""

    def check_delete_offsets(self) -> None:
        if self.state is not ClassicState.EMPTY and self.protocol_type != CONSUMER_PROTOCOL:
            raise Refusal(ErrorCode.NON_EMPTY_GROUP)

    def is_subscribed(self, topic: str) -> bool:
        """Whether a live member may still need offsets of this topic; yes, when that cannot be known."""
        if self.protocol_type != CONSUMER_PROTOCOL:
            return False
        return topic in self.subscribed if self.subscribed is not None else bool(self.members)

    def retention_began_ms(self, topic: str, committed_ms: int) -> int | None:
        """When the retention of an offset began (wall clock); None while it must be kept."""
        if not self.protocol_type:
            return committed_ms
        if self.state is ClassicState.EMPTY:
            since_ms = self.durable.current_state_timestamp if self.durable else -1
            return committed_ms if since_ms == -1 else since_ms
        knows = self.protocol_type == CONSUMER_PROTOCOL and self.subscribed is not None
        if self.state is ClassicState.STABLE and knows and not self.is_subscribed(topic):
            return committed_ms
        return None

    # ── what others see ─────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_empty(self) -> bool:
        return self.state is ClassicState.EMPTY

    @property
    def is_recorded(self) -> bool:
        return self.durable is not None

    @property
    def is_unused(self) -> bool:
        """Nothing of the group was ever written, and nobody is about to join."""
        return self.durable is None and not self.members and not self.promised

    def describe(self) -> DescribedGroup:
        protocol_name = self.protocol_name if self.state is ClassicState.STABLE else None
        return DescribedGroup(
            group_id=self.group_id,
            group_state=self.state.value,
            protocol_type=self.protocol_type,
            protocol_data=protocol_name or "",
            members=[
                DescribedGroupMember(
                    member_id=member.member_id,
                    group_instance_id=member.instance_id,
                    client_id=member.client_id,
                    client_host=member.client_host,
                    member_metadata=member.metadata(protocol_name),
                    member_assignment=member.assignment if protocol_name else b"",
                )
                for member in self.members.values()
            ],
        )

    def joined(
        self, member: Member, *, with_members: bool, leader: str | None = None, skip_assignment: bool = False
    ) -> JoinGroupResponse:
        everybody = self.members.values() if with_members else ()
        return JoinGroupResponse(
            generation_id=self.generation,
            protocol_type=self.protocol_type,
            protocol_name=self.protocol_name,
            leader=leader or self.leader or "",
            skip_assignment=skip_assignment,
            member_id=member.member_id,
            members=[
                JoinGroupResponseMember(
                    member_id=other.member_id,
                    group_instance_id=other.instance_id,
                    metadata=other.metadata(self.protocol_name),
                )
                for other in everybody
            ],
        )

    def assigned(self, assignment: bytes) -> SyncGroupResponse:
        return SyncGroupResponse(
            protocol_type=self.protocol_type, protocol_name=self.protocol_name, assignment=assignment
        )

    # ── small ───────────────────────────────────────────────────────────────────────────────────────────────

    def member(self, member_id: str, instance_id: str | None) -> Member:
        """The member that this is; a static one whose place was taken learns that it is fenced."""
        if instance_id is not None and self.static.get(instance_id, member_id) != member_id:
            raise Refusal(ErrorCode.FENCED_INSTANCE_ID)
        member = self.members.get(member_id)
        if member is None or (instance_id is not None and instance_id not in self.static):
            raise Refusal(ErrorCode.UNKNOWN_MEMBER_ID)
        return member

    def check_generation(self, generation: int) -> None:
        if generation != self.generation:
            raise Refusal(ErrorCode.ILLEGAL_GENERATION)

    def expect_heartbeat(self, member: Member, decision: Decision) -> None:
        deadline_ms = decision.at.monotonic_ms + member.session_timeout_ms
        self.deadlines.set(self.session_timer(member.member_id), deadline_ms)

    def rebalance_timeout_ms(self) -> int:
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0)

    def read_subscriptions(self) -> frozenset[str] | None:
        if self.protocol_type != CONSUMER_PROTOCOL:
            return None
        topics: set[str] = set()
        for member in self.members.values():
            subscribed = subscribed_topics(member.metadata(self.protocol_name))
            if subscribed is None:
                return None
            topics |= subscribed
        return frozenset(topics)

    def session_timer(self, member_id: str) -> Timer:
        return Timer("session", self.group_id, member_id)

    def timer(self, kind: str) -> Timer:
        return Timer(kind, self.group_id)


def refused_join(code: ErrorCode, member_id: str = "") -> JoinGroupResponse:
    return JoinGroupResponse(error_code=code, member_id=member_id, protocol_name=None)


def refuse_join(member: Member, code: ErrorCode, decision: Decision) -> None:
    if member.joining is not None:
        decision.reply(member.joining, refused_join(code, member.member_id))
        member.joining = None


def refuse_sync(member: Member, code: ErrorCode, decision: Decision) -> None:
    if member.syncing is not None:
        decision.reply(member.syncing, SyncGroupResponse(error_code=code))
        member.syncing = None
