"""The rules of share groups, one test for each sentence (KIP-932)."""

from __future__ import annotations

import pytest

from streamkit.broker.coordination.group.share.heartbeat import SOON_MS
from streamkit.broker.coordination.group.vocabulary import RebalanceCompleted, RebalanceStarted
from streamkit.protocol.error_codes import ErrorCode
from tests.broker.coordination.group.consumer.members import heartbeat as consumer_heartbeat
from tests.broker.coordination.group.harness import GROUP, Coordinator
from tests.broker.coordination.group.share.members import (
    HEARTBEAT_MS,
    SESSION_MS,
    Player,
    States,
    describe,
    group_of,
    heartbeat,
    settle,
)

NONE = ErrorCode.NONE


@pytest.fixture
def coordinator() -> Coordinator:
    coordinator = Coordinator()
    coordinator.cluster.make("topic", 4)
    return coordinator


@pytest.fixture
def states(coordinator: Coordinator) -> States:
    return States(coordinator)


JOIN = {"member_id": "a", "member_epoch": 0, "subscribed_topic_names": ["topic"]}


class TestRequests:
    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"member_id": ""}, "MemberId can't be empty."),
            ({"rack_id": " "}, "RackId can't be empty."),
            ({"subscribed_topic_names": None}, "SubscribedTopicNames must be set in first request."),
            ({"subscribed_topic_names": []}, "SubscribedTopicNames must be set in first request."),
            ({"member_epoch": -2}, "MemberEpoch is invalid."),
        ],
    )
    def test_malformed_ones_are_refused(
        self, coordinator: Coordinator, change: dict[str, object], reason: str
    ) -> None:
        answer = heartbeat(coordinator, **{**JOIN, **change})
        assert (answer.error_code, answer.error_message) == (ErrorCode.INVALID_REQUEST, reason)
        assert not coordinator.log and not coordinator.shard.groups

    def test_only_joining_makes_a_group(self, coordinator: Coordinator) -> None:
        assert (
            heartbeat(coordinator, member_id="a", member_epoch=3).error_code == ErrorCode.GROUP_ID_NOT_FOUND
        )
        assert (
            heartbeat(coordinator, member_id="a", member_epoch=-1).error_code == ErrorCode.GROUP_ID_NOT_FOUND
        )

    def test_a_group_of_another_kind_is_none(self, coordinator: Coordinator) -> None:
        coordinator.enter()
        assert heartbeat(coordinator, **JOIN).error_code == ErrorCode.GROUP_ID_NOT_FOUND

    def test_a_stranger_is_no_member(self, coordinator: Coordinator) -> None:
        Player(coordinator, "a").beat()
        for epoch in (1, -1):
            answer = heartbeat(coordinator, member_id="b", member_epoch=epoch)
            assert answer.error_code == ErrorCode.UNKNOWN_MEMBER_ID

    def test_a_full_group_takes_nobody_else(self) -> None:
        coordinator = Coordinator(group_share_max_size=1)
        Player(coordinator, "a").beat()
        assert Player(coordinator, "b").beat().error_code == ErrorCode.GROUP_MAX_SIZE_REACHED
        assert Player(coordinator, "a").beat().error_code == NONE


class TestOtherRequests:
    """A share group commits no offsets, and its name is taken."""

    def test_are_refused(self, coordinator: Coordinator) -> None:
        Player(coordinator, "a").beat()
        assert coordinator.join().joined.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        assert coordinator.sync("a", 1).synced.error_code == ErrorCode.UNKNOWN_MEMBER_ID
        assert coordinator.heartbeat("a", 1) == ErrorCode.UNKNOWN_MEMBER_ID
        assert coordinator.leave("a").members[0].error_code == ErrorCode.UNKNOWN_MEMBER_ID
        assert coordinator.commit(3) == ErrorCode.GROUP_ID_NOT_FOUND
        assert coordinator.fetch_as(None, -1) == ErrorCode.GROUP_ID_NOT_FOUND
        assert coordinator.delete_offset().error_code == ErrorCode.GROUP_ID_NOT_FOUND
        assert coordinator.describe().error_code == ErrorCode.GROUP_ID_NOT_FOUND
        answer = consumer_heartbeat(
            coordinator,
            member_id="b",
            member_epoch=0,
            rebalance_timeout_ms=1,
            subscribed_topic_names=["topic"],
            topic_partitions=[],
        )
        assert answer.error_code == ErrorCode.GROUP_ID_NOT_FOUND
        assert describe(coordinator).group_state == "Stable"

    def test_it_outlives_the_retention_of_offsets(self, coordinator: Coordinator) -> None:
        player = Player(coordinator, "a")
        player.beat()
        player.leave()
        coordinator.advance(8 * 24 * 3_600_000)
        assert describe(coordinator).group_state == "Empty"


