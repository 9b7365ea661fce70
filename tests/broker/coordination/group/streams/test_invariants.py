"""Streams groups under everything at once.

Threads come, go, hang, die and return, topics grow, go and come back, answers are lost, coordinators crash.

The members follow the protocol as real ones do, in any interleaving. What must hold is asserted all the time,
and that a group whose members behave comes to rest within a bounded number of heartbeats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from streamkit.broker.coordination.group.modern.group import GroupState
from streamkit.broker.coordination.group.streams.group import StreamsGroup
from streamkit.broker.coordination.group.streams.tasks import Task
from streamkit.protocol.error_codes import ErrorCode
from tests.broker.coordination.group.harness import GROUP
from tests.broker.coordination.group.streams.members import (
    CHANGELOG,
    HEARTBEAT_MS,
    INPUT,
    REPARTITION,
    REVOKE_MS,
    SESSION_MS,
    Application,
    Player,
)

THREADS = 5
PROCESSES = 3
TOPICS = [INPUT, REPARTITION, CHANGELOG]
MOST_PARTITIONS = 5
ROUNDS_TO_REST = 16

threads = st.integers(0, THREADS - 1)


class Groups(RuleBasedStateMachine):
    @initialize(standby=st.integers(0, 2), delay_ms=st.sampled_from([0, 3000]))
    def start(self, standby: int, delay_ms: int) -> None:
        self.partitions = 2
        self.app = Application(
            self.partitions,
            group_streams_num_standby_replicas=standby,
            group_streams_initial_rebalance_delay_ms=delay_ms,
        )
        self.coordinator = self.app.coordinator
        self.lives = 0
        self.players = [self.born(n) for n in range(THREADS)]
        self.ghosts: list[Player] = []
        self.under_way: list[Player] = []

    def born(self, n: int) -> Player:
        """A thread gets a member id of its own, under the id of its process."""
        self.lives += 1
        return Player(self.app, f"m{self.lives}", process=f"p{n % PROCESSES}")

    # ── what members do ──────────────────────────────────────────────────────────────────────────────

    @rule(n=threads)
    def beat(self, n: int) -> None:
        self.players[n].beat()

    @rule(n=threads)
    def an_answer_is_lost(self, n: int) -> None:
        """The member says the same again, in the epoch that it knows, with all that it has to say."""
        one = self.players[n]
        if one.epoch > 0:
            replace(one).beat()
            one.beat()

    @rule(n=threads, hangs=st.booleans())
    def hang_or_go_on(self, n: int, hangs: bool) -> None:
        self.players[n].lets_go = not hangs
        self.players[n].reconcile()

    @rule(n=threads)
    def leave(self, n: int) -> None:
        if self.players[n].epoch > 0:
            self.players[n].leave()

    @rule(n=threads)
    def die(self, n: int) -> None:
        """Without a word; what it sent last may still arrive. Its process lives on."""
        self.ghosts.append(replace(self.players[n]))
        self.players[n] = self.born(n)

    @rule(n=threads, number=st.integers(0, 1))
    def commit(self, n: int, number: int) -> None:
        self.commit_as(self.players[n], number)

    @rule(n=st.integers(0, 3), number=st.integers(0, 1))
    def a_ghost_commits(self, n: int, number: int) -> None:
        if self.ghosts:
            self.commit_as(self.ghosts[-1 - n % len(self.ghosts)], number)

    @rule(n=threads)
    def something_is_sent_that_comes_late(self, n: int) -> None:
        self.under_way.append(replace(self.players[n]))

    @rule(n=st.integers(0, 3), number=st.integers(0, 1))
    def a_commit_comes_late(self, n: int, number: int) -> None:
        if self.under_way:
            self.commit_as(self.under_way[-1 - n % len(self.under_way)], number)

    def commit_as(self, one: Player, number: int) -> None:
        """Of a source partition, if it believes that it runs the task."""
        task = Task("0", number)
        if one.epoch <= 0 or task not in one.owned.active:
            return
        code = self.coordinator.commit(
            1, member_id=one.member_id, generation=one.epoch, topic=INPUT, partition=number
        )
        if code == ErrorCode.NONE:
            runner = None if self.group is None else self.group.runners.get(task)
            assert runner == one.member_id, f"{one.member_id} commits what {runner} runs"

    # ── what happens to everybody ────────────────────────────────────────────────────────────────────

    @rule(duration_ms=st.sampled_from([1, HEARTBEAT_MS, SESSION_MS - 1, SESSION_MS, REVOKE_MS]))
    def time_passes(self, duration_ms: int) -> None:
        self.coordinator.advance(duration_ms)

    @rule(rounds=st.integers(1, 4))
    def life_goes_on(self, rounds: int) -> None:
        for _ in range(rounds):
            for one in self.players:
                one.beat()
            self.app.make_wanted()
            self.coordinator.advance(HEARTBEAT_MS)

    @rule()
    def crash(self) -> None:
        self.coordinator.crash()

    @rule(n=threads)
    def crash_before_the_append(self, n: int) -> None:
        """A decision is lost with its records and its answer."""
        self.coordinator.loses_next = True
        self.players[n].beat()
        self.coordinator.loses_next = False

    @rule()
    def the_topics_grow(self) -> None:
        """All at once, as one that stays behind fits no more; none is being made with the old number."""
        if self.partitions < MOST_PARTITIONS:
            self.app.wanted.clear()
            self.partitions += 1
            for name in TOPICS:
                if self.coordinator.cluster.topic(name) is not None:
                    self.coordinator.cluster.grow(name, self.partitions)
            self.coordinator.shard.topics_changed(TOPICS)

    @rule(name=st.sampled_from(TOPICS))
    def a_topic_goes(self, name: str) -> None:
        if self.coordinator.cluster.topic(name) is not None:
            self.coordinator.cluster.delete(name)
            self.coordinator.shard.topics_changed([name])

    @rule()
    def all_topics_are_there(self) -> None:
        self.app.wanted.clear()
        for name in TOPICS:
            if self.coordinator.cluster.topic(name) is None:
                self.app.make(name, self.partitions)

    @rule(replicas=st.integers(0, 2))
    def another_number_of_copies_is_wanted(self, replicas: int) -> None:
        self.coordinator.cluster.overrides["streams.num.standby.replicas"] = str(replicas)

    # ── what must hold ───────────────────────────────────────────────────────────────────────────────

    @property
    def group(self) -> StreamsGroup | None:
        group = self.coordinator.shard.groups.get(GROUP)
        assert group is None or isinstance(group, StreamsGroup)
        return group

    def live(self) -> Iterator[Player]:
        """Those that are in the group; others learn that they are not before they may go on."""
        for one in self.players + self.ghosts:
            if self.group is not None and one.member_id in self.group.members and one.epoch > 0:
                yield one

    @invariant()
    def a_task_is_run_by_one_member(self) -> None:
        runs = Counter(task for one in self.live() for task in one.owned.active)
        assert not runs or max(runs.values()) == 1, runs

    @invariant()
    def a_process_holds_a_task_once(self) -> None:
        holds = Counter(
            (one.process, task) for one in self.live() for role in one.owned.roles for task in role
        )
        assert not holds or max(holds.values()) == 1, holds

    @invariant()
    def the_coordinators_own_books_agree(self) -> None:
        group = self.group
        if group is None:
            return
        runners, keepers = {}, Counter[tuple[Task, str]]()
        for member in group.members.values():
            assert not member.assigned & member.revoking
            assert member.epoch <= group.target_epoch <= group.epoch
            assert member.since.keys() == member.held.active
            for task in member.held.active:
                assert runners.setdefault(task, member.member_id) == member.member_id
            keepers.update((task, member.member_id) for task in member.held.replicas)
        assert runners == group.runners
        assert keepers.keys() == {(task, one) for task, kept in group.keepers.items() for one in kept}
        assert group.target.keys() <= group.members.keys()

    def teardown(self) -> None:
        """The dead are noticed, everybody behaves, and all is divided within a few heartbeats."""
        if not hasattr(self, "players"):
            return
        self.all_topics_are_there()
        for one in self.players:
            one.lets_go = True
            one.reconcile()
        for _ in range(REVOKE_MS // HEARTBEAT_MS + 1):
            self.life_goes_on(1)
        for rounds in range(ROUNDS_TO_REST):
            self.life_goes_on(1)
            if self.is_at_rest():
                break
            assert rounds < ROUNDS_TO_REST - 1, f"no rest: {self.group and self.group.members}"

    def is_at_rest(self) -> bool:
        group = self.group
        if group is None or group.state is not GroupState.STABLE:
            return False
        told = {member_id: member.assigned for member_id, member in group.members.items()}
        wanted = {Task(name, number) for name in "01" for number in range(self.partitions)}
        copies = min(int(group.assignment_configs["num.standby.replicas"]), PROCESSES - 1)
        kept = Counter(task for one in self.players for task in one.owned.standby)
        return (
            {one.member_id: one.owned for one in self.players} == told
            and group.runners.keys() == wanted
            and kept == Counter({Task("1", number): copies for number in range(self.partitions) if copies})
        )


TestGroups = Groups.TestCase
TestGroups.settings = settings(
    max_examples=40,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
