"""Groups whose members move from one protocol to the other, one by one, while they work."""

from __future__ import annotations

from struct import pack

import pytest

from streamkit.broker.coordination.group.classic.group import ClassicGroup, ClassicState
from streamkit.broker.coordination.group.consumer.group import ConsumerGroup
from streamkit.broker.coordination.group.embedded_protocol import decode_assignment
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.join_group import JoinGroupRequestProtocol
from streamkit.protocol.messages.leave_group import MemberIdentity
from tests.broker.coordination.group.consumer.members import (
    HEARTBEAT_MS,
    Player,
    describe,
    group_of,
    heartbeat,
    settle,
)
from tests.broker.coordination.group.harness import (
    GROUP,
    REBALANCE_MS,
    SESSION_MS,
    Coordinator,
    protocols,
    subscription,
)

NONE = ErrorCode.NONE


@pytest.fixture
def coordinator() -> Coordinator:
    coordinator = Coordinator()
    coordinator.cluster.make("topic", 4)
    return coordinator


def assignment(*numbers: int) -> bytes:
    """ConsumerProtocolAssignment of `topic`, version 1."""
    listed = pack(f">i{len(numbers)}i", len(numbers), *numbers)
    return pack(">hih", 1, 1, 5) + b"topic" + listed + pack(">i", -1)


def owning(*numbers: int, topic: str = "topic") -> list[JoinGroupRequestProtocol]:
    """What a cooperative member joins with: version 1 says what it owns."""
    owned = pack(">ih", 1, len(topic)) + topic.encode() + pack(f">i{len(numbers)}i", len(numbers), *numbers)
    return protocols(range=subscription(topic) + owned)


class Classic:
    """A classic member in a consumer group: it joins when it is told to, and syncs."""

    def __init__(self, coordinator: Coordinator, member_id: str = "", instance: str | None = None) -> None:
        self.coordinator = coordinator
        self.member_id = member_id
        self.instance = instance
        self.generation = -1
        self.owned: list[int] = []

    def join(self) -> int:
        offers = owning(*self.owned)
        joined = self.coordinator.join(self.member_id, offers=offers, instance=self.instance).joined
        if joined.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            self.member_id = joined.member_id
            return self.join()
        if joined.error_code == NONE:
            self.member_id, self.generation = joined.member_id, joined.generation_id
            assert not joined.members and joined.leader != self.member_id, "nobody leads"
            self.sync()
        return joined.error_code

    def sync(self) -> int:
        synced = self.coordinator.sync(self.member_id, self.generation, instance=self.instance).synced
        if synced.error_code == NONE:
            self.owned = decode_assignment(synced.assignment).get("topic", [])
        return synced.error_code

    def beat(self) -> int:
        code = self.coordinator.heartbeat(self.member_id, self.generation, instance=self.instance)
        return self.join() if code == ErrorCode.REBALANCE_IN_PROGRESS else code


def settle_all(classics: list[Classic], players: list[Player], rounds: int = 10) -> None:
    for _ in range(rounds):
        codes = [classic.beat() for classic in classics] + [player.beat().error_code for player in players]
        assert not any(codes)
    everything = sorted(n for member in classics for n in member.owned) + [
        n for player in players for n in player.numbers
    ]
    assert sorted(everything) == [0, 1, 2, 3]
    assert describe(classics[0].coordinator if classics else players[0].coordinator).group_state == "Stable"


def classic_group(coordinator: Coordinator) -> Classic:
    """A stable classic group of one member that owns everything."""
    member = Classic(coordinator)
    member.member_id, joins = coordinator.enter(offers=owning())
    member.generation = joins.joined.generation_id
    coordinator.sync(member.member_id, member.generation, {member.member_id: assignment(0, 1, 2, 3)})
    member.owned = [0, 1, 2, 3]
    return member