class TestStates:
    def test_nobody_is_given_a_partition_before_its_state_has_begun(
        self, coordinator: Coordinator, states: States
    ) -> None:
        player = Player(coordinator, "a")
        assert player.beat().heartbeat_interval_ms == SOON_MS
        assert player.numbers == [] and not states.begun
        states.answer()
        answer = player.beat()
        assert (player.numbers, player.epoch) == ([0, 1, 2, 3], 2)
        assert answer.heartbeat_interval_ms == HEARTBEAT_MS
        assert set(states.begun.values()) == {(1, -1)}, "at no offset, in the group's epoch"

    def test_they_are_asked_for_once(self, coordinator: Coordinator, states: States) -> None:
        player = Player(coordinator, "a")
        for _ in range(3):
            player.beat()
        assert states.answer() == 1

    def test_what_failed_is_asked_for_again(self, coordinator: Coordinator, states: States) -> None:
        player = Player(coordinator, "a")
        player.beat()
        states.broken = True
        states.answer()
        log = len(coordinator.log)
        player.beat()
        assert len(coordinator.log) == log, "and nothing is written, for nothing has changed"
        states.broken = False
        settle(states, player)
        assert player.numbers == [0, 1, 2, 3]

    def test_what_a_crash_interrupted_is_asked_for_again(
        self, coordinator: Coordinator, states: States
    ) -> None:
        player = Player(coordinator, "a")
        player.beat()
        coordinator.commands.clear()
        coordinator.crash()
        settle(states, player)
        assert player.numbers == [0, 1, 2, 3]

    def test_what_a_topic_grows_by_is_begun_too(self, coordinator: Coordinator, states: States) -> None:
        player = Player(coordinator, "a")
        settle(states, player)
        coordinator.cluster.grow("topic", 6)
        coordinator.shard.topics_changed({"topic"})
        settle(states, player)
        assert player.numbers == [0, 1, 2, 3, 4, 5]

    def test_a_topic_that_comes_later_is_begun_when_it_comes(
        self, coordinator: Coordinator, states: States
    ) -> None:
        player = Player(coordinator, "a", ["later"])
        settle(states, player)
        assert player.numbers == []
        coordinator.cluster.make("later", 1)
        coordinator.shard.topics_changed({"later"})
        settle(states, player)
        assert player.numbers == [0]

    def test_they_are_forgotten_with_their_topic(self, coordinator: Coordinator, states: States) -> None:
        player = Player(coordinator, "a")
        settle(states, player)
        coordinator.cluster.delete("topic")
        coordinator.shard.topics_changed({"topic"})
        assert coordinator.forget("topic") == 1
        assert not group_of(coordinator).states.topics
        settle(states, player)
        assert player.numbers == []

    def test_nobody_who_comes_back_begins_anew(self, coordinator: Coordinator, states: States) -> None:
        player = Player(coordinator, "a")
        settle(states, player)
        player.leave()
        states.begun.clear()
        settle(states, player)
        assert player.numbers == [0, 1, 2, 3] and not states.begun


