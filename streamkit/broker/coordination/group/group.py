"""The classic group: consumers that agree, generation after generation, on who reads what.

**The idea.** The members of a group divide work among themselves; the coordinator never looks at the work.
It only makes sure that all of them have the same members in mind: it gathers everybody (join), numbers the
gathering (a *generation*), lets one member (the *leader*) divide the work, writes the division down, and
hands each member its part (sync). Whatever a member does later carries its generation, and an old one is
refused. So no two members ever own a partition in the same generation, and none commits offsets for work
that has been given to somebody else.

**States.** All transitions are in this file.

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
from typing import NamedTuple

from streamkit.broker.config import BrokerConfig
from streamkit.broker.coordination.deadlines import Deadlines
from streamkit.broker.coordination.group.member import Member
from streamkit.broker.coordination.group.records import GroupMetadataValue, MemberMetadata, group_record
from streamkit.broker.coordination.group.subscription import CONSUMER_PROTOCOL, subscribed_topics
from streamkit.broker.coordination.shard import Decision, Refusal, Token
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.describe_groups import DescribedGroup, DescribedGroupMember
from streamkit.protocol.messages.join_group import (
    JoinGroupRequest,
    JoinGroupResponse,
    JoinGroupResponseMember,
)
from streamkit.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse

NEW_MEMBER_JOIN_TIMEOUT_MS = 5 * 60_000
"""How long the parked join of a member that does not know its id yet is kept; as Kafka's."""

REQUIRES_MEMBER_ID_VERSION = 4
SKIPS_ASSIGNMENT_VERSION = 9


class GroupState(StrEnum):
    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


class RebalanceReason(StrEnum):
    MEMBER_JOINED = "member_joined"
    MEMBER_LEFT = "member_left"
    MEMBER_CHANGED = "member_changed"
    LEADER_REJOINED = "leader_rejoined"
    SESSION_EXPIRED = "session_expired"
    SYNC_EXPIRED = "sync_expired"
    OVER_CAPACITY = "over_capacity"


class RebalanceStarted(NamedTuple):
    group_id: str
    reason: RebalanceReason


class RebalanceCompleted(NamedTuple):
    """The duration runs from the first of the rebalances that ended in this generation."""

    group_id: str
    duration_ms: int


class Timer(NamedTuple):
    """Whose deadline it is: `session` of a member, `join` or `sync` of a group, `expiry` of all offsets."""

    kind: str
    group_id: str = ""
    member_id: str = ""


class Caller(NamedTuple):
    """Who asks, in which version; `fresh_id` makes a member id unique, should one be needed."""

    version: int
    client_id: str
    client_host: str
    fresh_id: str


class JoinCall(NamedTuple):
    """A JoinGroup request, who sent it, and who waits for its answer."""

    request: JoinGroupRequest
    caller: Caller
    token: Token


