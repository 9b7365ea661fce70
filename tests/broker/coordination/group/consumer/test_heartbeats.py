"""The rules of consumer groups, one test for each sentence (KIP-848)."""

from __future__ import annotations

import pytest

from streamkit.broker.coordination.group.modern.partitions import Partition
from streamkit.broker.coordination.group.vocabulary import RebalanceCompleted, RebalanceStarted
from streamkit.protocol.error_codes import ErrorCode
from tests.broker.coordination.group.consumer.members import (
    HEARTBEAT_MS,
    REVOKE_MS,
    SESSION_MS,
    Player,
    describe,
    group_of,
    heartbeat,
    listed,
    settle,
    wire,
)
from tests.broker.coordination.group.harness import EPOCH_MS, GROUP, Coordinator

NONE = ErrorCode.NONE
MINUTE_MS = 60_000


@pytest.fixture
def coordinator() -> Coordinator:
    coordinator = Coordinator()
    coordinator.cluster.make("topic", 6)
    return coordinator


JOIN = {
    "member_id": "a",
    "member_epoch": 0,
    "rebalance_timeout_ms": REVOKE_MS,
    "subscribed_topic_names": ["topic"],
    "topic_partitions": [],
}


class TestRequests:
    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"instance_id": ""}, "InstanceId can't be empty."),
            ({"rack_id": ""}, "RackId can't be empty."),
            ({"member_id": ""}, "MemberId can't be empty."),
            ({"member_epoch": -3}, "MemberEpoch is invalid: -3."),
            ({"member_epoch": -2}, "InstanceId can't be null."),
            ({"rebalance_timeout_ms": -1}, "RebalanceTimeoutMs must be provided in first request."),
            ({"topic_partitions": None}, "TopicPartitions must be empty when (re-)joining."),
            (
                {"subscribed_topic_names": None},
                "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
            ),
        ],
    )
    def test_malformed_ones_are_refused(
        self, coordinator: Coordinator, change: dict[str, object], reason: str
    ) -> None:
        answer = heartbeat(coordinator, **{**JOIN, **change})
        assert (answer.error_code, answer.error_message) == (ErrorCode.INVALID_REQUEST, reason)
        assert not coordinator.log and not coordinator.shard.groups

    def test_an_unknown_assignor_is_refused(self, coordinator: Coordinator) -> None:
        answer = heartbeat(coordinator, **{**JOIN, "server_assignor": "mine"})
        assert answer.error_code == ErrorCode.UNSUPPORTED_ASSIGNOR

    def test_a_pattern_that_is_none_is_refused(self, coordinator: Coordinator) -> None:
        answer = heartbeat(coordinator, **{**JOIN, "subscribed_topic_regex": "(a"})
        assert answer.error_code == ErrorCode.INVALID_REGULAR_EXPRESSION

    def test_version_0_is_given_a_member_id(self, coordinator: Coordinator) -> None:
        answer = heartbeat(coordinator, version=0, **{**JOIN, "member_id": ""})
        assert answer.error_code == NONE and answer.member_id

    def test_only_joining_makes_a_group(self, coordinator: Coordinator) -> None:
        for epoch in (1, -1):
            answer = heartbeat(coordinator, member_id="a", member_epoch=epoch)
            assert answer.error_code == ErrorCode.GROUP_ID_NOT_FOUND