class TestUp:
    def test_a_classic_group_becomes_a_consumer_group_when_the_first_new_member_comes(
        self, coordinator: Coordinator
    ) -> None:
        old = classic_group(coordinator)
        coordinator.commit(5, member_id=old.member_id, generation=old.generation)
        new = Player(coordinator, "n")
        assert new.beat().error_code == NONE
        assert not new.owned, "the old member has everything until it lets go"
        assert [member.member_type for member in describe(coordinator).members] == [0, 1]
        settle_all([old], [new])
        assert len(old.owned) == len(new.owned) == 2
        assert coordinator.committed() == 5

    def test_it_survives_a_crash_at_any_time(self, coordinator: Coordinator) -> None:
        old = classic_group(coordinator)
        new = Player(coordinator, "n")
        for _ in range(8):
            new.beat()
            coordinator.crash()
            old.beat()
            coordinator.crash()
        settle_all([old], [new])

    def test_whoever_waits_for_the_classic_rebalance_joins_again(self, coordinator: Coordinator) -> None:
        old = classic_group(coordinator)
        promised = coordinator.join(offers=owning()).joined.member_id
        parked = coordinator.join(promised, offers=owning())
        assert parked.waits
        new = Player(coordinator, "n")
        new.beat()
        assert parked.code == ErrorCode.REBALANCE_IN_PROGRESS
        late = Classic(coordinator, promised)
        assert late.join() == NONE
        settle_all([old, late], [new])

    def test_an_old_generation_is_refused(self, coordinator: Coordinator) -> None:
        old = classic_group(coordinator)
        new = Player(coordinator, "n")
        settle_all([old], [new])
        stale = old.generation - 1
        assert coordinator.heartbeat(old.member_id, stale) == ErrorCode.ILLEGAL_GENERATION
        assert coordinator.sync(old.member_id, stale).code == ErrorCode.ILLEGAL_GENERATION
        refused = coordinator.commit(1, member_id=old.member_id, generation=stale, partition=3)
        assert refused == ErrorCode.ILLEGAL_GENERATION
        taken = coordinator.commit(1, member_id=old.member_id, generation=old.generation, version=7)
        assert taken == NONE
        assert coordinator.heartbeat(new.member_id, new.epoch) == ErrorCode.UNKNOWN_MEMBER_ID

    @pytest.mark.parametrize("policy", ["disabled", "downgrade"])
    def test_not_if_the_policy_forbids_it(self, policy: str) -> None:
        coordinator = Coordinator(group_consumer_migration_policy=policy)
        coordinator.cluster.make("topic", 4)
        old = classic_group(coordinator)
        assert Player(coordinator, "n").beat().error_code == ErrorCode.GROUP_ID_NOT_FOUND
        assert old.beat() == NONE and isinstance(coordinator.shard.groups[GROUP], ClassicGroup)

    def test_not_if_there_is_no_room_for_the_newcomer(self) -> None:
        coordinator = Coordinator(group_consumer_max_size=1)
        coordinator.cluster.make("topic", 4)
        old = classic_group(coordinator)
        promised = coordinator.join(offers=owning()).joined.member_id
        parked = coordinator.join(promised, offers=owning())
        assert Player(coordinator, "n").beat().error_code == ErrorCode.GROUP_MAX_SIZE_REACHED
        assert parked.waits
        coordinator.join(old.member_id, offers=owning())
        assert parked.joined.error_code == NONE

    def test_not_a_group_that_is_none_of_consumers(self, coordinator: Coordinator) -> None:
        coordinator.stable(protocol_type="connect", offers=protocols(default=b""))
        assert Player(coordinator, "n").beat().error_code == ErrorCode.GROUP_ID_NOT_FOUND

    def test_not_one_whose_members_cannot_be_understood(self, coordinator: Coordinator) -> None:
        coordinator.stable(offers=protocols(range=b"\x00"))
        assert Player(coordinator, "n").beat().error_code == ErrorCode.GROUP_ID_NOT_FOUND
        assert isinstance(coordinator.shard.groups[GROUP], ClassicGroup)

    @pytest.mark.parametrize("policy", ["disabled", "bidirectional"])
    def test_an_empty_group_always(self, policy: str) -> None:
        coordinator = Coordinator(group_consumer_migration_policy=policy)
        coordinator.cluster.make("topic", 4)
        (leader,) = coordinator.stable()
        coordinator.commit(5, member_id=leader, generation=1)
        coordinator.leave(leader)
        new = Player(coordinator, "n")
        settle(new)
        assert len(new.owned) == 4 and coordinator.committed() == 5
        coordinator.crash()
        assert isinstance(coordinator.shard.groups[GROUP], ConsumerGroup) and coordinator.committed() == 5

    def test_offsets_without_a_group_are_kept(self, coordinator: Coordinator) -> None:
        coordinator.commit(5)
        Player(coordinator, "n").beat()
        coordinator.crash()
        assert isinstance(coordinator.shard.groups[GROUP], ConsumerGroup) and coordinator.committed() == 5


