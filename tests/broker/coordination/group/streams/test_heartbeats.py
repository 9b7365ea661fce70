"""The rules of streams groups, one test for each sentence (KIP-1071)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from streamkit.broker.coordination.group.classic.group import ClassicGroup
from streamkit.broker.coordination.group.modern.member import MemberState
from streamkit.broker.coordination.group.streams.internal_topics import StatusCode
from streamkit.broker.coordination.group.streams.tasks import NOTHING, Task, Tasks
from streamkit.broker.coordination.group.vocabulary import RebalanceCompleted, RebalanceStarted
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.streams_group_heartbeat import (
    Status,
    StreamsGroupHeartbeatRequestEndpoint,
    StreamsGroupHeartbeatRequestTaskIds,
    Subtopology,
    TaskOffset,
    Topology,
)
from tests.broker.coordination.group.consumer.members import Player as Consumer
from tests.broker.coordination.group.harness import GROUP
from tests.broker.coordination.group.streams.members import (
    CHANGELOG,
    DELAY_MS,
    HEARTBEAT_MS,
    INPUT,
    INTERVAL_MS,
    REPARTITION,
    REVOKE_MS,
    SESSION_MS,
    WORD_COUNT,
    Application,
    Player,
    active,
    all_active,
    settle,
    told,
)

TASKS = sorted([*active("0", 0, 1, 2), *active("1", 0, 1, 2)])
MINUTE_MS = 60_000
SIMPLE = Topology(epoch=0, subtopologies=[Subtopology(subtopology_id="0", source_topics=[INPUT])])


@pytest.fixture
def app() -> Application:
    return Application()


def status(player: Player) -> set[StatusCode]:
    return {StatusCode(code) for code in player.statuses}


class TestRequests:
    JOIN: dict[str, Any] = {
        "member_id": "a",
        "member_epoch": 0,
        "rebalance_timeout_ms": REVOKE_MS,
        "topology": WORD_COUNT,
        "active_tasks": [],
        "standby_tasks": [],
        "warmup_tasks": [],
        "process_id": "p",
    }

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"instance_id": "i"}, "Static membership is not yet supported."),
            ({"task_offsets": [TaskOffset()]}, "TaskOffsets are not supported yet."),
            ({"task_end_offsets": []}, "TaskEndOffsets are not supported yet."),
            (
                {"warmup_tasks": [StreamsGroupHeartbeatRequestTaskIds()]},
                "WarmupTasks are not supported yet.",
            ),
            ({"rack_id": ""}, "RackId can't be empty."),
            ({"member_id": ""}, "MemberId can't be empty."),
            ({"member_epoch": -3}, "MemberEpoch is -3, but must be greater than or equal to -2."),
            ({"member_epoch": -2}, "InstanceId can't be null."),
            ({"rebalance_timeout_ms": -1}, "RebalanceTimeoutMs must be provided in first request."),
            ({"active_tasks": None}, "ActiveTasks must be empty when (re-)joining."),
            (
                {"standby_tasks": [StreamsGroupHeartbeatRequestTaskIds()]},
                "StandbyTasks must be empty when (re-)joining.",
            ),
            ({"topology": None}, "Topology must be non-null when (re-)joining."),
            ({"member_epoch": 1}, "Topology can only be provided when (re-)joining."),
            (
                {"member_epoch": 1, "topology": None, "active_tasks": None},
                "If one task-type is non-null, all must be non-null.",
            ),
        ],
    )
    def test_what_no_group_could_answer(
        self, app: Application, change: dict[str, object], reason: str
    ) -> None:
        answer = app.ask(**{**self.JOIN, **change})
        assert (answer.error_code, answer.error_message) == (ErrorCode.INVALID_REQUEST, reason)
        assert not app.coordinator.shard.groups and not app.coordinator.log

    def test_only_joining_makes_a_group(self, app: Application) -> None:
        assert app.ask(member_id="a", member_epoch=1).error_code == ErrorCode.GROUP_ID_NOT_FOUND

    def test_a_task_that_there_is_not(self, app: Application) -> None:
        player = Player(app, "a")
        settle(player)
        for task in (Task("0", 3), Task("2", 0)):
            player.owned = Tasks(active=frozenset([task]))
            assert player.beat().error_code == ErrorCode.INVALID_REQUEST

    def test_a_group_is_full(self) -> None:
        app = Application(group_streams_max_size=1)
        assert Player(app, "a").beat().error_code == ErrorCode.NONE
        assert Player(app, "b").beat().error_code == ErrorCode.GROUP_MAX_SIZE_REACHED
        assert Player(app, "a").beat().error_code == ErrorCode.NONE


class TestBeginning:
    def test_a_new_group_waits_for_topics_and_for_other_members(self, app: Application) -> None:
        player = Player(app, "a")
        answer = player.beat()
        assert (answer.member_id, answer.member_epoch, answer.heartbeat_interval_ms) == ("a", 1, HEARTBEAT_MS)
        assert told(answer) == NOTHING and answer.active_tasks == []
        assert status(player) == {StatusCode.ASSIGNMENT_DELAYED, StatusCode.MISSING_INTERNAL_TOPICS}
        (command,) = app.wanted
        assert [(topic.name, topic.partitions) for topic in command.topics] == [
            (CHANGELOG, 3),
            (REPARTITION, 3),
        ]
        assert app.group.state.value == "NotReady"

    def test_then_it_divides_the_tasks(self, app: Application) -> None:
        player = Player(app, "a")
        player.beat()
        app.make_wanted()
        app.coordinator.advance(HEARTBEAT_MS)
        player.beat()
        assert sorted(player.owned.active) == TASKS and status(player) == set()
        assert app.group.state.value == "Stable"
        assert any(isinstance(event, RebalanceCompleted) for event in app.coordinator.events)

    def test_all_who_join_in_time_share_from_the_start(self, app: Application) -> None:
        players = [Player(app, name) for name in "ab"]
        players[0].beat()
        app.make_wanted()
        app.coordinator.advance(DELAY_MS - 1)
        players[1].beat()
        app.coordinator.advance(HEARTBEAT_MS)
        for player in players:
            player.beat()
        assert [len(player.owned.active) for player in players] == [3, 3]
        assert all_active(players) == TASKS

    def test_without_a_delay_the_first_heartbeat_is_enough(self) -> None:
        app = Application(group_streams_initial_rebalance_delay_ms=0)
        player = Player(app, "a", topology=SIMPLE)
        player.beat()
        assert player.owned == Tasks(active=active("0", 0, 1, 2)) and player.statuses == []

    def test_missing_source_topics(self) -> None:
        app = Application(partitions=0)
        player = Player(app, "a")
        player.beat()
        assert status(player) == {StatusCode.ASSIGNMENT_DELAYED, StatusCode.MISSING_SOURCE_TOPICS}
        assert app.wanted == []
        app.coordinator.advance(HEARTBEAT_MS)
        player.beat()
        assert status(player) == {StatusCode.MISSING_SOURCE_TOPICS} and player.owned == NOTHING
        app.make(INPUT, 2)
        settle(player)
        assert len(player.owned.active) == 4

    def test_a_topology_without_numbers_is_refused_and_leaves_nothing(self, app: Application) -> None:
        loop = Subtopology(
            subtopology_id="0",
            repartition_source_topics=WORD_COUNT.subtopologies[1].repartition_source_topics,
            repartition_sink_topics=[REPARTITION],
        )
        answer = Player(app, "a", topology=Topology(subtopologies=[loop])).beat()
        assert answer.error_code == ErrorCode.STREAMS_INVALID_TOPOLOGY
        assert not app.coordinator.log and not app.coordinator.shard.groups


class TestTopology:
    def test_all_members_run_one_topology(self, app: Application) -> None:
        settle(Player(app, "a"))
        for other in (SIMPLE, replace(WORD_COUNT, epoch=1)):
            answer = Player(app, "b", topology=other).beat()
            assert answer.error_code == ErrorCode.INVALID_REQUEST
            assert answer.error_message == "Topology updates are not supported yet."

    def test_an_older_one_is_told_that_it_is(self) -> None:
        app = Application()
        settle(Player(app, "a", topology=replace(WORD_COUNT, epoch=2)))
        late = Player(app, "b")
        late.beat()
        assert StatusCode.STALE_TOPOLOGY in status(late)

    def test_a_topic_that_grows_divides_the_tasks_anew(self, app: Application) -> None:
        player = Player(app, "a", topology=SIMPLE)
        settle(player)
        app.coordinator.cluster.grow(INPUT, 5)
        app.coordinator.shard.topics_changed([INPUT])
        settle(player)
        assert player.owned == Tasks(active=active("0", 0, 1, 2, 3, 4))

    def test_a_topic_that_goes_takes_the_tasks_away(self, app: Application) -> None:
        player = Player(app, "a")
        settle(player)
        app.coordinator.cluster.delete(INPUT)
        app.coordinator.shard.topics_changed([INPUT])
        player.beat()
        app.coordinator.advance(HEARTBEAT_MS)
        player.beat()
        assert player.owned == NOTHING and status(player) == {StatusCode.MISSING_SOURCE_TOPICS}
        assert app.group.state.value == "NotReady"

    def test_other_topics_do_not_concern_it(self, app: Application) -> None:
        settle(Player(app, "a"))
        app.make("other", 1)
        assert not app.group.soft.topics_changed


class TestReconciliation:
    def test_a_task_is_given_up_before_another_gets_it(self, app: Application) -> None:
        first, second = Player(app, "a", lets_go=False), Player(app, "b")
        settle(first)
        app.coordinator.advance(INTERVAL_MS)
        second.beat()
        first.beat()
        assert app.group.members["a"].state is MemberState.UNREVOKED
        assert len(app.group.members["a"].revoking.active) == 3
        second.beat()
        assert second.owned == NOTHING
        assert app.group.members["b"].state is MemberState.UNRELEASED
        assert app.group.state.value == "Reconciling"
        first.lets_go = True
        first.reconcile()
        settle(first, second)
        assert all_active([first, second]) == TASKS and len(second.owned.active) == 3

    def test_whoever_need_not_move_is_not_disturbed(self, app: Application) -> None:
        players = [Player(app, name) for name in "ab"]
        settle(*players)
        before = players[0].owned
        players[1].leave()
        settle(players[0])
        assert before.active <= players[0].owned.active and all_active(players) == TASKS

    def test_two_assignments_lie_some_time_apart(self) -> None:
        app = Application(group_streams_assignment_interval_ms=10_000)
        first, second = Player(app, "a", topology=SIMPLE), Player(app, "b", topology=SIMPLE)
        settle(first)
        app.coordinator.advance(10_000)
        second.beat()
        second.leave()
        second.beat()
        assert status(second) == {StatusCode.ASSIGNMENT_DELAYED}
        app.coordinator.advance(10_000)
        second.beat()
        assert status(second) == set()

    def test_a_slow_member_is_removed(self, app: Application) -> None:
        first, second = Player(app, "a", lets_go=False), Player(app, "b")
        settle(first)
        app.coordinator.advance(INTERVAL_MS)
        second.beat()
        first.beat()
        for _ in range(REVOKE_MS // HEARTBEAT_MS + 1):
            app.coordinator.advance(HEARTBEAT_MS)
            second.beat()
            if "a" in app.group.members:
                first.beat()
        assert list(app.group.members) == ["b"]
        settle(second)
        assert all_active([second]) == TASKS

    def test_a_silent_member_is_removed(self, app: Application) -> None:
        settle(Player(app, "a"))
        app.coordinator.advance(SESSION_MS)
        assert app.group.members == {} and app.group.state.value == "Empty"

    def test_a_lost_answer_may_be_asked_for_again(self, app: Application) -> None:
        player = Player(app, "a")
        settle(player)
        epoch = player.epoch
        Player(app, "b").beat()
        app.coordinator.advance(INTERVAL_MS)
        player.beat()  # gives up a part
        player.beat()
        assert player.epoch > epoch
        player.epoch = epoch
        assert player.beat().error_code == ErrorCode.NONE
        player.epoch = epoch - 1
        assert player.beat().error_code == ErrorCode.FENCED_MEMBER_EPOCH

    def test_whoever_says_that_it_has_other_tasks_is_told_its_own(self, app: Application) -> None:
        """An answer that gave tasks may be lost, with or without a new epoch."""
        player = Player(app, "a")
        settle(player)
        tasks = player.owned
        player.owned = NOTHING
        assert told(player.beat()) == tasks
        assert player.beat().active_tasks is None
        assert app.ask(member_id="a", member_epoch=player.epoch).active_tasks is None

    def test_an_epoch_that_was_never_given_is_fenced(self, app: Application) -> None:
        player = Player(app, "a")
        settle(player)
        player.epoch += 1
        assert player.beat().error_code == ErrorCode.FENCED_MEMBER_EPOCH

    def test_whoever_joins_again_is_told_its_tasks_again(self, app: Application) -> None:
        player = Player(app, "a")
        settle(player)
        before = player.owned
        player.forget()
        assert told(player.beat()) == before


class TestStandby:
    def test_copies_are_kept_when_the_group_is_told_to(self, app: Application) -> None:
        players = [Player(app, name) for name in "ab"]
        settle(*players)
        assert not any(player.owned.standby for player in players)
        app.coordinator.cluster.overrides["streams.num.standby.replicas"] = "1"
        settle(*players)
        assert sorted(task for player in players for task in player.owned.standby) == sorted(
            active("1", 0, 1, 2)
        )
        for player in players:
            assert not player.owned.active & player.owned.standby

    def test_a_copy_takes_over(self) -> None:
        app = Application(group_streams_num_standby_replicas=1)
        players = [Player(app, name) for name in "ab"]
        settle(*players)
        kept = players[0].owned.standby
        players[1].leave()
        settle(players[0])
        assert kept <= players[0].owned.active and players[0].owned.standby == frozenset()

    def test_a_process_has_a_task_once(self, app: Application) -> None:
        """A thread gets a task only when the other thread of its process has let go of it."""
        old = Player(app, "old", process="p", lets_go=False)
        settle(old)
        new = Player(app, "new", process="p")
        app.coordinator.advance(INTERVAL_MS)
        new.beat()
        old.beat()
        new.beat()
        assert new.owned == NOTHING


class TestLeaving:
    def test_a_member_says_that_it_leaves(self, app: Application) -> None:
        player = Player(app, "a")
        settle(player)
        answer = player.leave()
        assert (answer.error_code, answer.member_id, answer.member_epoch) == (0, "a", -1)
        assert app.group.is_empty
        assert player.leave().error_code == ErrorCode.UNKNOWN_MEMBER_ID

    def test_one_member_can_end_the_whole_application(self, app: Application) -> None:
        players = [Player(app, name) for name in "abc"]
        settle(*players)
        players[0].beat(shutdown_application=True)
        assert StatusCode.SHUTDOWN_APPLICATION in status(players[0])
        players[1].leave(shutdown_application=True)
        answer = players[2].beat()
        assert isinstance((answer.status or [])[0], Status)
        assert "Streams group member a encountered" in (answer.status or [])[-1].status_detail
        players[2].leave()
        players[0].leave()
        late = Player(app, "d")
        late.beat()
        assert StatusCode.SHUTDOWN_APPLICATION not in status(late)


class TestEndpoints:
    def test_members_know_where_the_state_is(self, app: Application) -> None:
        here = StreamsGroupHeartbeatRequestEndpoint(host="here", port=1)
        with_one, without = Player(app, "a", endpoint=here), Player(app, "b")
        settle(with_one, without)
        without.endpoint_epoch = -1
        answer = without.beat()
        assert answer.partitions_by_user_endpoint is not None
        (endpoint,) = answer.partitions_by_user_endpoint
        assert (endpoint.user_endpoint.host, endpoint.user_endpoint.port) == ("here", 1)
        found = {(one.topic, number) for one in endpoint.active_partitions for number in one.partitions}
        names = {"0": INPUT, "1": REPARTITION}
        assert found == {(names[task.subtopology], task.partition) for task in with_one.owned.active}
        assert without.beat().partitions_by_user_endpoint is None


class TestOffsets:
    def codes(self, app: Application, player: Player, epoch: int, *partitions: int) -> set[int]:
        return {
            app.coordinator.commit(
                1, member_id=player.member_id, generation=epoch, topic=INPUT, partition=partition
            )
            for partition in partitions
        }

    def test_offsets_are_taken_for_tasks_that_a_member_runs_since_then(self, app: Application) -> None:
        player = Player(app, "a", topology=SIMPLE)
        settle(player)
        given, other = player.epoch, Player(app, "b", topology=SIMPLE)
        assert self.codes(app, player, given, 0) == {ErrorCode.NONE}
        assert self.codes(app, player, given + 1, 0) == {ErrorCode.STALE_MEMBER_EPOCH}
        assert self.codes(app, player, given - 1, 0) == {ErrorCode.STALE_MEMBER_EPOCH}
        assert self.codes(app, Player(app, "?"), given, 0) == {ErrorCode.UNKNOWN_MEMBER_ID}
        old = app.coordinator.commit(1, member_id="a", generation=given, topic=INPUT, version=8)
        assert old == ErrorCode.UNSUPPORTED_VERSION
        settle(player, other)
        assert player.epoch > given
        kept = [task.partition for task in player.owned.active]
        lost = [task.partition for task in other.owned.active]
        assert self.codes(app, player, given, *kept) == {ErrorCode.NONE}
        assert self.codes(app, player, given, *lost) == {ErrorCode.STALE_MEMBER_EPOCH}

    def test_they_outlive_the_members_until_their_retention_ends(self, app: Application) -> None:
        player = Player(app, "a", topology=SIMPLE)
        settle(player)
        self.codes(app, player, player.epoch, 0)
        assert app.group.retention_began_ms(INPUT, 7) is None
        player.leave()
        assert app.group.retention_began_ms(INPUT, 7) == 7
        app.coordinator.advance(8 * 24 * 60 * MINUTE_MS)
        assert GROUP not in app.coordinator.shard.groups


class TestOtherKinds:
    def test_an_empty_classic_group_gives_way_and_its_offsets_stay(self) -> None:
        app = Application()
        app.coordinator.commit(5, topic=INPUT)
        assert isinstance(app.coordinator.shard.groups[GROUP], ClassicGroup)
        settle(Player(app, "a"))
        assert app.group.group_type == "streams"
        assert app.coordinator.shard.offsets.of(GROUP)

    def test_a_group_with_members_of_another_kind_is_not_a_streams_group(self, app: Application) -> None:
        app.make("topic", 1)
        assert Consumer(app.coordinator, "c").beat().error_code == ErrorCode.NONE
        answer = Player(app, "a").beat()
        assert answer.error_code == ErrorCode.GROUP_ID_NOT_FOUND
        assert "is not a streams group" in (answer.error_message or "")

    def test_others_cannot_join_a_streams_group(self, app: Application) -> None:
        settle(Player(app, "a"))
        assert Consumer(app.coordinator, "c").beat().error_code == ErrorCode.GROUP_ID_NOT_FOUND
        waiter = app.coordinator.join()
        assert waiter.code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL

    def test_an_empty_one_gives_way_to_a_classic_group(self, app: Application) -> None:
        player = Player(app, "a")
        settle(player)
        player.leave()
        assert app.coordinator.join().code == ErrorCode.MEMBER_ID_REQUIRED
        assert isinstance(app.coordinator.shard.groups[GROUP], ClassicGroup)
        app.coordinator.crash()
        assert GROUP not in app.coordinator.shard.groups


class TestRecovery:
    def test_a_group_survives_its_coordinator(self, app: Application) -> None:
        app.coordinator.cluster.overrides["streams.num.standby.replicas"] = "1"
        players = [Player(app, name) for name in "ab"]
        settle(*players)
        before = app.describe()
        app.coordinator.crash()
        settle(*players)
        assert app.describe() == before

    def test_members_get_a_whole_session_to_show_that_they_live(self, app: Application) -> None:
        settle(Player(app, "a"))
        app.coordinator.crash()
        app.coordinator.advance(SESSION_MS - 1)
        assert not app.group.is_empty
        app.coordinator.advance(1)
        assert app.group.is_empty

    def test_deleting_leaves_nothing(self, app: Application) -> None:
        player = Player(app, "a")
        settle(player)
        assert app.coordinator.delete() == ErrorCode.NON_EMPTY_GROUP
        player.leave()
        assert app.coordinator.delete() == ErrorCode.NONE
        left = dict(app.coordinator.log)
        assert not any(left.values()) and GROUP not in app.coordinator.shard.groups


class TestDescription:
    def test_a_group_as_an_operator_sees_it(self, app: Application) -> None:
        players = [Player(app, name, process="p") for name in "ab"]
        settle(*players)
        group = app.describe()
        assert (group.group_state, group.group_epoch) == ("Stable", group.assignment_epoch)
        assert group.topology is not None and group.topology.subtopologies is not None
        assert [one.subtopology_id for one in group.topology.subtopologies] == ["0", "1"]
        assert group.topology.subtopologies[1].state_changelog_topics[0].partitions == 3
        member = next(one for one in group.members if one.member_id == "a")
        assert (member.process_id, member.client_id, member.client_host) == ("p", "client", "/127.0.0.1")
        assert member.assignment == member.target_assignment
        assert {one.subtopology_id for one in member.assignment.active_tasks} <= {"0", "1"}

    def test_before_it_is_ready_the_topology_is_as_it_was_said(self, app: Application) -> None:
        Player(app, "a").beat()
        group = app.describe()
        assert group.group_state == "NotReady" and group.topology is not None
        assert (group.topology.subtopologies or [])[1].state_changelog_topics[0].partitions == 0

    def test_groups_that_are_not_there(self, app: Application) -> None:
        assert app.describe().error_code == ErrorCode.GROUP_ID_NOT_FOUND

    def test_it_is_listed_under_its_kind(self, app: Application) -> None:
        settle(Player(app, "a"))
        (listed,) = app.coordinator.shard.list(set(), {"streams"})
        assert (listed.group_type, listed.protocol_type, listed.group_state) == (
            "streams",
            "streams",
            "Stable",
        )
        assert app.coordinator.shard.list(set(), {"consumer"}) == []

    def test_rebalances_are_counted_with_their_reasons(self, app: Application) -> None:
        settle(Player(app, "a"))
        reasons = [
            event.reason.value for event in app.coordinator.events if isinstance(event, RebalanceStarted)
        ]
        assert reasons[:2] == ["member_joined", "topics_changed"]