class Group:
    """One classic group. `members` is in the order of arrival; there is a leader iff there are members."""

    def __init__(self, group_id: str, config: BrokerConfig, deadlines: Deadlines[Timer]) -> None:
        self.group_id = group_id
        self.durable: GroupMetadataValue | None = None
        self.state = GroupState.EMPTY
        self.generation = 0
        self.protocol_type = ""
        self.protocol_name: str | None = None
        self.leader: str | None = None
        self.members: dict[str, Member] = {}
        self.promised: dict[str, None] = {}
        """Member ids that were handed out and have not joined yet."""
        self.subscribed: frozenset[str] | None = None
        """Topics of the current generation; None when the metadata cannot be read."""
        self._config = config
        self._deadlines = deadlines
        self._static: dict[str, str] = {}
        self._unsynced: dict[str, None] = {}
        self._is_initial = False
        self._came_meanwhile = False
        self._initial_delay_left_ms = 0
        self._rebalance_began_ms: int | None = None

    # ── replay: hard state ─────────────────────────────────────────────────────────────────────────────

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
        self._static = {
            m.instance_id: m.member_id for m in self.members.values() if m.instance_id is not None
        }
        self.state = GroupState.STABLE if self.members else GroupState.EMPTY
        self.subscribed = self._read_subscriptions()
        self._rebalance_began_ms = None

    # `_replayed` keeps what only memory knows of a member: its other protocols and its parked requests.
    def _replayed(self, record: MemberMetadata, protocol_name: str) -> Member:
        member = self.members.get(record.member_id)
        if member is None:
            return Member.restored(record, protocol_name)
        member.assignment = record.assignment
        return member

    def loaded(self, decision: Decision) -> None:
        """The group was read back: its members get a whole session timeout to show that they live."""
        for member in self.members.values():
            self._expect_heartbeat(member, decision)
        if len(self.members) > self._config.group_max_size:
            self._prepare_rebalance(RebalanceReason.OVER_CAPACITY, decision)

    # ── join ───────────────────────────────────────────────────────────────────────────────────────────

    def join(self, call: JoinCall, decision: Decision) -> None:
        request = call.request
        member_id = request.member_id
        if not self._has_room_for(member_id):
            self._remove(member_id, decision)
            self._complete_join_if_gathered(decision)
            decision.reply(call.token, refused_join(ErrorCode.GROUP_MAX_SIZE_REACHED))
            return
        self._check_protocols(request)
        if not member_id:
            self._join_nameless(call, decision)
        elif member_id in self.promised and request.group_instance_id is None:
            self._add_member(member_id, call, decision)
        else:
            self._rejoin(self._member(member_id, request.group_instance_id), call, decision)

    def _has_room_for(self, member_id: str) -> bool:
        """New members up to the limit; while members gather, whoever is here first (limits shrink)."""
        limit = self._config.group_max_size
        member = self.members.get(member_id)
        if self.state is GroupState.EMPTY:
            return True
        if self.state is GroupState.PREPARING_REBALANCE:
            waiting = sum(m.joining is not None for m in self.members.values())
            return waiting < limit or (member is not None and member.joining is not None)
        return member is not None or len(self.members) < limit

    def _check_protocols(self, request: JoinGroupRequest) -> None:
        names = {protocol.name for protocol in request.protocols}
        if self.members:
            same_type = request.protocol_type == self.protocol_type
            fits = same_type and not names.isdisjoint(self._common_protocols())
        else:
            fits = bool(request.protocol_type and names)
        if not fits:
            raise Refusal(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)

    def _join_nameless(self, call: JoinCall, decision: Decision) -> None:
        request, caller, token = call
        instance_id = request.group_instance_id
        member_id = f"{caller.client_id if instance_id is None else instance_id}-{caller.fresh_id}"
        if instance_id is not None and instance_id in self._static:
            self._replace_static(self._static[instance_id], member_id, call, decision)
        elif instance_id is not None or caller.version < REQUIRES_MEMBER_ID_VERSION:
            self._add_member(member_id, call, decision)
        else:
            self.promised[member_id] = None
            lapses_ms = decision.at.monotonic_ms + request.session_timeout_ms
            self._deadlines.set(self._session(member_id), lapses_ms)
            decision.reply(token, refused_join(ErrorCode.MEMBER_ID_REQUIRED, member_id))

    def _add_member(self, member_id: str, call: JoinCall, decision: Decision) -> None:
        request, caller, token = call
        self.promised.pop(member_id, None)
        if not self.members:
            self.protocol_type = request.protocol_type
            self.leader = member_id
        self.members[member_id] = Member(
            member_id=member_id,
            instance_id=request.group_instance_id,
            client_id=caller.client_id,
            client_host=caller.client_host,
            rebalance_timeout_ms=_rebalance_timeout_ms(request),
            session_timeout_ms=request.session_timeout_ms,
            protocols=request.protocols,
            is_new=True,
            joining=token,
        )
        if request.group_instance_id is not None:
            self._static[request.group_instance_id] = member_id
        given_up_ms = decision.at.monotonic_ms + NEW_MEMBER_JOIN_TIMEOUT_MS
        self._deadlines.set(self._session(member_id), given_up_ms)
        self._came_meanwhile = self._is_initial
        self._rebalance(RebalanceReason.MEMBER_JOINED, decision)

    def _rejoin(self, member: Member, call: JoinCall, decision: Decision) -> None:
        changed = not member.joined_with(call.request.protocols)
        leads = member.member_id == self.leader
        is_stable = self.state is GroupState.STABLE
        if changed or (leads and is_stable) or self.state is GroupState.PREPARING_REBALANCE:
            self._update(member, call, decision)
            changes_nothing = leads and not changed
            self._rebalance(
                RebalanceReason.LEADER_REJOINED if changes_nothing else RebalanceReason.MEMBER_CHANGED,
                decision,
            )
        else:
            decision.reply(call.token, self._joined(member, with_members=leads))

    def _update(self, member: Member, call: JoinCall, decision: Decision) -> None:
        """Park the join of a known member; an earlier one of its own is given up."""
        _refuse_join(member, ErrorCode.REBALANCE_IN_PROGRESS, decision)
        member.protocols = call.request.protocols
        member.rebalance_timeout_ms = _rebalance_timeout_ms(call.request)
        member.session_timeout_ms = call.request.session_timeout_ms
        member.joining = call.token

    def _replace_static(self, old_id: str, member_id: str, call: JoinCall, decision: Decision) -> None:
        """A static member came back: the new id takes the old one's place in everything."""
        leader_before = self.leader
        member = self._rename(old_id, member_id, decision)
        topics_before = subscribed_topics(member.metadata(self.protocol_name))
        self._update(member, call, decision)
        member.client_id, member.client_host = call.caller.client_id, call.caller.client_host
        self._expect_heartbeat(member, decision)
        if self.state is GroupState.STABLE and self._asks_for_the_same(member, topics_before):
            member.joining = None
            assignments = {other.member_id: other.assignment for other in self.members.values()}
            self._record(self.generation, assignments, decision)
            decision.reply(call.token, self._rejoined(member, leader_before, call.caller.version))
        else:
            self._rebalance(RebalanceReason.MEMBER_CHANGED, decision)

    def _rename(self, old_id: str, member_id: str, decision: Decision) -> Member:
        member = self.members[old_id]
        _refuse_join(member, ErrorCode.FENCED_INSTANCE_ID, decision)
        _refuse_sync(member, ErrorCode.FENCED_INSTANCE_ID, decision)
        self._deadlines.cancel(self._session(old_id))
        member.member_id = member_id
        self.members = {m.member_id: m for m in self.members.values()}
        assert member.instance_id is not None
        self._static[member.instance_id] = member_id
        if self.leader == old_id:
            self.leader = member_id
        if old_id in self._unsynced:
            del self._unsynced[old_id]
            self._unsynced[member_id] = None
        return member

    def _asks_for_the_same(self, member: Member, topics_before: frozenset[str] | None) -> bool:
        """Whether a new generation would divide the same work by the same protocol."""
        if self._select_protocol() != self.protocol_name:
            return False
        if self.protocol_type != CONSUMER_PROTOCOL:
            return True
        return subscribed_topics(member.metadata(self.protocol_name)) == topics_before

    def _rejoined(self, member: Member, leader_before: str | None, version: int) -> JoinGroupResponse:
        """A static member's welcome back. An old client that thinks it leads would assign anew."""
        if version < SKIPS_ASSIGNMENT_VERSION:
            return self._joined(member, with_members=False, leader=leader_before)
        leads = member.member_id == self.leader
        return self._joined(member, with_members=leads, skip_assignment=leads)

    # ── rebalance ──────────────────────────────────────────────────────────────────────────────────────

    def _rebalance(self, reason: RebalanceReason, decision: Decision) -> None:
        if self.state is GroupState.PREPARING_REBALANCE:
            self._complete_join_if_gathered(decision)
        else:
            self._prepare_rebalance(reason, decision)

    def _prepare_rebalance(self, reason: RebalanceReason, decision: Decision) -> None:
        now_ms = decision.at.monotonic_ms
        for member in self.members.values():
            if member.syncing is not None:
                _refuse_sync(member, ErrorCode.REBALANCE_IN_PROGRESS, decision)
                self._expect_heartbeat(member, decision)
        self._unsynced.clear()
        self._deadlines.cancel(self._timer("sync"))
        self._is_initial = self.state is GroupState.EMPTY
        self._came_meanwhile = False
        self.state = GroupState.PREPARING_REBALANCE
        if self._rebalance_began_ms is None:
            self._rebalance_began_ms = now_ms
        decision.events.append(RebalanceStarted(self.group_id, reason))
        if self._is_initial:
            delay_ms = self._config.group_initial_rebalance_delay_ms
            self._initial_delay_left_ms = max(self._rebalance_timeout_ms() - delay_ms, 0)
            self._deadlines.set(self._timer("join"), now_ms + delay_ms)
        elif self._all_gathered():
            self._complete_join(decision)
        else:
            self._deadlines.set(self._timer("join"), now_ms + self._rebalance_timeout_ms())

    def join_timeout(self, decision: Decision) -> None:
        """The time to gather is over; an initial rebalance goes on for as long as members keep coming."""
        if self.state is not GroupState.PREPARING_REBALANCE:
            return
        if self._is_initial and self._came_meanwhile and self._initial_delay_left_ms > 0:
            delay_ms = min(self._config.group_initial_rebalance_delay_ms, self._initial_delay_left_ms)
            self._came_meanwhile = False
            self._initial_delay_left_ms -= delay_ms
            self._deadlines.set(self._timer("join"), decision.at.monotonic_ms + delay_ms)
        else:
            self._complete_join(decision)

    def _all_gathered(self) -> bool:
        return not self.promised and all(member.joining is not None for member in self.members.values())

    def _complete_join_if_gathered(self, decision: Decision) -> None:
        """An initial rebalance always waits for its delay."""
        if self.state is GroupState.PREPARING_REBALANCE and not self._is_initial and self._all_gathered():
            self._complete_join(decision)

    def _complete_join(self, decision: Decision) -> None:
        """The members that are here make the next generation."""
        for member in list(self.members.values()):
            if member.joining is None and member.instance_id is None:
                self._remove(member.member_id, decision)
        joined = [member for member in self.members.values() if member.joining is not None]
        if self.members and not joined:
            # Only static members are left, all of them away: wait until they come or their sessions end.
            retry_ms = decision.at.monotonic_ms + self._rebalance_timeout_ms()
            self._deadlines.set(self._timer("join"), retry_ms)
            return
        self._deadlines.cancel(self._timer("join"))
        self._is_initial = False
        if not joined:
            self._record(self.generation + 1, {}, decision)
            return
        if self.leader is None or self.members[self.leader].joining is None:
            self.leader = joined[0].member_id
        self.generation += 1
        self.protocol_name = self._select_protocol()
        self.subscribed = self._read_subscriptions()
        self.state = GroupState.COMPLETING_REBALANCE
        self._unsynced = {member.member_id: None for member in joined}
        self._deadlines.set(self._timer("sync"), decision.at.monotonic_ms + self._rebalance_timeout_ms())
        for member in joined:
            member.is_new = False
            self._expect_heartbeat(member, decision)
            decision.reply(member.joining, self._joined(member, with_members=member.member_id == self.leader))
            member.joining = None

    def _select_protocol(self) -> str:
        """Each member votes for its first protocol that all know; the earliest with most votes wins."""
        candidates = self._common_protocols()
        votes = [member.vote(candidates) for member in self.members.values()]
        return max(dict.fromkeys(votes), key=votes.count)

    def _common_protocols(self) -> set[str]:
        first, *others = (set(member.protocol_names) for member in self.members.values())
        return first.intersection(*others)

    # ── sync ───────────────────────────────────────────────────────────────────────────────────────────

    def sync(self, request: SyncGroupRequest, token: Token, decision: Decision) -> None:
        member = self._member(request.member_id, request.group_instance_id)
        self._check_generation(request.generation_id)
        self._check_same_protocol(request)
        if self.state is GroupState.PREPARING_REBALANCE:
            raise Refusal(ErrorCode.REBALANCE_IN_PROGRESS)
        self._unsynced.pop(member.member_id, None)
        if not self._unsynced:
            self._deadlines.cancel(self._timer("sync"))
        if self.state is GroupState.STABLE:
            decision.reply(token, self._assigned(member.assignment))
            return
        _refuse_sync(member, ErrorCode.REBALANCE_IN_PROGRESS, decision)
        member.syncing = token
        if member.member_id == self.leader:
            given = {part.member_id: part.assignment for part in request.assignments}
            self._assign({member_id: given.get(member_id, b"") for member_id in self.members}, decision)

    def _check_same_protocol(self, request: SyncGroupRequest) -> None:
        """KIP-559: a member that believes in another protocol must not be given this one's assignment."""
        if request.protocol_type not in (None, self.protocol_type) or request.protocol_name not in (
            None,
            self.protocol_name,
        ):
            raise Refusal(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)

    def _assign(self, assignments: dict[str, bytes], decision: Decision) -> None:
        """The leader divided the work: write it down, and tell those who wait."""
        self._record(self.generation, assignments, decision)
        for member in self.members.values():
            if member.syncing is not None:
                decision.reply(member.syncing, self._assigned(assignments[member.member_id]))
                member.syncing = None
                self._expect_heartbeat(member, decision)
        began_ms = self._rebalance_began_ms
        if began_ms is not None:
            decision.events.append(RebalanceCompleted(self.group_id, decision.at.monotonic_ms - began_ms))

    def sync_timeout(self, decision: Decision) -> None:
        """Whoever joined and never came for its assignment is gone, and its part must be given to others."""
        if self.state in (GroupState.COMPLETING_REBALANCE, GroupState.STABLE) and self._unsynced:
            for member_id in list(self._unsynced):
                self._remove(member_id, decision)
            self._prepare_rebalance(RebalanceReason.SYNC_EXPIRED, decision)

    def _record(self, generation: int, assignments: dict[str, bytes], decision: Decision) -> None:
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

    # ── heartbeat, leave, expiry ───────────────────────────────────────────────────────────────────────

    def heartbeat(self, member_id: str, instance_id: str | None, generation: int, decision: Decision) -> None:
        member = self._member(member_id, instance_id)
        self._check_generation(generation)
        self._expect_heartbeat(member, decision)
        if self.state is GroupState.PREPARING_REBALANCE:
            raise Refusal(ErrorCode.REBALANCE_IN_PROGRESS)

    def leave(self, member_id: str, instance_id: str | None, decision: Decision) -> None:
        """One member goes; `left` follows once all have. An operator names a static one by its instance."""
        if not member_id and instance_id is not None and instance_id in self._static:
            member_id = self._static[instance_id]
        elif member_id not in self.promised:
            self._member(member_id, instance_id)
        self._remove(member_id, decision)

    def left(self, decision: Decision) -> None:
        self._after_departure(RebalanceReason.MEMBER_LEFT, decision)

    def session_timeout(self, member_id: str, decision: Decision) -> None:
        """A member that waits for the others is alive; a new one that waits this long is not."""
        member = self.members.get(member_id)
        if member is None:
            self.promised.pop(member_id, None)
            self._complete_join_if_gathered(decision)
        elif member.is_new or (member.joining is None and member.syncing is None):
            self._remove(member_id, decision)
            self._after_departure(RebalanceReason.SESSION_EXPIRED, decision)

    def _after_departure(self, reason: RebalanceReason, decision: Decision) -> None:
        if self.state in (GroupState.STABLE, GroupState.COMPLETING_REBALANCE):
            self._prepare_rebalance(reason, decision)
        elif self.state is GroupState.PREPARING_REBALANCE and self._is_initial and not self.members:
            self._complete_join(decision)
        else:
            self._complete_join_if_gathered(decision)

    def _remove(self, member_id: str, decision: Decision) -> None:
        """Forget a member or a promised id. A parked caller that still lives is made to start over."""
        self.promised.pop(member_id, None)
        self._unsynced.pop(member_id, None)
        self._deadlines.cancel(self._session(member_id))
        member = self.members.pop(member_id, None)
        if member is None:
            return
        _refuse_join(member, ErrorCode.UNKNOWN_MEMBER_ID, decision)
        _refuse_sync(member, ErrorCode.UNKNOWN_MEMBER_ID, decision)
        if member.instance_id is not None:
            del self._static[member.instance_id]
        if self.leader == member_id:
            self.leader = next(iter(self.members), None)

    # ── offsets ────────────────────────────────────────────────────────────────────────────────────────

    def check_commit(
        self, member_id: str, instance_id: str | None, generation: int, decision: Decision
    ) -> None:
        """Offsets are accepted from members of this generation; from anybody while there are none."""
        if self.state is GroupState.EMPTY and generation < 0:
            return
        if generation < 0 and not member_id and instance_id is None:
            raise Refusal(ErrorCode.UNKNOWN_MEMBER_ID)
        member = self._member(member_id, instance_id)
        self._check_generation(generation)
        if self.state is GroupState.COMPLETING_REBALANCE:
            raise Refusal(ErrorCode.REBALANCE_IN_PROGRESS)
        self._expect_heartbeat(member, decision)

    def check_delete_offsets(self) -> None:
        if self.state is not GroupState.EMPTY and self.protocol_type != CONSUMER_PROTOCOL:
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
        if self.state is GroupState.EMPTY:
            since_ms = self.durable.current_state_timestamp if self.durable else -1
            return committed_ms if since_ms == -1 else since_ms
        knows = self.protocol_type == CONSUMER_PROTOCOL and self.subscribed is not None
        if self.state is GroupState.STABLE and knows and not self.is_subscribed(topic):
            return committed_ms
        return None

    # ── what others see ────────────────────────────────────────────────────────────────────────────────

    @property
    def is_unused(self) -> bool:
        """Nothing of the group was ever written, and nobody is about to join."""
        return self.durable is None and not self.members and not self.promised

    def describe(self) -> DescribedGroup:
        protocol_name = self.protocol_name if self.state is GroupState.STABLE else None
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

    def _joined(
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

    def _assigned(self, assignment: bytes) -> SyncGroupResponse:
        return SyncGroupResponse(
            protocol_type=self.protocol_type, protocol_name=self.protocol_name, assignment=assignment
        )

    # ── small ──────────────────────────────────────────────────────────────────────────────────────────

    def _member(self, member_id: str, instance_id: str | None) -> Member:
        """The member that this is; a static one whose place was taken learns that it is fenced."""
        if instance_id is not None and self._static.get(instance_id, member_id) != member_id:
            raise Refusal(ErrorCode.FENCED_INSTANCE_ID)
        member = self.members.get(member_id)
        if member is None or (instance_id is not None and instance_id not in self._static):
            raise Refusal(ErrorCode.UNKNOWN_MEMBER_ID)
        return member

    def _check_generation(self, generation: int) -> None:
        if generation != self.generation:
            raise Refusal(ErrorCode.ILLEGAL_GENERATION)

    def _expect_heartbeat(self, member: Member, decision: Decision) -> None:
        deadline_ms = decision.at.monotonic_ms + member.session_timeout_ms
        self._deadlines.set(self._session(member.member_id), deadline_ms)

    def _rebalance_timeout_ms(self) -> int:
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0)

    def _read_subscriptions(self) -> frozenset[str] | None:
        if self.protocol_type != CONSUMER_PROTOCOL:
            return None
        topics: set[str] = set()
        for member in self.members.values():
            subscribed = subscribed_topics(member.metadata(self.protocol_name))
            if subscribed is None:
                return None
            topics |= subscribed
        return frozenset(topics)

    def _session(self, member_id: str) -> Timer:
        return Timer("session", self.group_id, member_id)

    def _timer(self, kind: str) -> Timer:
        return Timer(kind, self.group_id)


def _rebalance_timeout_ms(request: JoinGroupRequest) -> int:
    """Version 0 has no rebalance timeout; the session timeout stands in for it."""
    timeout_ms = request.rebalance_timeout_ms
    return request.session_timeout_ms if timeout_ms == -1 else timeout_ms


def refused_join(code: ErrorCode, member_id: str = "") -> JoinGroupResponse:
    return JoinGroupResponse(error_code=code, member_id=member_id, protocol_name=None)


def _refuse_join(member: Member, code: ErrorCode, decision: Decision) -> None:
    if member.joining is not None:
        decision.reply(member.joining, refused_join(code, member.member_id))
        member.joining = None


def _refuse_sync(member: Member, code: ErrorCode, decision: Decision) -> None:
    if member.syncing is not None:
        decision.reply(member.syncing, SyncGroupResponse(error_code=code))
        member.syncing = None
