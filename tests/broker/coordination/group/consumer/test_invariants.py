"""Consumer groups under everything at once.

Members come, go, hang, die and return, topics change, answers are lost, coordinators crash.

The members follow the protocol as real ones do, in any interleaving. What must hold is asserted all the time,
and that a group whose members behave comes to rest within a bounded number of heartbeats.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from streamkit.broker.coordination.group.consumer.group import ConsumerGroup
from streamkit.broker.coordination.group.modern.group import GroupState
from streamkit.broker.coordination.group.modern.partitions import Partition
from streamkit.protocol.error_codes import ErrorCode
from tests.broker.coordination.group.consumer.members import (
    HEARTBEAT_MS,
    REVOKE_MS,
    SESSION_MS,
    Player,
    heartbeat,
    wire,
)
from tests.broker.coordination.group.harness import GROUP, Coordinator

TOPICS = ["topic", "other", "third"]
PLAYERS = 5
STATIC = 2
ROUNDS_TO_REST = 12

players = st.integers(0, PLAYERS - 1)


class Groups(RuleBasedStateMachine):
    @initialize(assignor=st.sampled_from(["uniform", "range", "uniform,range"]))
    def start(self, assignor: str) -> None:
        self.coordinator = Coordinator(group_consumer_assignors=assignor)
        for name in TOPICS[:2]:
            self.coordinator.cluster.make(name, 3)
        self.lives = 0
        self.players = [self.born(n) for n in range(PLAYERS)]
        self.ghosts: list[Player] = []
        self.under_way: list[Player] = []
        self.last_commit = -1
        self.next_offset = 0

    def born(self, n: int) -> Player:
        """A process gets a member id of its own; a static one keeps its instance id."""
        self.lives += 1
        wants = [[TOPICS[0]], [TOPICS[0], TOPICS[1]], TOPICS, [TOPICS[1]], []][n % 5]
        return Player(
            self.coordinator,
            f"m{self.lives}",
            topics=list(wants),
            regex="t.*" if n == 4 else None,
            instance=f"i{n}" if n < STATIC else None,
        )

    # ── what members do ──────────────────────────────────────────────────────────────────────────────

    @rule(n=players)
    def beat(self, n: int) -> None:
        self.players[n].beat()

    @rule(n=players)
    def an_answer_is_lost(self, n: int) -> None:
        """The member says the same again, in the epoch that it knows, with all that it has to say."""
        one = self.players[n]
        if one.epoch <= 0:
            return
        heartbeat(
            self.coordinator,
            member_id=one.member_id,
            member_epoch=one.epoch,
            instance_id=one.instance,
            topic_partitions=wire(one.owned),
        )
        one.hear(
            heartbeat(
                self.coordinator,
                member_id=one.member_id,
                member_epoch=one.epoch,
                instance_id=one.instance,
                rebalance_timeout_ms=REVOKE_MS,
                subscribed_topic_names=one.topics,
                subscribed_topic_regex=one.regex,
                topic_partitions=wire(one.owned),
            )
        )

    @rule(n=players, hangs=st.booleans())
    def hang_or_go_on(self, n: int, hangs: bool) -> None:
        self.players[n].lets_go = not hangs
        self.players[n].reconcile()

    @rule(n=players, wants=st.sets(st.sampled_from(TOPICS)))
    def subscribe(self, n: int, wants: set[str]) -> None:
        if self.players[n].epoch > 0:
            self.players[n].subscribe(*sorted(wants))

    @rule(n=players)
    def leave(self, n: int) -> None:
        if self.players[n].epoch > 0:
            self.players[n].leave()

    @rule(n=players)
    def go_for_a_moment(self, n: int) -> None:
        """A static member stops; the next process comes with its instance id."""
        if self.players[n].epoch > 0 and self.players[n].instance is not None:
            self.players[n].leave(-2)
            self.players[n] = self.born(n)

    @rule(n=players)
    def die(self, n: int) -> None:
        """Without a word; what it sent last may still arrive."""
        self.ghosts.append(replace(self.players[n], owned=set(self.players[n].owned)))
        self.players[n] = self.born(n)

    @rule(n=players)
    def commit(self, n: int) -> None:
        self.commit_as(self.players[n])

    @rule(n=st.integers(0, 3))
    def a_ghost_commits(self, n: int) -> None:
        if self.ghosts:
            self.commit_as(self.ghosts[-1 - n % len(self.ghosts)])

    @rule(n=players)
    def something_is_sent_that_comes_late(self, n: int) -> None:
        self.under_way.append(replace(self.players[n], owned=set(self.players[n].owned)))

    @rule(n=st.integers(0, 3))
    def a_commit_comes_late(self, n: int) -> None:
        if self.under_way:
            self.commit_as(self.under_way[-1 - n % len(self.under_way)])

    @rule(n=st.integers(0, 3))
    def a_heartbeat_comes_late(self, n: int) -> None:
        """By more than an epoch, on a connection that is gone: it must move nothing."""
        if not self.under_way or self.group is None:
            return
        late = self.under_way[-1 - n % len(self.under_way)]
        member = self.group.members.get(late.member_id)
        if member is not None and 0 < late.epoch < member.previous_epoch:
            answer = heartbeat(
                self.coordinator,
                member_id=late.member_id,
                member_epoch=late.epoch,
                instance_id=late.instance,
                topic_partitions=wire(late.owned),
            )
            assert answer.error_code == ErrorCode.FENCED_MEMBER_EPOCH

    def commit_as(self, one: Player) -> None:
        """Of the first partition of the first topic, if it believes that it has it."""
        topic = self.coordinator.cluster.topic(TOPICS[0])
        assert topic is not None
        partition = Partition(topic.topic_id, 0)
        if one.epoch <= 0 or partition not in one.owned:
            return
        offset, self.next_offset = self.next_offset, self.next_offset + 1
        code = self.coordinator.commit(offset, member_id=one.member_id, generation=one.epoch, topic=TOPICS[0])
        if code == ErrorCode.NONE:
            self.last_commit = offset
            holder = None if self.group is None else self.group.holders.get(partition)
            assert holder == one.member_id, f"G2: {one.member_id} commits what {holder} has"

    # ── what happens to everybody ────────────────────────────────────────────────────────────────────

    @rule(duration_ms=st.sampled_from([1, HEARTBEAT_MS, SESSION_MS - 1, SESSION_MS, REVOKE_MS]))
    def time_passes(self, duration_ms: int) -> None:
        self.coordinator.advance(duration_ms)

    @rule(rounds=st.integers(1, 4))
    def life_goes_on(self, rounds: int) -> None:
        for _ in range(rounds):
            for one in self.players:
                one.beat()
            self.coordinator.advance(HEARTBEAT_MS)

    @rule()
    def crash(self) -> None:
        self.coordinator.crash()

    @rule(n=players)
    def crash_before_the_append(self, n: int) -> None:
        """A decision is lost with its records and its answer."""
        self.coordinator.loses_next = True
        self.players[n].beat()
        self.coordinator.loses_next = False

    @rule(name=st.sampled_from(TOPICS[1:]))
    def a_topic_comes_or_grows(self, name: str) -> None:
        cluster = self.coordinator.cluster
        found = cluster.topic(name)
        if found is None:
            cluster.make(name, 2)
        elif found.partitions < 6:
            cluster.grow(name, found.partitions + 1)
        self.coordinator.shard.topics_changed([name])

    @rule(name=st.sampled_from(TOPICS[1:]))
    def a_topic_goes(self, name: str) -> None:
        if self.coordinator.cluster.topic(name) is not None:
            self.coordinator.cluster.delete(name)
            self.coordinator.shard.topics_changed([name])

    # ── what must hold ───────────────────────────────────────────────────────────────────────────────

    @property
    def group(self) -> ConsumerGroup | None:
        group = self.coordinator.shard.groups.get(GROUP)
        assert group is None or isinstance(group, ConsumerGroup)
        return group

    @invariant()
    def g1_one_owner_for_a_partition(self) -> None:
        """Among the members that are in the group, as each of them has been told."""
        group = self.group
        owners: dict[Partition, str] = {}
        for one in self.players + self.ghosts:
            member = None if group is None else group.members.get(one.member_id)
            if member is None or one.epoch <= 0:
                continue  # fenced: it learns so, or its own session ends, before it may go on
            for partition in one.owned:
                other = owners.setdefault(partition, one.member_id)
                assert other == one.member_id, f"G1: {partition} is owned by {other} and {one.member_id}"

    @invariant()
    def the_coordinators_own_books_agree(self) -> None:
        group = self.group
        if group is None:
            return
        held: dict[Partition, str] = {}
        for member in group.members.values():
            assert member.assigned.keys().isdisjoint(member.revoking)
            assert member.epoch <= group.target_epoch <= group.epoch
            for partition in member.held:
                assert held.setdefault(partition, member.member_id) == member.member_id
        assert held == group.holders
        assert group.target.keys() <= group.members.keys()

    @invariant()
    def g3_a_fetched_offset_is_the_last_acknowledged_commit(self) -> None:
        assert self.coordinator.committed(TOPICS[0]) == self.last_commit

    def teardown(self) -> None:
        """The dead are noticed, everybody behaves, and all is divided within a few heartbeats."""
        if not hasattr(self, "players"):
            return
        for one in self.players:
            one.lets_go = True
            one.reconcile()
        for _ in range(REVOKE_MS // HEARTBEAT_MS + 1):
            for one in self.players:
                one.beat()
            self.coordinator.advance(HEARTBEAT_MS)
        for rounds in range(ROUNDS_TO_REST):
            for one in self.players:
                one.beat()
            if self.is_at_rest():
                break
            assert rounds < ROUNDS_TO_REST - 1, f"no rest: {self.group and self.group.members}"

    def is_at_rest(self) -> bool:
        group = self.group
        if group is None or group.state is not GroupState.STABLE:
            return False
        owned = {one.member_id: one.owned for one in self.players}
        told = {member_id: set(member.assigned) for member_id, member in group.members.items()}
        wanted = {
            Partition(topic.topic_id, number)
            for name in group.subscribers
            if (topic := group.cluster.topic(name)) is not None
            for number in range(topic.partitions)
        }
        return owned == told and {p for part in owned.values() for p in part} == wanted


TestGroups = Groups.TestCase
TestGroups.settings = settings(
    max_examples=80,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