class TestMembers:
    def test_all_that_are_asked_for_are_divided(self, coordinator: Coordinator, states: States) -> None:
        players = [Player(coordinator, name) for name in "ab"]
        settle(states, *players)
        assert [len(player.numbers) for player in players] == [2, 2]
        assert sorted(players[0].numbers + players[1].numbers) == [0, 1, 2, 3]

    def test_more_than_there_are_partitions_share_them(
        self, coordinator: Coordinator, states: States
    ) -> None:
        players = [Player(coordinator, name) for name in "abcdefgh"]
        settle(states, *players)
        assert [len(player.numbers) for player in players] == [1] * 8

    def test_one_is_led_to_its_part_in_one_step(self, coordinator: Coordinator, states: States) -> None:
        """Nobody waits until somebody else lets go."""
        first, second = Player(coordinator, "a"), Player(coordinator, "b")
        settle(states, first)
        second.beat()
        assert len(second.numbers) == 2 and first.numbers == [0, 1, 2, 3]
        first.beat()
        assert len(first.numbers) == 2

    def test_an_answer_says_only_what_is_new(self, coordinator: Coordinator, states: States) -> None:
        player = Player(coordinator, "a")
        settle(states, player)
        assert player.beat().assignment is None
        full = heartbeat(
            coordinator, member_id="a", member_epoch=player.epoch, subscribed_topic_names=["topic"]
        )
        assert full.assignment is not None

    def test_whoever_missed_an_answer_is_told_again(self, coordinator: Coordinator, states: States) -> None:
        player = Player(coordinator, "a")
        player.beat()
        states.answer()
        lost = heartbeat(coordinator, member_id="a", member_epoch=player.epoch)
        again = heartbeat(coordinator, member_id="a", member_epoch=player.epoch)
        assert lost == again and again.assignment is not None

    def test_an_epoch_that_never_was_is_fenced(self, coordinator: Coordinator, states: States) -> None:
        player = Player(coordinator, "a")
        settle(states, player)
        Player(coordinator, "b").beat()
        player.beat()
        for epoch in (player.epoch + 1, player.epoch - 2):
            answer = heartbeat(coordinator, member_id="a", member_epoch=epoch)
            assert answer.error_code == ErrorCode.FENCED_MEMBER_EPOCH

    def test_another_subscription_divides_anew(self, coordinator: Coordinator, states: States) -> None:
        coordinator.cluster.make("other", 2)
        player = Player(coordinator, "a")
        settle(states, player)
        player.subscribe("other")
        settle(states, player)
        assert player.numbers == [0, 1]

    def test_one_that_leaves_makes_room(self, coordinator: Coordinator, states: States) -> None:
        players = [Player(coordinator, name) for name in "ab"]
        settle(states, *players)
        assert players[0].leave() == NONE
        settle(states, players[1])
        assert players[1].numbers == [0, 1, 2, 3]

    def test_one_that_is_silent_for_a_session_is_removed(
        self, coordinator: Coordinator, states: States
    ) -> None:
        player = Player(coordinator, "a")
        settle(states, player)
        coordinator.advance(SESSION_MS - 1)
        assert group_of(coordinator).members
        coordinator.advance(1)
        assert not group_of(coordinator).members
        assert player.beat().error_code == ErrorCode.UNKNOWN_MEMBER_ID

    def test_a_group_may_have_its_own_session(self, coordinator: Coordinator) -> None:
        coordinator.cluster.overrides = {"share.session.timeout.ms": "60000"}
        Player(coordinator, "a").beat()
        coordinator.advance(SESSION_MS)
        assert group_of(coordinator).members
        coordinator.advance(15_000)
        assert not group_of(coordinator).members

    def test_a_crash_takes_nothing(self, coordinator: Coordinator, states: States) -> None:
        players = [Player(coordinator, name) for name in "ab"]
        settle(states, *players)
        before = describe(coordinator)
        coordinator.crash()
        assert describe(coordinator) == before
        for player in players:
            assert player.beat().assignment is None
        coordinator.advance(SESSION_MS)
        assert describe(coordinator).group_state == "Empty"

    def test_each_rebalance_that_begins_ends(self, coordinator: Coordinator, states: States) -> None:
        settle(states, *[Player(coordinator, name) for name in "ab"])
        begun = [event for event in coordinator.events if isinstance(event, RebalanceStarted)]
        ended = [event for event in coordinator.events if isinstance(event, RebalanceCompleted)]
        assert len(begun) == len(ended) == 3


class TestDescription:
    def test_says_who_has_what(self, coordinator: Coordinator, states: States) -> None:
        settle(states, Player(coordinator, "a"))
        described = describe(coordinator)
        assert (described.group_state, described.assignor_name) == ("Stable", "simple")
        assert described.group_epoch == described.assignment_epoch == 2
        (member,) = described.members
        assert (member.member_id, member.member_epoch, member.client_id) == ("a", 2, "client")
        assert member.subscribed_topic_names == ["topic"]
        (topic,) = member.assignment.topic_partitions
        assert (topic.topic_name, topic.partitions) == ("topic", [0, 1, 2, 3])

    def test_a_group_that_is_not_there(self, coordinator: Coordinator) -> None:
        described = describe(coordinator)
        assert (described.error_code, described.error_message) == (
            ErrorCode.GROUP_ID_NOT_FOUND,
            f"Group {GROUP} not found.",
        )

    def test_it_is_listed_as_what_it_is(self, coordinator: Coordinator) -> None:
        Player(coordinator, "a").beat()
        (listed,) = coordinator.shard.list(set(), {"share"})
        assert (listed.protocol_type, listed.group_state, listed.group_type) == ("share", "Stable", "share")
        assert not coordinator.shard.list(set(), {"consumer"})
        assert not coordinator.shard.list({"empty"}, set())
