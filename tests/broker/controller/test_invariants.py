"""Whatever happens to brokers and partitions: who leads, who counts, and that nothing committed is lost.

The controller under test decides; around it stands a model of what its decisions are for (L2, L3, L5). Each
replica is a log end; leaders append, followers copy, and what all of an ISR of at least min.insync.replicas
hold is committed. A process may die at any time and come back without some of its bytes, which it does not
hide.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streamkit.broker.controller.image import PartitionRegistration
from streamkit.broker.controller.records import NO_LEADER, RECOVERED, RECOVERING
from streamkit.broker.controller.snapshot import restored, snapshot
from streamkit.protocol.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from tests.broker.controller.cluster import Cluster, alter_isr, move, state, topic

BROKERS = (1, 2, 3, 4)
MIN_ISR = 2
BROKER = st.sampled_from(BROKERS)


class NothingCommittedIsLost(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster(brokers=4, min_insync_replicas=str(MIN_ISR))
        self.cluster.create(topic("orders", assignments={0: [1, 2, 3]}))
        self.runs = dict.fromkeys(BROKERS, True)
        self.processes = 0
        self.ends: Counter[int] = Counter()
        """The log end of each broker's replica."""
        self.committed = 0
        self.lossy: set[int] = set()
        """Brokers that lost bytes since everything was last in good order."""
        self.before = self.partition

    @property
    def partition(self) -> PartitionRegistration:
        return self.cluster.partition()

    def leads(self) -> bool:
        return self.partition.leader != NO_LEADER and self.runs[self.partition.leader]

    # --- records ---------------------------------------------------------------------------------

    @precondition(leads)
    @rule(count=st.integers(1, 3))
    def append(self, count: int) -> None:
        self.ends[self.partition.leader] += count

    @precondition(leads)
    @rule(broker=BROKER)
    def copy(self, broker: int) -> None:
        if broker in self.partition.replicas and self.runs[broker]:
            self.ends[broker] = self.ends[self.partition.leader]

    @precondition(leads)
    @rule()
    def commit(self) -> None:
        isr, replicas = self.partition.isr, self.partition.replicas
        if len(isr) >= min(MIN_ISR, len(replicas)) and all(self.runs[one] for one in isr):
            self.committed = max(self.committed, min(self.ends[one] for one in isr))

    @precondition(leads)
    @rule(wanted=st.sets(BROKER))
    def alter(self, wanted: set[int]) -> None:
        """The leader lets out whom it likes, and in only who has all that it has itself (L7)."""
        leader = self.partition.leader
        allowed = {
            one
            for one in wanted
            if one in self.partition.isr or (self.runs[one] and self.ends[one] == self.ends[leader])
        }
        isr = sorted({leader, *(allowed & set(self.partition.replicas))})
        if self.partition.leader_recovery_state == RECOVERING:
            alter_isr(self.cluster, [leader], broker_id=leader, leader_recovery_state=RECOVERED)
        if self.partition.leader == leader:
            alter_isr(self.cluster, isr, broker_id=leader)

    @precondition(leads)
    @rule()
    def all_goes_well(self) -> None:
        """Everybody who runs has everything, and it is committed."""
        self.append(1)
        for broker in BROKERS:
            self.copy(broker)
        self.alter(set(BROKERS))
        self.commit()

    # --- brokers ---------------------------------------------------------------------------------

    @rule(broker=BROKER)
    def die(self, broker: int) -> None:
        self.runs[broker] = False

    @rule(broker=BROKER, lost=st.integers(0, 3), wait=st.booleans())
    def come_back(self, broker: int, lost: int, wait: bool) -> None:
        if self.runs[broker]:
            return
        if wait:
            self.cluster.clock.ms += 60_000
        before = self.cluster.image.brokers[broker]
        previous = -1 if lost else before.epoch
        self.processes += 1
        response = self.cluster.register(broker, process=self.processes, previous_epoch=previous)
        if not response.error_code:
            assert response.broker_epoch > before.epoch
            self.runs[broker] = True
            self.ends[broker] = max(0, self.ends[broker] - lost)
            self.lossy |= {broker} if lost else set()

    @rule(broker=BROKER)
    def beat(self, broker: int) -> None:
        if self.runs[broker]:
            self.cluster.beat(broker)

    @rule(broker=BROKER)
    def shut_down(self, broker: int) -> None:
        if self.runs[broker] and self.cluster.beat(broker, want_shut_down=True).should_shut_down:
            self.runs[broker] = False

    @rule(ms=st.integers(1, 5000))
    def time_passes(self, ms: int) -> None:
        self.cluster.clock.ms += ms
        while self.cluster.apply(self.cluster.controller.fence_expired()) is not None:
            pass

    @rule()
    def another_controller(self) -> None:
        self.cluster.become_active(lost_leader=1)

    # --- wishes ----------------------------------------------------------------------------------

    @rule()
    def elect_preferred(self) -> None:
        asked = [TopicPartitions(topic="orders", partitions=[0])]
        self.cluster.apply(self.cluster.controller.elect_leaders(ElectLeadersRequest(topic_partitions=asked)))

    @rule()
    def balance(self) -> None:
        self.cluster.apply(self.cluster.controller.balance_leaders())

    @rule(replicas=st.none() | st.lists(BROKER, min_size=2, max_size=4, unique=True))
    def reassign(self, replicas: list[int] | None) -> None:
        move(self.cluster, replicas)

    # --- what holds ------------------------------------------------------------------------------

    @invariant()
    def leaders_and_replicas(self) -> None:
        now, image = self.partition, self.cluster.image
        assert now.leader == NO_LEADER or now.leader in now.isr
        assert all(map(image.is_active, now.isr)), "L3: neither the fenced nor those who go are in the ISR"
        assert {*now.isr, *now.elr} <= set(now.replicas)
        assert not set(now.isr) & set(now.elr)
        assert not now.elr or len(now.isr) < min(MIN_ISR, len(now.replicas))
        assert (now.leader == NO_LEADER) == (not now.isr)
        assert not now.last_known_elr or now.leader == NO_LEADER
        assert len(now.directories) == len(now.replicas)

    @invariant()
    def epochs_only_grow(self) -> None:
        before, now = self.before, self.partition
        assert now.leader_epoch >= before.leader_epoch
        assert now.partition_epoch >= before.partition_epoch
        if now.leader != before.leader:
            assert now.leader_epoch > before.leader_epoch
        if now.leader_epoch != before.leader_epoch:
            assert now.partition_epoch - before.partition_epoch >= now.leader_epoch - before.leader_epoch
        assert now == before or now.partition_epoch > before.partition_epoch
        self.before = now

    @invariant()
    def whoever_counts_holds_what_is_committed(self) -> None:
        """L2; and L5: only if that many replicas lost bytes may a committed record be lost."""
        now = self.partition
        if now.leader_recovery_state == RECOVERING:
            assert len(self.lossy) >= MIN_ISR
            self.committed = min(self.committed, self.ends[now.leader])
        for one in (*now.isr, *now.elr):
            assert not self.runs[one] or self.ends[one] >= self.committed, f"{one} lacks what is committed"
        if now.leader == NO_LEADER:
            knows = {*now.elr, *now.last_known_elr}
            assert knows, "it is known who may lead again"

    @invariant()
    def the_log_is_the_whole_truth(self) -> None:
        image = self.cluster.image
        if len(self.cluster.log) % 7 == 0:
            assert state(self.cluster.replayed()) == state(image)
            assert state(restored(snapshot(image), image.offset)) == state(image)


TestNothingCommittedIsLost = NothingCommittedIsLost.TestCase
TestNothingCommittedIsLost.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
