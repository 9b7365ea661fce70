"""Groups under everything at once: members come, go, die and return, time passes, coordinators crash.

The clients follow the protocol as real ones do, in any interleaving. What must hold of groups is asserted,
and that a group whose members behave always becomes stable again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streamkit.broker.coordination.group.classic.group import ClassicState
from streamkit.protocol.error_codes import ErrorCode
from tests.broker.coordination.group.harness import GROUP, REBALANCE_MS, SESSION_MS, Coordinator, Waiter

PARTITIONS = 3
CLIENTS = 5
STATIC = 2

clients = st.integers(0, CLIENTS - 1)


@dataclass
class Client:
    """A consumer; the first STATIC of them have instance ids, which survive their death."""

    name: str
    instance: str | None
    member_id: str = ""
    generation: int = -1
    joins: Waiter | None = None
    syncs: Waiter | None = None
    owns: frozenset[int] = field(default_factory=frozenset)

    @property
    def owner(self) -> str:
        return self.instance or self.member_id

    def forget(self, *, keeps_id: bool = False) -> None:
        self.generation, self.joins, self.syncs, self.owns = -1, None, None, frozenset()
        if not keeps_id:
            self.member_id = ""


class Groups(RuleBasedStateMachine):
    @initialize(delay_ms=st.sampled_from([0, 3000]))
    def start(self, delay_ms: int) -> None:
        self.coordinator = Coordinator(group_initial_rebalance_delay_ms=delay_ms)
        self.clients = [
            Client(f"client-{n}", f"instance-{n}" if n < STATIC else None) for n in range(CLIENTS)
        ]
        self.ghosts: list[Client] = []
        self.owners: dict[int, dict[int, str]] = {}
        self.last_commit = -1
        self.next_offset = 0
        self.life_goes_on(10)

    # ── what clients do ──────────────────────────────────────────────────────────────────────────────

    @rule(n=clients)
    def proceed(self, n: int) -> None:
        """The next step of the protocol, if it is this client's turn."""
        client = self.clients[n]
        if client.joins is not None:
            self.hear_join(client)
        elif client.syncs is not None:
            self.hear_sync(client)
        elif client.generation < 0:
            client.joins = self.coordinator.join(client.member_id, instance=client.instance)

    @rule(seconds=st.integers(1, 8))
    def life_goes_on(self, seconds: int) -> None:
        """Everybody does what it should, a few times a second, and commits."""
        for _ in range(seconds):
            for _ in range(3):
                for n in range(CLIENTS):
                    self.proceed(n)
            for n in range(CLIENTS):
                self.heartbeat(n)
                self.commit(n)
            self.coordinator.advance(1000)

    @rule(n=clients)
    def heartbeat(self, n: int) -> None:
        client = self.clients[n]
        if client.generation < 0 or client.joins or client.syncs:
            return
        code = self.coordinator.heartbeat(client.member_id, client.generation, instance=client.instance)
        if code == ErrorCode.REBALANCE_IN_PROGRESS:
            self.ghosts.append(replace(client))
            client.forget(keeps_id=True)
        elif code != ErrorCode.NONE:
            client.forget()

    @rule(n=clients)
    def rejoin(self, n: int) -> None:
        """A client wants a rebalance: its subscription or the topics changed."""
        client = self.clients[n]
        if client.generation >= 0 and not client.syncs:
            self.ghosts.append(replace(client))
            client.forget(keeps_id=True)

    @rule(n=clients)
    def leave(self, n: int) -> None:
        client = self.clients[n]
        if client.member_id:
            self.coordinator.leave(client.member_id)
            client.forget()

    @rule(n=clients)
    def die(self, n: int) -> None:
        """The process is gone without a word, and starts anew; what it sent last may still arrive."""
        self.ghosts.append(replace(self.clients[n]))
        self.clients[n].forget()

    @rule(n=clients)
    def commit(self, n: int) -> None:
        self.commit_as(self.clients[n])

    @rule(n=st.integers(0, 3))
    def a_ghost_commits(self, n: int) -> None:
        """One of the latest ghosts."""
        if self.ghosts:
            self.commit_as(self.ghosts[-1 - n % len(self.ghosts)])

    @rule(n=st.integers(0, 3))
    def a_ghost_leads(self, n: int) -> None:
        """An assignment from the past must reach nobody."""
        if self.ghosts:
            ghost = self.ghosts[-1 - n % len(self.ghosts)]
            everything = dict.fromkeys(
                [client.member_id for client in self.clients], bytes(range(PARTITIONS))
            )
            self.coordinator.sync(ghost.member_id, ghost.generation, everything, instance=ghost.instance)

    def commit_as(self, client: Client) -> None:
        if client.generation < 0:
            return
        offset, self.next_offset = self.next_offset, self.next_offset + 1
        code = self.coordinator.commit(
            offset, member_id=client.member_id, generation=client.generation, instance=client.instance
        )
        if code == ErrorCode.NONE:
            self.last_commit = offset
            later = [generation for generation in self.owners if generation > client.generation]
            assert not later, f"G2: generation {client.generation} commits after {later} were assigned"

    # ── what happens to everybody ────────────────────────────────────────────────────────────────────

    @rule(duration_ms=st.sampled_from([1, 2999, 3000, SESSION_MS - 1, SESSION_MS, REBALANCE_MS]))
    def time_passes(self, duration_ms: int) -> None:
        self.coordinator.advance(duration_ms)

    @rule()
    def crash(self) -> None:
        self.coordinator.crash()
        self.connections_break()

    @precondition(lambda self: not any(client.joins or client.syncs for client in self.clients))
    @rule(n=clients, syncs=st.booleans())
    def crash_before_the_append(self, n: int, syncs: bool) -> None:
        """A decision is lost with its records and its replies."""
        client = self.clients[n]
        self.coordinator.loses_next = True
        if syncs and client.generation >= 0:
            self.coordinator.sync(client.member_id, client.generation, instance=client.instance)
        else:
            self.coordinator.join(client.member_id, instance=client.instance)
        self.coordinator.loses_next = False
        self.connections_break()

    def connections_break(self) -> None:
        for client in self.clients:
            if client.joins or client.syncs:
                client.forget(keeps_id=client.instance is None)

    # ── what must hold ───────────────────────────────────────────────────────────────────────────────

    @invariant()
    def g3_a_fetched_offset_is_the_last_acknowledged_commit(self) -> None:
        assert self.coordinator.committed() == self.last_commit

    @rule(n=st.integers(0, STATIC - 1))
    def g8_a_static_member_comes_back_without_a_rebalance(self, n: int) -> None:
        client = self.clients[n]
        group = self.coordinator.shard.groups.get(GROUP)
        if group is None or group.state is not ClassicState.STABLE or client.member_id not in group.members:
            return
        old_id, generation = client.member_id, group.generation
        self.ghosts.append(replace(client))
        client.forget()
        client.joins = self.coordinator.join(instance=client.instance)
        assert client.joins.joined.generation_id == generation
        assert group.state is ClassicState.STABLE
        code = self.coordinator.heartbeat(old_id, generation, instance=client.instance)
        assert code == ErrorCode.FENCED_INSTANCE_ID
        self.hear_join(client)

    def teardown(self) -> None:
        """Everybody behaves: within a few rounds all share the partitions in one generation."""
        if not hasattr(self, "clients"):
            return
        for _ in range(400):
            if self.all_share():
                return
            self.life_goes_on(1)
        raise AssertionError(f"the group never settled: {self.coordinator.describe()}, {self.clients}")

    def all_share(self) -> bool:
        group = self.coordinator.shard.groups.get(GROUP)
        return (
            group is not None
            and group.state is ClassicState.STABLE
            and set(group.members) == {client.member_id for client in self.clients}
            and {client.generation for client in self.clients} == {group.generation}
            and sorted(p for client in self.clients for p in client.owns) == list(range(PARTITIONS))
        )

    # ── answers ──────────────────────────────────────────────────────────────────────────────────────

    def hear_join(self, client: Client) -> None:
        assert client.joins is not None
        if client.joins.waits:
            return
        answer, client.joins = client.joins.joined, None
        if answer.error_code == ErrorCode.NONE:
            client.member_id, client.generation = answer.member_id, answer.generation_id
            leads = answer.leader == client.member_id and not answer.skip_assignment
            shares = {member.member_id: bytearray() for member in answer.members} if leads else {}
            for partition in range(PARTITIONS if leads else 0):
                list(shares.values())[partition % len(shares)].append(partition)
            client.syncs = self.coordinator.sync(
                client.member_id,
                client.generation,
                {member_id: bytes(share) for member_id, share in shares.items()},
                instance=client.instance,
            )
        elif answer.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            client.member_id = answer.member_id
        else:
            client.forget()

    def hear_sync(self, client: Client) -> None:
        assert client.syncs is not None
        if client.syncs.waits:
            return
        answer, client.syncs = client.syncs.synced, None
        if answer.error_code == ErrorCode.REBALANCE_IN_PROGRESS:
            client.forget(keeps_id=True)
        elif answer.error_code != ErrorCode.NONE:
            client.forget()
        else:
            client.owns = frozenset(answer.assignment)
            owners = self.owners.setdefault(client.generation, {})
            for partition in client.owns:
                owner = owners.setdefault(partition, client.owner)
                assert owner == client.owner, f"G1: {partition} has two owners in {client.generation}"


TestGroups = Groups.TestCase
TestGroups.settings = settings(
    max_examples=60,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
