"""The rules of classic groups, one test for each sentence."""

from __future__ import annotations

import pytest

from streamkit.broker.coordination.group.classic.group import ClassicState
from streamkit.broker.coordination.group.vocabulary import RebalanceCompleted, RebalanceStarted
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.leave_group import MemberIdentity
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
    return Coordinator()


class TestJoining:
    def test_a_new_member_is_given_an_id_and_told_to_join_with_it(self, coordinator: Coordinator) -> None:
        first = coordinator.join().joined
        assert first.error_code == ErrorCode.MEMBER_ID_REQUIRED
        assert first.member_id
        assert coordinator.join(first.member_id).joined.error_code == NONE

    def test_before_version_4_a_new_member_joins_at_once(self, coordinator: Coordinator) -> None:
        joined = coordinator.join(version=3).joined
        assert (joined.error_code, joined.generation_id, joined.leader) == (NONE, 1, joined.member_id)

    def test_a_promised_id_lapses_with_the_session_timeout(self, coordinator: Coordinator) -> None:
        member_id = coordinator.join().joined.member_id
        coordinator.advance(SESSION_MS)
        assert coordinator.join(member_id).code == ErrorCode.UNKNOWN_MEMBER_ID
        assert not coordinator.shard.groups, "a group that never was leaves nothing behind"
        assert not coordinator.log

    def test_a_rebalance_waits_for_a_promised_member(self, coordinator: Coordinator) -> None:
        (leader,) = coordinator.stable()
        promised = coordinator.join().joined.member_id
        rejoined = coordinator.join(leader)
        assert rejoined.waits
        newcomer = coordinator.join(promised)
        assert rejoined.joined.generation_id == newcomer.joined.generation_id == 2

    @pytest.mark.parametrize("session_ms", [5_999, 1_800_001])
    def test_session_timeouts_have_bounds(self, coordinator: Coordinator, session_ms: int) -> None:
        assert coordinator.join(session_ms=session_ms).code == ErrorCode.INVALID_SESSION_TIMEOUT
        assert not coordinator.shard.groups

    def test_an_unknown_member_id_is_refused(self, coordinator: Coordinator) -> None:
        assert coordinator.join("stranger").code == ErrorCode.UNKNOWN_MEMBER_ID
        coordinator.stable()
        assert coordinator.join("stranger").code == ErrorCode.UNKNOWN_MEMBER_ID

    def test_a_member_without_a_common_protocol_is_refused(self, coordinator: Coordinator) -> None:
        coordinator.stable()
        assert coordinator.join(offers=protocols(sticky=b"")).code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        assert coordinator.join(protocol_type="connect").code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL

    @pytest.mark.parametrize("options", [{"offers": []}, {"protocol_type": ""}])
    def test_the_first_member_needs_a_protocol(
        self, coordinator: Coordinator, options: dict[str, object]
    ) -> None:
        assert coordinator.join(**options).code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL  # type: ignore[arg-type]

    def test_the_protocol_with_most_first_votes_is_chosen(self) -> None:
        coordinator = Coordinator(group_initial_rebalance_delay_ms=3000)
        coordinator.enter(offers=protocols(sticky=b"", range=b"", roundrobin=b""))
        coordinator.enter(offers=protocols(roundrobin=b"", range=b""))
        _, last = coordinator.enter(offers=protocols(roundrobin=b"", range=b""))
        coordinator.advance(6000)
        assert last.joined.protocol_name == "roundrobin", (
            "two votes against one for range; not all know sticky"
        )

    def test_the_first_member_leads_and_only_it_learns_of_the_others(self, coordinator: Coordinator) -> None:
        (a,) = coordinator.stable()
        b, waits = coordinator.enter()
        leader = coordinator.join(a).joined
        follower = waits.joined
        assert leader.leader == follower.leader == a
        assert [member.member_id for member in leader.members] == [a, b]
        assert leader.members[1].metadata == subscription("topic")
        assert follower.members == []

    def test_the_group_has_a_maximum_size(self) -> None:
        coordinator = Coordinator(group_max_size=2)
        members = coordinator.stable(2)
        assert coordinator.join().code == ErrorCode.GROUP_MAX_SIZE_REACHED
        assert coordinator.heartbeat(members[0], 2) == NONE

    def test_a_loaded_group_over_the_maximum_shrinks_to_who_rejoins_first(self) -> None:
        coordinator = Coordinator()
        a, b, c = coordinator.stable(3)
        coordinator.config = Coordinator(group_max_size=2).config
        coordinator.crash()
        assert coordinator.heartbeat(a, 3) == ErrorCode.REBALANCE_IN_PROGRESS
        waits = [coordinator.join(c), coordinator.join(b)]
        assert coordinator.join(a).code == ErrorCode.GROUP_MAX_SIZE_REACHED
        assert {waiter.joined.generation_id for waiter in waits} == {4}