class TestDown:
    def test_when_the_last_new_member_leaves_the_others_go_on_as_a_classic_group(
        self, coordinator: Coordinator
    ) -> None:
        old = classic_group(coordinator)
        new = Player(coordinator, "n")
        settle_all([old], [new])
        coordinator.commit(5, member_id=old.member_id, generation=old.generation)
        new.leave()
        group = coordinator.group
        assert group.state is ClassicState.PREPARING_REBALANCE, "its members are gathered at once"
        generation = group.generation
        rejoined = coordinator.join(old.member_id, offers=owning(*old.owned)).joined
        assert (rejoined.generation_id, rejoined.leader) == (generation + 1, old.member_id)
        coordinator.sync(old.member_id, rejoined.generation_id, {old.member_id: assignment(0, 1, 2, 3)})
        assert group.state is ClassicState.STABLE
        assert coordinator.committed() == 5

    def test_a_crash_in_between_gathers_them_too(self, coordinator: Coordinator) -> None:
        old = classic_group(coordinator)
        new = Player(coordinator, "n")
        settle_all([old], [new])
        new.leave()
        coordinator.crash()
        assert coordinator.group.state is ClassicState.PREPARING_REBALANCE
        assert old.generation == coordinator.group.generation
        code = coordinator.heartbeat(old.member_id, old.generation)
        assert code == ErrorCode.REBALANCE_IN_PROGRESS

    def test_when_the_session_of_the_last_new_member_ends(self, coordinator: Coordinator) -> None:
        old = classic_group(coordinator)
        new = Player(coordinator, "n")
        settle_all([old], [new])
        while isinstance(coordinator.shard.groups[GROUP], ConsumerGroup):
            assert coordinator.heartbeat(old.member_id, old.generation) == NONE
            coordinator.advance(HEARTBEAT_MS)
        assert coordinator.group.state is ClassicState.PREPARING_REBALANCE

    def test_when_a_static_member_comes_back_with_the_classic_protocol(
        self, coordinator: Coordinator
    ) -> None:
        new = Player(coordinator, "n", instance="one")
        settle(new)
        back = Classic(coordinator, instance="one")
        back.join()
        assert coordinator.group.state in (ClassicState.PREPARING_REBALANCE, ClassicState.STABLE)
        assert list(coordinator.group.members) == [back.member_id]

    def test_not_if_the_policy_forbids_it(self) -> None:
        coordinator = Coordinator(group_consumer_migration_policy="upgrade")
        coordinator.cluster.make("topic", 4)
        old = classic_group(coordinator)
        new = Player(coordinator, "n")
        settle_all([old], [new])
        new.leave()
        settle_all([old], [])
        assert old.owned == [0, 1, 2, 3]

    def test_a_consumer_group_that_is_empty_becomes_classic(self, coordinator: Coordinator) -> None:
        new = Player(coordinator, "n")
        new.beat()
        coordinator.commit(5, member_id="n", generation=new.epoch)
        new.leave()
        coordinator.stable()
        assert coordinator.group.state is ClassicState.STABLE and coordinator.committed() == 5
        coordinator.crash()
        assert coordinator.group.state is ClassicState.STABLE and coordinator.committed() == 5

    def test_a_join_that_is_refused_leaves_it_as_it_is(self, coordinator: Coordinator) -> None:
        new = Player(coordinator, "n")
        new.beat()
        new.leave()
        before = len(coordinator.log)
        assert coordinator.join(offers=[]).code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        assert coordinator.join("stranger").code == ErrorCode.UNKNOWN_MEMBER_ID
        assert group_of(coordinator).is_empty and len(coordinator.log) == before


