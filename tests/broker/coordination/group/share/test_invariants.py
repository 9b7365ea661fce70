"""Share groups under everything at once.

Members come, go, die and return; topics come, grow and go; share coordinators answer late, with errors or not
at all; operators alter and delete; the group's coordinator crashes. What must hold is asserted
all the time, and that a group whose members and share coordinators behave comes to rest.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from streamkit.broker.coordination.group.share.group import ShareGroup
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.alter_share_group_offsets import (
    AlterShareGroupOffsetsRequest,
    AlterShareGroupOffsetsRequestPartition,
    AlterShareGroupOffsetsRequestTopic,
)
from streamkit.protocol.messages.delete_share_group_offsets import (
    DeleteShareGroupOffsetsRequest,
    DeleteShareGroupOffsetsRequestTopic,
)
from tests.broker.coordination.group.harness import GROUP, Coordinator, Waiter
from tests.broker.coordination.group.share.members import HEARTBEAT_MS, SESSION_MS, Player, States, ask

TOPICS = ["topic", "other", "third"]
PLAYERS = 4
ROUNDS_TO_REST = 10

players = st.integers(0, PLAYERS - 1)
topics = st.sampled_from(TOPICS)


class Groups(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.coordinator = Coordinator()
        self.states = States(self.coordinator)
        for name in TOPICS[:2]:
            self.coordinator.cluster.make(name, 2)
        self.lives = 0
        self.players = [self.born(n) for n in range(PLAYERS)]
        self.waiting: list[Waiter] = []

    def born(self, n: int) -> Player:
        self.lives += 1
        wants = [[TOPICS[0]], TOPICS[:2], TOPICS, [TOPICS[2]]][n]
        return Player(self.coordinator, f"m{self.lives}", list(wants))

    # ── what members do ──────────────────────────────────────────────────────────────────────────────

    @rule(n=players)
    def beat(self, n: int) -> None:
        self.players[n].beat()

    @rule(n=players)
    def an_answer_is_lost(self, n: int) -> None:
        """The member does not learn of an epoch, and says the same again."""
        one = self.players[n]
        if one.epoch > 0:
            knows = one.epoch, set(one.has)
            if one.beat().error_code == ErrorCode.NONE:
                one.epoch, one.has = knows
            one.beat()

    @rule(n=players, wants=st.sets(topics))
    def subscribe(self, n: int, wants: set[str]) -> None:
        if self.players[n].epoch > 0:
            self.players[n].subscribe(*sorted(wants))

    @rule(n=players)
    def leave(self, n: int) -> None:
        if self.players[n].epoch > 0:
            self.players[n].leave()

    @rule(n=players)
    def die(self, n: int) -> None:
        self.players[n] = self.born(n)

    # ── what share coordinators do ───────────────────────────────────────────────────────────────────

    @rule(broken=st.booleans(), count=st.sampled_from([1, 9]))
    def answer(self, broken: bool, count: int) -> None:
        self.states.broken = broken
        self.states.answer(count)

    # ── what operators do ────────────────────────────────────────────────────────────────────────────

    @rule(name=topics, offset=st.integers(0, 9))
    def alter(self, name: str, offset: int) -> None:
        partition = AlterShareGroupOffsetsRequestPartition(start_offset=offset)
        topic = AlterShareGroupOffsetsRequestTopic(topic_name=name, partitions=[partition])
        request = AlterShareGroupOffsetsRequest(group_id=GROUP, topics=[topic])
        self.waiting.append(ask(self.coordinator, "alter_offsets", request))

    @rule(name=topics)
    def delete_offsets(self, name: str) -> None:
        topic = DeleteShareGroupOffsetsRequestTopic(topic_name=name)
        request = DeleteShareGroupOffsetsRequest(group_id=GROUP, topics=[topic])
        self.waiting.append(ask(self.coordinator, "delete_offsets", request))

    @rule()
    def delete_group(self) -> None:
        self.waiting.append(ask(self.coordinator, "delete_group", GROUP))

    # ── what the world does ──────────────────────────────────────────────────────────────────────────

    @rule(name=topics)
    def a_topic_comes_or_grows(self, name: str) -> None:
        cluster = self.coordinator.cluster
        topic = cluster.topic(name)
        if topic is None:
            cluster.make(name, 1)
        elif topic.partitions < 4:
            cluster.grow(name, topic.partitions + 1)
        self.coordinator.shard.topics_changed({name})

    @rule(name=topics)
    def a_topic_goes(self, name: str) -> None:
        if self.coordinator.cluster.topic(name) is not None:
            self.coordinator.cluster.delete(name)
            self.coordinator.shard.topics_changed({name})
            self.coordinator.forget(name)

    @rule(duration_ms=st.sampled_from([1, HEARTBEAT_MS, SESSION_MS]))
    def time_passes(self, duration_ms: int) -> None:
        self.coordinator.advance(duration_ms)

    @rule()
    def crash(self) -> None:
        """Commands that were not carried out, and whoever waits, are forgotten."""
        self.coordinator.crash()
        self.coordinator.commands.clear()
        self.waiting.clear()

    # ── what must hold ───────────────────────────────────────────────────────────────────────────────

    @property
    def group(self) -> ShareGroup | None:
        group = self.coordinator.shard.groups.get(GROUP)
        assert group is None or isinstance(group, ShareGroup)
        return group

    @invariant()
    def epochs_are_in_order(self) -> None:
        if self.group is not None:
            group = self.group
            assert group.target_epoch <= group.epoch
            assert all(member.epoch <= group.target_epoch for member in group.members.values())

    @invariant()
    def members_have_what_the_target_of_their_epoch_gave_them(self) -> None:
        if self.group is not None:
            group = self.group
            assert group.target.keys() <= group.members.keys()
            for member_id, member in group.members.items():
                if member.epoch == group.target_epoch:
                    assert member.assigned == group.target[member_id]

    @invariant()
    def states_are_in_one_station(self) -> None:
        if self.group is not None:
            states = self.group.states
            assert not states.initializing & states.initialized
            assert not states.deleting & {one.topic_id for one in states.initializing | states.initialized}
            assert states.names.keys() == states.topics

    @invariant()
    def the_log_says_the_same(self) -> None:
        again = Coordinator()
        for record in self.coordinator.log:
            again.shard.replay(*record)
        there, here = again.shard.groups.get(GROUP), self.group
        assert (there is None) == (here is None)
        if there is not None and here is not None:
            assert isinstance(there, ShareGroup)
            assert (there.members, there.target, there.states) == (here.members, here.target, here.states)
            assert (there.epoch, there.target_epoch) == (here.epoch, here.target_epoch)

    @rule()
    def it_comes_to_rest(self) -> None:
        """Everybody who waits is answered, everything that exists and is wanted is looked into."""
        self.states.broken = False
        for _ in range(ROUNDS_TO_REST):
            for one in self.players:
                if one.topics:
                    one.beat()
            self.states.answer()
        assert not any(waiter.waits for waiter in self.waiting)
        group = self.group
        if group is None or group.is_empty:
            return
        assert group.epoch == group.target_epoch
        assert frozenset().union(*group.target.values()) == frozenset(group.wanted())
        for one in self.players:
            if one.member_id in group.members:
                assert one.has == group.members[one.member_id].assigned, one.member_id
        assert {one for part in group.target.values() for one in part} <= self.states.begun.keys()


Groups.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestShareGroups = Groups.TestCase