class TestMembership:
    def test_the_first_member_gets_everything_at_once(self, coordinator: Coordinator) -> None:
        one = Player(coordinator, "a")
        answer = one.beat()
        assert (answer.member_epoch, answer.heartbeat_interval_ms) == (1, HEARTBEAT_MS)
        assert one.numbers == [0, 1, 2, 3, 4, 5]
        assert describe(coordinator).group_state == "Stable"

    def test_an_unchanged_assignment_is_not_repeated(self, coordinator: Coordinator) -> None:
        one = Player(coordinator, "a")
        one.beat()
        before = len(coordinator.log)
        assert one.beat().assignment is None
        assert len(coordinator.log) == before, "a heartbeat that changes nothing writes nothing"

    def test_a_full_request_is_answered_in_full(self, coordinator: Coordinator) -> None:
        one = Player(coordinator, "a")
        one.beat()
        answer = heartbeat(
            coordinator, **{**JOIN, "member_epoch": one.epoch, "topic_partitions": wire(one.owned)}
        )
        assert answer.assignment is not None

    def test_a_newcomer_waits_until_the_others_let_go(self, coordinator: Coordinator) -> None:
        """Revocation comes before assignment."""
        one, two = Player(coordinator, "a"), Player(coordinator, "b")
        one.beat()
        one.lets_go = False
        two.beat()
        assert (two.epoch, two.numbers) == (2, [])
        one.beat()
        assert (one.epoch, len(one.owned)) == (1, 6), "it stays in its epoch until it let go"
        assert describe(coordinator).group_state == "Reconciling"
        two.beat()
        assert two.numbers == []
        one.lets_go = True
        one.reconcile()
        one.beat()
        assert (one.epoch, len(one.owned)) == (2, 3)
        two.beat()
        assert sorted(one.numbers + two.numbers) == [0, 1, 2, 3, 4, 5]
        assert describe(coordinator).group_state == "Stable"

    def test_whoever_does_not_let_go_in_time_is_removed(self, coordinator: Coordinator) -> None:
        one, two = Player(coordinator, "a"), Player(coordinator, "b")
        one.beat()
        one.lets_go = False
        two.beat()
        one.beat()
        for _ in range(REVOKE_MS // HEARTBEAT_MS):
            coordinator.advance(HEARTBEAT_MS)
            two.beat()
            one.beat()
        assert one.epoch == 0, "it was fenced"
        settle(two)
        assert len(two.owned) == 6

    def test_a_silent_member_is_removed_after_its_session(self, coordinator: Coordinator) -> None:
        one, two = Player(coordinator, "a"), Player(coordinator, "b")
        settle(one, two)
        for _ in range(SESSION_MS // HEARTBEAT_MS):
            coordinator.advance(HEARTBEAT_MS)
            two.beat()
        settle(two)
        assert len(two.owned) == 6
        assert one.beat().error_code == ErrorCode.UNKNOWN_MEMBER_ID

    def test_who_leaves_is_replaced_at_the_next_heartbeat(self, coordinator: Coordinator) -> None:
        one, two = Player(coordinator, "a"), Player(coordinator, "b")
        settle(one, two)
        assert one.leave() == NONE
        assert describe(coordinator).group_state == "Assigning"
        two.beat()
        assert len(two.owned) == 6

    def test_the_last_member_leaves_an_empty_group(self, coordinator: Coordinator) -> None:
        one = Player(coordinator, "a")
        one.beat()
        assert one.leave() == NONE
        described = describe(coordinator)
        assert (described.group_state, described.members) == ("Empty", [])
        coordinator.crash()
        assert describe(coordinator).group_state == "Empty"

    def test_a_full_group_takes_nobody_else(self) -> None:
        coordinator = Coordinator(group_consumer_max_size=1)
        coordinator.cluster.make("topic", 1)
        assert Player(coordinator, "a").beat().error_code == NONE
        assert Player(coordinator, "b").beat().error_code == ErrorCode.GROUP_MAX_SIZE_REACHED

    def test_a_groups_own_configuration_goes_before_the_brokers(self, coordinator: Coordinator) -> None:
        coordinator.cluster.overrides = {
            "consumer.heartbeat.interval.ms": "7000",
            "consumer.session.timeout.ms": "50000",
        }
        one = Player(coordinator, "a")
        assert one.beat().heartbeat_interval_ms == 7000
        coordinator.advance(49_999)
        assert one.beat().error_code == NONE
        coordinator.advance(50_000)
        assert one.beat().error_code == ErrorCode.UNKNOWN_MEMBER_ID


class TestEpochs:
    def test_another_epoch_is_fenced(self, coordinator: Coordinator) -> None:
        one = Player(coordinator, "a")
        one.beat()
        answer = heartbeat(coordinator, member_id="a", member_epoch=one.epoch + 1, topic_partitions=[])
        assert answer.error_code == ErrorCode.FENCED_MEMBER_EPOCH

    def test_the_epoch_before_is_taken_when_an_answer_may_be_lost(self, coordinator: Coordinator) -> None:
        one, two = Player(coordinator, "a"), Player(coordinator, "b")
        one.beat()
        before = (one.epoch, set(one.owned))
        two.beat()
        settle(one, two)
        kept = {partition for partition in before[1] if partition in one.owned}
        answer = heartbeat(
            coordinator,
            **{**JOIN, "member_epoch": before[0], "topic_partitions": wire(kept)},
        )
        assert (answer.error_code, answer.member_epoch) == (NONE, one.epoch)
        assert answer.assignment is not None
        answer = heartbeat(
            coordinator, member_id="a", member_epoch=before[0], topic_partitions=wire(before[1])
        )
        assert answer.error_code == ErrorCode.FENCED_MEMBER_EPOCH, "it still has what is not its own"

    def test_a_member_that_joins_anew_is_told_again_what_it_has(self, coordinator: Coordinator) -> None:
        one, two = Player(coordinator, "a"), Player(coordinator, "b")
        settle(one, two)
        epoch, had = one.epoch, set(one.owned)
        one.forget()
        one.beat()
        assert (one.epoch, one.owned) == (epoch, had)

    def test_joining_anew_gives_up_what_was_to_be_given_up(self, coordinator: Coordinator) -> None:
        one, two = Player(coordinator, "a"), Player(coordinator, "b")
        one.beat()
        one.lets_go = False
        two.beat()
        one.beat()
        one.forget()
        one.lets_go = True
        settle(one, two)
        assert len(one.owned) == len(two.owned) == 3

    def test_commits_need_the_members_epoch(self, coordinator: Coordinator) -> None:
        """G2."""
        one = Player(coordinator, "a")
        one.beat()
        assert coordinator.commit(1, member_id="a", generation=one.epoch) == NONE
        assert coordinator.commit(2, member_id="a", generation=9) == ErrorCode.STALE_MEMBER_EPOCH
        assert coordinator.commit(2, member_id="b", generation=1) == ErrorCode.UNKNOWN_MEMBER_ID
        assert coordinator.commit(2) == ErrorCode.UNKNOWN_MEMBER_ID
        late = coordinator.commit(2, member_id="a", generation=one.epoch, version=8)
        assert late == ErrorCode.UNSUPPORTED_VERSION
        assert coordinator.committed() == 1

    def test_an_older_epoch_may_commit_what_it_has_had_since(self, coordinator: Coordinator) -> None:
        """KIP-1251: a commit under way while the epoch moves is not lost; one of a zombie is refused."""
        one, two = Player(coordinator, "a"), Player(coordinator, "b")
        one.beat()
        settle(one, two)
        (kept, *_), (gone, *_) = one.numbers, two.numbers
        assert one.epoch == 2
        assert coordinator.commit(1, member_id="a", generation=1, partition=kept) == NONE
        refused = coordinator.commit(1, member_id="a", generation=1, partition=gone)
        assert refused == ErrorCode.STALE_MEMBER_EPOCH
        refused = coordinator.commit(1, member_id="b", generation=1, partition=gone)
        assert refused == ErrorCode.STALE_MEMBER_EPOCH

    def test_and_what_it_is_about_to_give_up(self, coordinator: Coordinator) -> None:
        one, two, three = (Player(coordinator, member_id) for member_id in "abc")
        one.beat()
        settle(one, two)
        one.lets_go = False
        settle(two, three, rounds=4)
        one.beat()
        assert group_of(coordinator).members["a"].revoking
        gone = next(p.number for p in group_of(coordinator).members["a"].revoking)
        assert coordinator.commit(1, member_id="a", generation=1, partition=gone) == NONE

    def test_reading_offsets_as_a_member_needs_its_epoch(self, coordinator: Coordinator) -> None:
        one = Player(coordinator, "a")
        one.beat()
        assert coordinator.fetch_as(None, -1) == NONE
        assert coordinator.fetch_as("a", one.epoch) == NONE
        assert coordinator.fetch_as("a", one.epoch + 1) == ErrorCode.STALE_MEMBER_EPOCH
        assert coordinator.fetch_as("b", one.epoch) == ErrorCode.UNKNOWN_MEMBER_ID

    def test_an_empty_group_takes_commits_of_nobody(self, coordinator: Coordinator) -> None:
        one = Player(coordinator, "a")
        one.beat()
        one.leave()
        assert coordinator.commit(3) == NONE
        assert coordinator.committed() == 3


class TestStaticMembers:
    def test_one_that_is_back_in_time_gets_what_it_had(self, coordinator: Coordinator) -> None:
        """G8: nobody else notices."""
        stays = Player(coordinator, "a")
        goes = Player(coordinator, "b", instance="one")
        settle(stays, goes)
        epoch, had = goes.epoch, set(goes.owned)
        assert goes.leave(-2) == NONE
        assert stays.beat().assignment is None
        back = Player(coordinator, "c", instance="one")
        back.beat()
        assert (back.epoch, back.owned) == (epoch, had)
        assert stays.beat().member_epoch == epoch
        assert goes.beat().error_code == ErrorCode.UNRELEASED_INSTANCE_ID

    def test_the_instance_of_a_live_member_is_not_given_away(self, coordinator: Coordinator) -> None:
        Player(coordinator, "a", instance="one").beat()
        answer = Player(coordinator, "b", instance="one").beat()
        assert answer.error_code == ErrorCode.UNRELEASED_INSTANCE_ID

    def test_a_replaced_one_is_fenced(self, coordinator: Coordinator) -> None:
        old = Player(coordinator, "a", instance="one")
        old.beat()
        epoch = old.epoch
        old.leave(-2)
        Player(coordinator, "b", instance="one").beat()
        answer = heartbeat(coordinator, member_id="a", member_epoch=epoch, instance_id="one")
        assert answer.error_code == ErrorCode.FENCED_INSTANCE_ID
        answer = heartbeat(coordinator, member_id="a", member_epoch=epoch, instance_id="two")
        assert answer.error_code == ErrorCode.UNKNOWN_MEMBER_ID

    def test_one_that_does_not_come_back_is_removed(self, coordinator: Coordinator) -> None:
        stays, goes = Player(coordinator, "a"), Player(coordinator, "b", instance="one")
        settle(stays, goes)
        goes.leave(-2)
        for _ in range(SESSION_MS // HEARTBEAT_MS):
            coordinator.advance(HEARTBEAT_MS)
            stays.beat()
        settle(stays)
        assert len(stays.owned) == 6


class TestTopics:
    def test_a_topic_that_grows_is_divided_anew(self, coordinator: Coordinator) -> None:
        one = Player(coordinator, "a")
        one.beat()
        coordinator.cluster.grow("topic", 8)
        coordinator.shard.topics_changed(["topic"])
        one.beat()
        assert (one.epoch, len(one.owned)) == (2, 8)

    def test_a_topic_that_others_have_made_disturbs_nobody(self, coordinator: Coordinator) -> None:
        one = Player(coordinator, "a")
        one.beat()
        coordinator.cluster.make("other", 3)
        coordinator.shard.topics_changed(["other"])
        one.beat()
        assert one.epoch == 1

    def test_a_topic_that_comes_later_is_assigned_when_it_comes(self, coordinator: Coordinator) -> None:
        one = Player(coordinator, "a", topics=["later"])
        one.beat()
        assert not one.owned
        later = coordinator.cluster.make("later", 2)
        coordinator.shard.topics_changed(["later"])
        one.beat()
        assert one.owned == {Partition(later.topic_id, 0), Partition(later.topic_id, 1)}

    def test_a_deleted_topic_is_taken_away(self, coordinator: Coordinator) -> None:
        one = Player(coordinator, "a")
        one.beat()
        coordinator.cluster.delete("topic")
        coordinator.shard.topics_changed(["topic"])
        settle(one)
        assert not one.owned

    def test_a_topic_made_again_under_its_name_is_another(self, coordinator: Coordinator) -> None:
        one = Player(coordinator, "a")
        one.beat()
        coordinator.cluster.delete("topic")
        again = coordinator.cluster.make("topic", 1)
        coordinator.shard.topics_changed(["topic"])
        settle(one)
        assert one.owned == {Partition(again.topic_id, 0)}

    def test_a_crash_forgets_no_change_of_topics(self, coordinator: Coordinator) -> None:
        one = Player(coordinator, "a")
        one.beat()
        coordinator.cluster.grow("topic", 7)
        coordinator.crash()
        one.beat()
        assert len(one.owned) == 7

    def test_other_topics_are_wanted_from_one_heartbeat_to_the_next(self, coordinator: Coordinator) -> None:
        coordinator.cluster.make("other", 2)
        one = Player(coordinator, "a")
        one.beat()
        one.subscribe("other")
        settle(one)
        assert one.numbers == [0, 1]

    def test_a_pattern_means_the_topics_that_match_it(self, coordinator: Coordinator) -> None:
        coordinator.cluster.make("orders-eu", 2)
        one = Player(coordinator, "a", topics=None, regex="orders-.*")
        one.beat()
        assert len(one.owned) == 2
        coordinator.cluster.make("orders-us", 3)
        coordinator.shard.topics_changed(["orders-us"])
        settle(one)
        assert len(one.owned) == 5
        coordinator.crash()
        settle(one)
        assert (one.epoch, len(one.owned)) == (2, 5), "what a pattern means is remembered"
        coordinator.cluster.delete("orders-eu")
        coordinator.shard.topics_changed(["orders-eu"])
        settle(one)
        assert len(one.owned) == 3

    def test_a_pattern_that_nobody_uses_is_forgotten(self, coordinator: Coordinator) -> None:
        one, two = Player(coordinator, "a"), Player(coordinator, "b", topics=None, regex="t.*")
        settle(one, two)
        assert list(group_of(coordinator).regexes) == ["t.*"]
        two.leave()
        assert not group_of(coordinator).regexes
        coordinator.crash()
        assert not group_of(coordinator).regexes

    def test_most_members_choose_the_assignor(self, coordinator: Coordinator) -> None:
        one = Player(coordinator, "a", assignor="range")
        two = Player(coordinator, "b", assignor="range")
        three = Player(coordinator, "c", assignor="uniform")
        settle(one, two, three)
        assert describe(coordinator).assignor_name == "range"
        assert [one.numbers, two.numbers, three.numbers] == [[0, 1], [2, 3], [4, 5]]


class TestAdministration:
    def test_listed_by_state_and_type(self, coordinator: Coordinator) -> None:
        Player(coordinator, "a").beat()
        (found,) = listed(coordinator)
        assert (found.group_id, found.protocol_type) == (GROUP, "consumer")
        assert (found.group_state, found.group_type) == ("Stable", "consumer")
        assert listed(coordinator, types="consumer", states="stable")
        assert not listed(coordinator, types="classic")
        assert not listed(coordinator, states="empty")

    def test_described_with_assignment_and_target(self, coordinator: Coordinator) -> None:
        one, two = Player(coordinator, "a", instance="i"), Player(coordinator, "b")
        one.beat()
        two.beat()
        described = describe(coordinator)
        assert (described.group_epoch, described.assignment_epoch) == (2, 2)
        first, second = described.members
        assert (first.member_id, first.instance_id, first.member_epoch) == ("a", "i", 1)
        assert (first.client_id, first.client_host) == ("client", "/127.0.0.1")
        assert (first.subscribed_topic_names, first.member_type) == (["topic"], 1)
        (given,) = first.assignment.topic_partitions
        assert (given.topic_name, given.partitions) == ("topic", [0, 1, 2, 3, 4, 5])
        (target,) = second.target_assignment.topic_partitions
        assert len(target.partitions) == 3 and not second.assignment.topic_partitions

    def test_the_classic_describe_does_not_know_it(self, coordinator: Coordinator) -> None:
        Player(coordinator, "a").beat()
        found = coordinator.describe(version=6)
        assert found.error_code == ErrorCode.GROUP_ID_NOT_FOUND
        assert found.error_message == f"Group {GROUP} is not a classic group."
        assert coordinator.describe(version=5).group_state == "Dead"

    def test_and_the_new_one_does_not_know_classic_groups(self, coordinator: Coordinator) -> None:
        assert describe(coordinator).error_message == f"Group {GROUP} not found."
        coordinator.stable()
        assert describe(coordinator).error_message == f"Group {GROUP} is not a consumer group."

    def test_deleted_when_it_is_empty(self, coordinator: Coordinator) -> None:
        one = Player(coordinator, "a", topics=["topic"], regex="x.*")
        one.beat()
        coordinator.commit(1, member_id="a", generation=one.epoch)
        assert coordinator.delete() == ErrorCode.NON_EMPTY_GROUP
        one.leave()
        assert coordinator.delete() == NONE
        assert not coordinator.shard.groups
        coordinator.crash()
        assert not coordinator.shard.groups
        assert coordinator.committed() == -1
        left = {record.key: record.value for record in coordinator.log}
        assert not any(left.values()), "every record has its tombstone"

    def test_offsets_of_a_topic_that_is_wanted_stay(self, coordinator: Coordinator) -> None:
        one = Player(coordinator, "a")
        one.beat()
        coordinator.commit(1, member_id="a", generation=one.epoch)
        coordinator.commit(1, member_id="a", generation=one.epoch, topic="other")
        answers = [coordinator.delete_offset(topic).topics[0] for topic in ("topic", "other")]
        codes = [answer.partitions[0].error_code for answer in answers]
        assert codes == [ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC, NONE]

    def test_an_empty_group_keeps_its_offsets_from_when_it_became_empty(self) -> None:
        """G9."""
        coordinator = Coordinator(offsets_retention_minutes=60, offsets_retention_check_interval_ms=1000)
        coordinator.cluster.make("topic", 1)
        one = Player(coordinator, "a")
        one.beat()
        coordinator.commit(7, member_id="a", generation=one.epoch)
        for _ in range(120):
            coordinator.advance(30_000)
            assert one.beat().error_code == NONE
        one.leave()
        coordinator.crash()
        coordinator.advance(59 * MINUTE_MS)
        assert coordinator.committed() == 7
        coordinator.advance(2 * MINUTE_MS)
        assert coordinator.committed() == -1
        assert not coordinator.shard.groups, "and with them the group is gone"

    def test_rebalances_are_counted_and_timed(self, coordinator: Coordinator) -> None:
        one, two = Player(coordinator, "a"), Player(coordinator, "b")
        one.beat()
        coordinator.events.clear()
        two.beat()
        coordinator.advance(3000)
        settle(one, two)
        reasons = [event.reason.value for event in coordinator.events if isinstance(event, RebalanceStarted)]
        assert reasons == ["member_joined"]
        (completed,) = [event for event in coordinator.events if isinstance(event, RebalanceCompleted)]
        assert completed == RebalanceCompleted(GROUP, 3000)

    def test_the_target_says_when_it_was_computed(self, coordinator: Coordinator) -> None:
        coordinator.advance(5)
        Player(coordinator, "a").beat()
        assert group_of(coordinator).target_computed_ms == EPOCH_MS + 5


class TestCrashes:
    def test_everything_is_as_before(self, coordinator: Coordinator) -> None:
        one, two = Player(coordinator, "a"), Player(coordinator, "b", instance="i")
        settle(one, two)
        before = describe(coordinator)
        coordinator.crash()
        assert describe(coordinator) == before
        settle(one, two, rounds=1)

    def test_members_get_a_whole_session_again(self, coordinator: Coordinator) -> None:
        one = Player(coordinator, "a")
        one.beat()
        coordinator.advance(SESSION_MS - 1)
        coordinator.crash()
        coordinator.advance(SESSION_MS - 1)
        assert one.beat().error_code == NONE

    def test_and_their_time_to_let_go(self, coordinator: Coordinator) -> None:
        one, two = Player(coordinator, "a"), Player(coordinator, "b")
        one.beat()
        one.lets_go = False
        two.beat()
        one.beat()
        coordinator.crash()
        for _ in range(REVOKE_MS // HEARTBEAT_MS):
            coordinator.advance(HEARTBEAT_MS)
            one.beat()
            two.beat()
        assert one.epoch == 0