class TestGathering:
    def test_an_empty_group_waits_for_company(self) -> None:
        coordinator = Coordinator(group_initial_rebalance_delay_ms=3000)
        _, first = coordinator.enter()
        coordinator.advance(2999)
        assert first.waits
        _, second = coordinator.enter()
        coordinator.advance(1)
        assert first.waits, "somebody came meanwhile"
        coordinator.advance(3000)
        assert first.joined.generation_id == second.joined.generation_id == 1
        assert coordinator.group.state is ClassicState.COMPLETING_REBALANCE

    def test_the_initial_delay_ends_with_the_rebalance_timeout(self) -> None:
        coordinator = Coordinator(group_initial_rebalance_delay_ms=3000)
        _, first = coordinator.enter(rebalance_ms=5000)
        for _ in range(5):
            coordinator.advance(999)
            coordinator.enter(rebalance_ms=5000)
        assert first.waits
        coordinator.advance(5)
        assert first.joined.generation_id == 1

    def test_a_member_that_does_not_rejoin_in_time_is_dropped(self, coordinator: Coordinator) -> None:
        a, b = coordinator.stable(2)
        newcomer = coordinator.enter()[1]
        coordinator.join(a)
        for _ in range(REBALANCE_MS // SESSION_MS + 1):
            coordinator.advance(SESSION_MS - 1)
            coordinator.heartbeat(b, 2)
        assert newcomer.joined.generation_id == 3
        assert b not in coordinator.group.members
        assert coordinator.heartbeat(b, 3) == ErrorCode.UNKNOWN_MEMBER_ID

    def test_another_member_leads_when_the_leader_does_not_rejoin(self, coordinator: Coordinator) -> None:
        _a, b = coordinator.stable(2)
        c, newcomer = coordinator.enter()
        again = coordinator.join(b)
        coordinator.advance(SESSION_MS)
        assert again.joined.leader == newcomer.joined.leader == b
        assert [member.member_id for member in again.joined.members] == [b, c]

    def test_a_waiting_member_needs_no_heartbeats(self, coordinator: Coordinator) -> None:
        (a,) = coordinator.stable()
        coordinator.join()
        again = coordinator.join(a, session_ms=6000)
        coordinator.advance(SESSION_MS - 1)
        assert again.waits

    def test_the_parked_join_of_a_new_member_expires(self) -> None:
        coordinator = Coordinator(group_initial_rebalance_delay_ms=600_000)
        _, waits = coordinator.enter(rebalance_ms=900_000)
        coordinator.advance(5 * 60_000)
        assert waits.code == ErrorCode.UNKNOWN_MEMBER_ID

    def test_a_retried_join_takes_the_place_of_the_first(self) -> None:
        coordinator = Coordinator(group_initial_rebalance_delay_ms=3000)
        member_id, first = coordinator.enter()
        second = coordinator.join(member_id)
        assert first.code == ErrorCode.REBALANCE_IN_PROGRESS
        coordinator.advance(3000)
        assert second.joined.generation_id == 1


class TestRejoining:
    def test_an_unchanged_follower_gets_the_same_generation(self, coordinator: Coordinator) -> None:
        _, b = coordinator.stable(2)
        joined = coordinator.join(b).joined
        assert (joined.generation_id, joined.members) == (2, [])
        assert coordinator.group.state is ClassicState.STABLE

    def test_a_rejoining_leader_starts_a_rebalance(self, coordinator: Coordinator) -> None:
        a, b = coordinator.stable(2)
        again = coordinator.join(a)
        assert coordinator.heartbeat(b, 2) == ErrorCode.REBALANCE_IN_PROGRESS
        coordinator.join(b)
        assert again.joined.generation_id == 3

    def test_changed_metadata_starts_a_rebalance(self, coordinator: Coordinator) -> None:
        a, b = coordinator.stable(2)
        coordinator.join(b, offers=protocols(range=subscription("other")))
        assert coordinator.heartbeat(a, 2) == ErrorCode.REBALANCE_IN_PROGRESS

    def test_joining_again_before_the_sync_gives_the_same_generation(self, coordinator: Coordinator) -> None:
        member_id, _ = coordinator.enter()
        joined = coordinator.join(member_id).joined
        assert (joined.generation_id, len(joined.members)) == (1, 1)

    def test_a_newcomer_before_the_sync_sends_everybody_back(self, coordinator: Coordinator) -> None:
        a, b = coordinator.stable(2)
        coordinator.join(a)
        coordinator.join(b)
        waits = coordinator.sync(b, 3)
        coordinator.enter()
        assert waits.code == ErrorCode.REBALANCE_IN_PROGRESS


class TestSyncing:
    def test_everybody_gets_what_the_leader_gave(self, coordinator: Coordinator) -> None:
        (a,) = coordinator.stable()
        b, joins = coordinator.enter()
        coordinator.join(a)
        assert joins.joined.generation_id == 2
        follower = coordinator.sync(b, 2)
        assert follower.waits
        leader = coordinator.sync(a, 2, {a: b"left", b: b"right"})
        assert (leader.synced.assignment, follower.synced.assignment) == (b"left", b"right")
        assert (leader.synced.protocol_type, leader.synced.protocol_name) == ("consumer", "range")

    def test_whoever_the_leader_forgot_gets_nothing(self, coordinator: Coordinator) -> None:
        member_id, _ = coordinator.enter()
        assert coordinator.sync(member_id, 1, {}).synced.assignment == b""

    def test_a_late_sync_is_answered_from_the_stable_group(self, coordinator: Coordinator) -> None:
        _a, b = coordinator.stable(2)
        assert coordinator.sync(b, 2).synced.assignment == b.encode()

    @pytest.mark.parametrize("generation", [0, 2, -1])
    def test_another_generation_is_refused(self, coordinator: Coordinator, generation: int) -> None:
        (member_id,) = coordinator.stable()
        assert coordinator.sync(member_id, generation).code == ErrorCode.ILLEGAL_GENERATION

    def test_an_unknown_member_or_group_is_refused(self, coordinator: Coordinator) -> None:
        assert coordinator.sync("stranger", 1).code == ErrorCode.UNKNOWN_MEMBER_ID
        coordinator.stable()
        assert coordinator.sync("stranger", 1).code == ErrorCode.UNKNOWN_MEMBER_ID

    @pytest.mark.parametrize("options", [{"protocol_type": "connect"}, {"protocol_name": "sticky"}])
    def test_a_member_that_believes_in_another_protocol_is_refused(
        self, coordinator: Coordinator, options: dict[str, str]
    ) -> None:
        member_id, _ = coordinator.enter()
        waiter = coordinator.sync(member_id, 1, **options)  # type: ignore[arg-type]
        assert waiter.code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL

    def test_no_sync_while_members_gather(self, coordinator: Coordinator) -> None:
        a, b = coordinator.stable(2)
        coordinator.join(a)
        assert coordinator.sync(b, 2).code == ErrorCode.REBALANCE_IN_PROGRESS

    def test_who_joins_and_does_not_sync_is_dropped(self, coordinator: Coordinator) -> None:
        a, b = coordinator.stable(2)
        coordinator.join(a)
        coordinator.join(b)
        leader = coordinator.sync(a, 3, {a: b"a", b: b"b"})
        assert leader.synced.error_code == NONE
        for _ in range(REBALANCE_MS // SESSION_MS + 1):
            coordinator.advance(SESSION_MS - 1)
            coordinator.heartbeat(a, 3)
            coordinator.heartbeat(b, 3)
        assert b not in coordinator.group.members
        assert coordinator.heartbeat(a, 3) == ErrorCode.REBALANCE_IN_PROGRESS

    def test_the_rebalance_is_counted_with_its_reason_and_duration(self, coordinator: Coordinator) -> None:
        member_id, _ = coordinator.enter()
        coordinator.advance(250)
        coordinator.sync(member_id, 1)
        assert coordinator.events == [
            RebalanceStarted(GROUP, "member_joined"),  # type: ignore[arg-type]
            RebalanceCompleted(GROUP, 250),
        ]


class TestHeartbeats:
    def test_a_member_without_heartbeats_is_dropped(self, coordinator: Coordinator) -> None:
        a, b = coordinator.stable(2)
        coordinator.advance(SESSION_MS - 1)
        assert coordinator.heartbeat(a, 2) == NONE
        coordinator.advance(1)
        assert b not in coordinator.group.members
        assert coordinator.heartbeat(a, 2) == ErrorCode.REBALANCE_IN_PROGRESS

    def test_heartbeats_count_between_join_and_sync(self, coordinator: Coordinator) -> None:
        member_id, _ = coordinator.enter()
        coordinator.advance(SESSION_MS - 1)
        assert coordinator.heartbeat(member_id, 1) == NONE
        coordinator.advance(SESSION_MS - 1)
        assert member_id in coordinator.group.members

    def test_heartbeats_are_checked(self, coordinator: Coordinator) -> None:
        assert coordinator.heartbeat("stranger", 1) == ErrorCode.UNKNOWN_MEMBER_ID
        (member_id,) = coordinator.stable()
        assert coordinator.heartbeat("stranger", 1) == ErrorCode.UNKNOWN_MEMBER_ID
        assert coordinator.heartbeat(member_id, 2) == ErrorCode.ILLEGAL_GENERATION

    def test_a_group_whose_last_member_expires_is_empty(self, coordinator: Coordinator) -> None:
        coordinator.stable()
        coordinator.advance(SESSION_MS)
        assert coordinator.group.state is ClassicState.EMPTY
        assert coordinator.group.generation == 2


class TestLeaving:
    def test_leaving_starts_a_rebalance_at_once(self, coordinator: Coordinator) -> None:
        a, b = coordinator.stable(2)
        answer = coordinator.leave(b)
        assert (answer.error_code, answer.members[0].error_code) == (NONE, NONE)
        assert coordinator.heartbeat(a, 2) == ErrorCode.REBALANCE_IN_PROGRESS

    def test_several_leave_in_one_request(self, coordinator: Coordinator) -> None:
        a, b, c = coordinator.stable(3)
        answer = coordinator.leave(a, "stranger", c)
        assert [member.error_code for member in answer.members] == [NONE, ErrorCode.UNKNOWN_MEMBER_ID, NONE]
        assert coordinator.join(b).joined.leader == b

    def test_before_version_3_the_error_is_the_requests(self, coordinator: Coordinator) -> None:
        (member_id,) = coordinator.stable()
        assert coordinator.leave("stranger", version=2).error_code == ErrorCode.UNKNOWN_MEMBER_ID
        assert coordinator.leave(member_id, version=2).error_code == NONE
        assert coordinator.group.state is ClassicState.EMPTY

    def test_leaving_an_unknown_group_is_an_error_for_each_member(self, coordinator: Coordinator) -> None:
        answer = coordinator.leave("stranger")
        assert (answer.error_code, answer.members[0].error_code) == (NONE, ErrorCode.UNKNOWN_MEMBER_ID)

    def test_a_promised_member_can_leave(self, coordinator: Coordinator) -> None:
        (a,) = coordinator.stable()
        promised = coordinator.join().joined.member_id
        again = coordinator.join(a)
        assert again.waits
        assert coordinator.leave(promised).members[0].error_code == NONE
        assert again.joined.generation_id == 2

    def test_who_leaves_while_its_join_is_parked_is_told_to_start_over(
        self, coordinator: Coordinator
    ) -> None:
        a, _b = coordinator.stable(2)
        waits = coordinator.join(a)
        coordinator.leave(a)
        assert waits.code == ErrorCode.UNKNOWN_MEMBER_ID


class TestStaticMembers:
    """KIP-345: a member with an instance id comes back under another member id."""

    def static(self, coordinator: Coordinator, *instances: str, **options: object) -> list[str]:
        """A stable group of static members; the first leads."""
        waiters = [coordinator.join(instance=name, **options) for name in instances]  # type: ignore[arg-type]
        members = list(coordinator.group.members)
        waiters = [
            coordinator.join(member, instance=name, **options)  # type: ignore[arg-type]
            for member, name in zip(members, instances, strict=True)
        ]
        coordinator.share(waiters)
        return members

    def test_g8_a_static_member_comes_back_without_a_rebalance(self, coordinator: Coordinator) -> None:
        a, b = self.static(coordinator, "one", "two")
        generation = coordinator.group.generation
        joined = coordinator.join(instance="two").joined
        assert joined.error_code == NONE
        assert (joined.generation_id, joined.leader, joined.members) == (generation, a, [])
        assert joined.member_id not in (a, b)
        assert coordinator.heartbeat(a, generation, instance="one") == NONE
        assert coordinator.sync(joined.member_id, generation, instance="two").synced.assignment == b.encode()

    def test_g8_the_replaced_id_is_fenced(self, coordinator: Coordinator) -> None:
        _, b = self.static(coordinator, "one", "two")
        generation = coordinator.group.generation
        coordinator.join(instance="two")
        fenced = ErrorCode.FENCED_INSTANCE_ID
        assert coordinator.heartbeat(b, generation, instance="two") == fenced
        assert coordinator.sync(b, generation, instance="two").code == fenced
        assert coordinator.join(b, instance="two").code == fenced
        assert coordinator.commit(1, member_id=b, generation=generation, instance="two") == fenced
        leaving = MemberIdentity(member_id=b, group_instance_id="two")
        assert coordinator.leave(leaving).members[0].error_code == fenced

    def test_g8_a_crash_does_not_forget_the_replacement(self, coordinator: Coordinator) -> None:
        _, b = self.static(coordinator, "one", "two")
        generation = coordinator.group.generation
        joined = coordinator.join(instance="two").joined
        coordinator.crash()
        assert coordinator.heartbeat(b, generation, instance="two") == ErrorCode.FENCED_INSTANCE_ID
        assert coordinator.heartbeat(joined.member_id, generation, instance="two") == NONE

    def test_a_leader_that_comes_back_skips_the_assignment(self, coordinator: Coordinator) -> None:
        """KIP-814."""
        self.static(coordinator, "one", "two")
        joined = coordinator.join(instance="one").joined
        assert (joined.skip_assignment, joined.leader) == (True, joined.member_id)
        assert len(joined.members) == 2

    def test_a_leader_that_comes_back_with_an_old_client_believes_that_it_follows(
        self, coordinator: Coordinator
    ) -> None:
        a, _ = self.static(coordinator, "one", "two")
        joined = coordinator.join(instance="one", version=8).joined
        assert (joined.skip_assignment, joined.leader, joined.members) == (False, a, [])

    def test_coming_back_with_other_topics_starts_a_rebalance(self, coordinator: Coordinator) -> None:
        a, _ = self.static(coordinator, "one", "two")
        generation = coordinator.group.generation
        waits = coordinator.join(instance="two", offers=protocols(range=subscription("topic", "more")))
        assert waits.waits
        assert coordinator.heartbeat(a, generation, instance="one") == ErrorCode.REBALANCE_IN_PROGRESS

    def test_coming_back_with_the_same_topics_and_other_user_data_does_not(
        self, coordinator: Coordinator
    ) -> None:
        self.static(coordinator, "one", "two")
        generation = coordinator.group.generation
        offers = protocols(range=subscription("topic", version=3) + b"owned")
        assert coordinator.join(instance="two", offers=offers).joined.generation_id == generation

    def test_coming_back_so_that_another_protocol_wins_starts_a_rebalance(
        self, coordinator: Coordinator
    ) -> None:
        topics = subscription("topic")
        both = protocols(range=topics, roundrobin=topics)
        self.static(coordinator, "one", "two", offers=both)
        waits = coordinator.join(instance="two", offers=protocols(roundrobin=topics))
        assert waits.waits

    def test_coming_back_before_the_sync_starts_another_rebalance(self, coordinator: Coordinator) -> None:
        a, b = self.static(coordinator, "one", "two")
        coordinator.join(a, instance="one")
        coordinator.join(b, instance="two")
        parked = coordinator.sync(b, coordinator.group.generation, instance="two")
        coordinator.join(instance="two")
        assert parked.code == ErrorCode.FENCED_INSTANCE_ID
        assert coordinator.group.state is ClassicState.PREPARING_REBALANCE

    def test_the_parked_join_of_a_replaced_member_is_fenced(self) -> None:
        coordinator = Coordinator(group_initial_rebalance_delay_ms=3000)
        first = coordinator.join(instance="one")
        second = coordinator.join(instance="one")
        assert first.code == ErrorCode.FENCED_INSTANCE_ID
        coordinator.advance(3000)
        assert second.joined.generation_id == 1

    def test_a_static_member_that_is_away_stays_until_its_session_ends(
        self, coordinator: Coordinator
    ) -> None:
        a, b = self.static(coordinator, "one", "two", session_ms=300_000)
        coordinator.enter()
        coordinator.join(a, instance="one", session_ms=300_000)
        coordinator.advance(REBALANCE_MS)
        assert coordinator.group.state is ClassicState.COMPLETING_REBALANCE
        assert b in coordinator.group.members
        coordinator.advance(300_000)
        assert b not in coordinator.group.members

    def test_while_only_absent_static_members_are_left_the_group_waits(
        self, coordinator: Coordinator
    ) -> None:
        a, _ = self.static(coordinator, "one", "two", session_ms=300_000)
        newcomer, waits = coordinator.enter()
        coordinator.leave(newcomer)
        assert waits.code == ErrorCode.UNKNOWN_MEMBER_ID
        coordinator.advance(2 * REBALANCE_MS)
        assert coordinator.group.state is ClassicState.PREPARING_REBALANCE
        again = coordinator.join(a, instance="one")
        coordinator.advance(REBALANCE_MS)
        assert again.joined.error_code == NONE

    def test_an_operator_removes_a_static_member_by_its_instance(self, coordinator: Coordinator) -> None:
        a, _b = self.static(coordinator, "one", "two")
        answer = coordinator.leave(
            MemberIdentity(group_instance_id="two"), MemberIdentity(group_instance_id="three")
        )
        assert [m.error_code for m in answer.members] == [NONE, ErrorCode.UNKNOWN_MEMBER_ID]
        assert list(coordinator.group.members) == [a]

    def test_an_unknown_instance_with_a_member_id_is_refused(self, coordinator: Coordinator) -> None:
        a, _ = self.static(coordinator, "one", "two")
        assert coordinator.join(a, instance="three").code == ErrorCode.UNKNOWN_MEMBER_ID


class TestCrashes:
    def test_a_stable_group_survives_with_its_assignments(self, coordinator: Coordinator) -> None:
        a, b = coordinator.stable(2)
        coordinator.crash()
        assert coordinator.heartbeat(a, 2) == NONE
        assert coordinator.sync(b, 2).synced.assignment == b.encode()
        assert coordinator.join(b).joined.generation_id == 2

    def test_loaded_members_have_one_session_timeout_to_come_back(self, coordinator: Coordinator) -> None:
        coordinator.stable(2)
        coordinator.crash()
        coordinator.advance(SESSION_MS - 1)
        assert coordinator.group.state is ClassicState.STABLE
        coordinator.advance(1)
        assert coordinator.group.state is ClassicState.EMPTY

    def test_a_rebalance_under_way_is_forgotten(self, coordinator: Coordinator) -> None:
        a, b = coordinator.stable(2)
        coordinator.join(a)
        coordinator.join(b)
        coordinator.crash()
        assert coordinator.heartbeat(b, 3) == ErrorCode.ILLEGAL_GENERATION
        assert coordinator.heartbeat(b, 2) == NONE


class TestAdministration:
    def test_a_stable_group_is_described_with_metadata_and_assignments(
        self, coordinator: Coordinator
    ) -> None:
        a, _ = coordinator.stable(2)
        described = coordinator.describe()
        assert (described.group_state, described.protocol_type, described.protocol_data) == (
            "Stable",
            "consumer",
            "range",
        )
        member = described.members[0]
        assert (member.member_id, member.client_id, member.client_host) == (a, "client", "/127.0.0.1")
        assert (member.member_metadata, member.member_assignment) == (subscription("topic"), a.encode())

    def test_a_rebalancing_group_is_described_without_them(self, coordinator: Coordinator) -> None:
        a, _ = coordinator.stable(2)
        coordinator.join(a)
        described = coordinator.describe()
        assert (described.group_state, described.protocol_data) == ("PreparingRebalance", "")
        assert all(not m.member_metadata and not m.member_assignment for m in described.members)

    def test_an_unknown_group_is_dead_or_not_found(self, coordinator: Coordinator) -> None:
        assert (coordinator.describe(5).group_state, coordinator.describe(5).error_code) == ("Dead", NONE)
        assert coordinator.describe(6).error_code == ErrorCode.GROUP_ID_NOT_FOUND

    def test_groups_are_listed_by_state_and_type(self, coordinator: Coordinator) -> None:
        coordinator.stable()
        (listed,) = coordinator.shard.list((), ())
        assert (listed.group_id, listed.protocol_type, listed.group_state, listed.group_type) == (
            GROUP,
            "consumer",
            "Stable",
            "classic",
        )
        assert coordinator.shard.list({"stable"}, {"classic"}) == [listed]
        assert coordinator.shard.list({"empty"}, ()) == coordinator.shard.list((), {"share"}) == []

    def test_only_an_empty_group_is_deleted(self, coordinator: Coordinator) -> None:
        assert coordinator.delete() == ErrorCode.GROUP_ID_NOT_FOUND
        (member_id,) = coordinator.stable()
        coordinator.commit(7, member_id=member_id, generation=1)
        assert coordinator.delete() == ErrorCode.NON_EMPTY_GROUP
        coordinator.leave(member_id)
        assert coordinator.delete() == NONE
        assert coordinator.committed() == -1
        coordinator.crash()
        assert not coordinator.shard.groups