class TestClassicMembers:
    def test_one_that_does_not_join_again_in_time_is_removed(self, coordinator: Coordinator) -> None:
        old = classic_group(coordinator)
        new = Player(coordinator, "n")
        new.beat()
        for _ in range(REBALANCE_MS // HEARTBEAT_MS + 1):
            coordinator.heartbeat(old.member_id, old.generation)
            new.beat()
            coordinator.advance(HEARTBEAT_MS)
        assert coordinator.heartbeat(old.member_id, old.generation) == ErrorCode.UNKNOWN_MEMBER_ID
        settle(new)
        assert len(new.owned) == 4

    def test_one_that_joins_and_does_not_sync_is_removed(self, coordinator: Coordinator) -> None:
        new = Player(coordinator, "n")
        new.beat()
        joined = coordinator.join("c", offers=owning()).joined
        for _ in range(REBALANCE_MS // HEARTBEAT_MS + 1):
            coordinator.heartbeat("c", joined.generation_id)
            new.beat()
            coordinator.advance(HEARTBEAT_MS)
        assert list(group_of(coordinator).members) == ["n"]

    def test_its_session_is_its_own(self, coordinator: Coordinator) -> None:
        old = classic_group(coordinator)
        new = Player(coordinator, "n")
        settle_all([old], [new])
        coordinator.advance(SESSION_MS)
        assert list(group_of(coordinator).members) == ["n"]

    def test_leaving(self, coordinator: Coordinator) -> None:
        new = Player(coordinator, "n")
        new.beat()
        old, static = Classic(coordinator), Classic(coordinator, instance="one")
        assert old.join() == static.join() == NONE
        answer = coordinator.leave(
            MemberIdentity(member_id=old.member_id),
            MemberIdentity(member_id="", group_instance_id="one"),
            MemberIdentity(member_id="n"),
            MemberIdentity(member_id="", group_instance_id="two"),
        )
        unknown = ErrorCode.UNKNOWN_MEMBER_ID
        assert [member.error_code for member in answer.members] == [NONE, NONE, unknown, unknown]
        settle_all([], [new])

    def test_protocols_must_fit(self, coordinator: Coordinator) -> None:
        Player(coordinator, "n").beat()
        assert Classic(coordinator).join() == NONE
        inconsistent = ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        assert coordinator.join(offers=protocols(sticky=subscription("topic"))).code == inconsistent
        assert coordinator.join(protocol_type="connect").code == inconsistent
        assert coordinator.join(offers=protocols(range=b"\x00")).code == inconsistent

    def test_a_static_one_keeps_its_place(self, coordinator: Coordinator) -> None:
        new, old = Player(coordinator, "n"), Classic(coordinator, instance="one")
        new.beat()
        old.join()
        settle_all([old], [new])
        epoch, had = new.epoch, old.owned
        back = Classic(coordinator, instance="one")
        assert back.join() == NONE
        assert (back.owned, new.beat().member_epoch) == (had, epoch)
        code = coordinator.heartbeat(old.member_id, old.generation, instance="one")
        assert code == ErrorCode.FENCED_INSTANCE_ID

    def test_it_may_move_on_to_the_new_protocol_under_its_id(self, coordinator: Coordinator) -> None:
        new, old = Player(coordinator, "n"), Classic(coordinator, instance="one")
        new.beat()
        old.join()
        settle_all([old], [new])
        moved = Player(coordinator, "m", instance="one")
        settle(moved, new)
        assert len(moved.owned) == 2
        assert [member.member_type for member in describe(coordinator).members] == [1, 1]

    def test_another_group_of_the_name_is_not_met(self, coordinator: Coordinator) -> None:
        answer = heartbeat(coordinator, member_id="n", member_epoch=1)
        assert answer.error_message == f"Group {GROUP} not found."
